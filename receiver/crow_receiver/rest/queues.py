"""Queues over HTTP: pull, acknowledge, give back, look at depths.

For consumer services and operators, who are trusted by the internal key: a queue carries all tenants' messages, so no
organization is named. The handlers are plain functions, since the queue blocks: they run in the framework's threads.
"""

import json
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import Field

from crow_receiver.queue.port import (
    DEFAULT_LEASE_S,
    DEFAULT_RETRY_DELAY_S,
    MAX_LEASE_S,
    MAX_PULL,
    OutputQueue,
)
from crow_receiver.rest.errors import Problem
from crow_receiver.rest.model import JsonModel

LeaseIds = Annotated[list[Annotated[str, Field(max_length=64)]], Field(min_length=1, max_length=MAX_PULL)]


class PullRequest(JsonModel):
    """How many messages to lease, and for how long."""

    max_messages: int = Field(default=10, ge=1, le=MAX_PULL)
    lease_seconds: float = Field(default=DEFAULT_LEASE_S, ge=1, le=MAX_LEASE_S)


class PulledMessage(JsonModel):
    """One message under a lease; `body` is as on the queue, `enqueuedAt` in milliseconds since the Unix epoch."""

    message_id: str
    lease_id: str
    attempt: int
    enqueued_at: int
    headers: dict[str, str]
    body: Any


class Pulled(JsonModel):
    """The messages, oldest first; none when there is nothing to do."""

    messages: list[PulledMessage]


class AckRequest(JsonModel):
    """The leases of the messages that have been dealt with."""

    lease_ids: LeaseIds


class Acked(JsonModel):
    """`refused` are leases that had ended: their messages come again."""

    acked: int
    refused: list[str]


class RetryRequest(JsonModel):
    """The leases of messages to be handed out again after a delay, with the reason."""

    lease_ids: LeaseIds
    delay_seconds: float = Field(default=DEFAULT_RETRY_DELAY_S, ge=0, le=MAX_LEASE_S)
    error: str = Field(default="given back by the consumer", max_length=500)


class Retried(JsonModel):
    """`dead` counts the messages that had no delivery left."""

    retried: int
    dead: int
    refused: list[str]


class QueueDepth(JsonModel):
    """How many messages a queue holds, by state."""

    queue: str
    ready: int
    leased: int
    delayed: int
    dead: int
    oldest_age_seconds: float | None


class Depths(JsonModel):
    """All queues."""

    queues: list[QueueDepth]


def queue_routes(queue: OutputQueue) -> APIRouter:
    """The routes."""
    router = APIRouter(prefix="/queues", tags=["queues"], responses={404: {"model": Problem}})

    @router.get("")
    def depths() -> Depths:
        """How full each queue is."""
        return Depths(
            queues=[
                QueueDepth(
                    queue=depth.queue,
                    ready=depth.ready,
                    leased=depth.leased,
                    delayed=depth.delayed,
                    dead=depth.dead,
                    oldest_age_seconds=depth.oldest_age_s,
                )
                for depth in queue.depths()
            ]
        )

    @router.post("/{name}/messages:pull")
    def pull(name: str, wanted: PullRequest) -> Pulled:
        """Leases messages. One that is not acknowledged before its lease ends is handed out again."""
        deliveries = queue.pull(name, wanted.max_messages, wanted.lease_seconds)
        return Pulled(
            messages=[
                PulledMessage(
                    message_id=delivery.message_id,
                    lease_id=delivery.lease_id,
                    attempt=delivery.attempt,
                    enqueued_at=delivery.enqueued_us // 1000,
                    headers=dict(delivery.headers),
                    body=json.loads(delivery.body),
                )
                for delivery in deliveries
            ]
        )

    @router.post("/{name}/messages:ack")
    def ack(name: str, wanted: AckRequest) -> Acked:
        """Lets go of messages for good."""
        settlement = queue.ack(name, wanted.lease_ids)
        return Acked(acked=settlement.settled, refused=list(settlement.refused))

    @router.post("/{name}/messages:retry")
    def retry(name: str, wanted: RetryRequest) -> Retried:
        """Gives messages back."""
        settlement = queue.retry(name, wanted.lease_ids, wanted.delay_seconds, wanted.error)
        return Retried(retried=settlement.settled, dead=settlement.dead, refused=list(settlement.refused))

    return router
