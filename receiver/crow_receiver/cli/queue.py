"""`crow-receiver queue`: what consumers do, by hand."""

import json
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import click

from crow_receiver.cli.table import echo_table
from crow_receiver.queue.port import (
    DEFAULT_LEASE_S,
    DEFAULT_RETRY_DELAY_S,
    MAX_LEASE_S,
    MAX_PULL,
    QUEUE_NAMES,
    Delivery,
    OutputQueue,
    StoredMessage,
)
from crow_shared.cli import iso
from crow_shared.errors import CrowError, Kind

Command = TypeVar("Command", bound=Callable[..., Any])
_SUMMARY_CHARS = 100  # of a body in a table


class QueueSource(Protocol):
    """What the context object of the command has to offer."""

    def queue(self) -> OutputQueue:
        """The queues of this receiver. The context closes them."""
        ...


@click.group()
def queue() -> None:
    """Look at the output queues, and consume from them by hand."""


def _queue_argument(command: Command) -> Command:
    return click.argument("name", metavar="QUEUE", type=click.Choice(QUEUE_NAMES))(command)


def _json_option(command: Command) -> Command:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, with whole bodies.")(command)


def _limit_option(command: Command) -> Command:
    bounds = click.IntRange(1, MAX_PULL)
    return click.option("--limit", type=bounds, default=10, show_default=True, help="Messages at most.")(command)


@queue.command()
@_json_option
@click.pass_obj
def depths(source: QueueSource, as_json: bool) -> None:
    """Show how many messages wait, are leased, delayed or dead."""
    rows = [
        {
            "queue": depth.queue,
            "ready": depth.ready,
            "leased": depth.leased,
            "delayed": depth.delayed,
            "dead": depth.dead,
            "oldestAgeSeconds": depth.oldest_age_s,
        }
        for depth in source.queue().depths()
    ]
    _show(rows, as_json)


@queue.command()
@_queue_argument
@_limit_option
@_json_option
@click.pass_obj
def peek(source: QueueSource, name: str, limit: int, as_json: bool) -> None:
    """Show the oldest messages without leasing them."""
    _show([_stored(message) for message in source.queue().peek(name, limit)], as_json)


@queue.command()
@_queue_argument
@_limit_option
@_json_option
@click.pass_obj
def dead(source: QueueSource, name: str, limit: int, as_json: bool) -> None:
    """Show the messages that ran out of deliveries, and why."""
    _show([_stored(message) for message in source.queue().dead(name, limit)], as_json)


@queue.command()
@_queue_argument
@_limit_option
@click.option(
    "--lease",
    "lease_s",
    type=click.FloatRange(1, MAX_LEASE_S),
    default=DEFAULT_LEASE_S,
    show_default=True,
    help="Seconds after which messages that were not acknowledged are handed out again.",
)
@_json_option
@click.pass_obj
def pull(source: QueueSource, name: str, limit: int, lease_s: float, as_json: bool) -> None:
    """Lease messages. Acknowledge them with `ack`, or give them back with `retry`."""
    _show([_delivery(delivery) for delivery in source.queue().pull(name, limit, lease_s)], as_json)


@queue.command()
@_queue_argument
@click.argument("lease_ids", metavar="LEASE_ID...", nargs=-1, required=True)
@_json_option
@click.pass_obj
def ack(source: QueueSource, name: str, lease_ids: tuple[str, ...], as_json: bool) -> None:
    """Let go of leased messages for good."""
    settlement = source.queue().ack(name, lease_ids)
    _show([{"acked": settlement.settled, "refused": len(settlement.refused)}], as_json)
    _fail_for_refused(settlement.refused)


@queue.command()
@_queue_argument
@click.argument("lease_ids", metavar="LEASE_ID...", nargs=-1, required=True)
@click.option(
    "--delay",
    "delay_s",
    type=click.FloatRange(0, MAX_LEASE_S),
    default=DEFAULT_RETRY_DELAY_S,
    show_default=True,
    help="Seconds until they are handed out again.",
)
@click.option("--error", default="given back by hand", show_default=True, help="The reason, kept with the message.")
@_json_option
@click.pass_obj
def retry(
    source: QueueSource, name: str, lease_ids: tuple[str, ...], delay_s: float, error: str, as_json: bool
) -> None:
    """Give leased messages back."""
    settlement = source.queue().retry(name, lease_ids, delay_s, error)
    _show(
        [{"retried": settlement.settled, "dead": settlement.dead, "refused": len(settlement.refused)}],
        as_json,
    )
    _fail_for_refused(settlement.refused)


@queue.command()
@_queue_argument
@click.argument("message_ids", metavar="[MESSAGE_ID]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Replay all dead letters of the queue.")
@_json_option
@click.pass_obj
def replay(source: QueueSource, name: str, message_ids: tuple[str, ...], everything: bool, as_json: bool) -> None:
    """Put dead letters back on their queue with all their deliveries."""
    if everything == bool(message_ids):
        raise click.UsageError("name the messages, or say --all")
    count = source.queue().replay(name, None if everything else message_ids)
    _show([{"replayed": count}], as_json)
    missing = len(set(message_ids)) - count
    if message_ids and missing:
        raise CrowError(Kind.NOT_FOUND, "not_dead", f"{missing} of the messages are no dead letters of {name}")


def _fail_for_refused(lease_ids: Sequence[str]) -> None:
    if lease_ids:
        ended = ", ".join(lease_ids)
        raise CrowError(
            Kind.CONFLICT, "lease_ended", f"no such lease now; if it ended, its message comes again: {ended}"
        )


def _stored(message: StoredMessage) -> dict[str, Any]:
    return {
        "messageId": message.message_id,
        "state": message.state,
        "attempts": message.attempts,
        "enqueuedAt": iso(message.enqueued_us),
        "error": message.error,
        "headers": dict(message.headers),
        "body": json.loads(message.body),
    }


def _delivery(delivery: Delivery) -> dict[str, Any]:
    return {
        "messageId": delivery.message_id,
        "leaseId": delivery.lease_id,
        "attempt": delivery.attempt,
        "enqueuedAt": iso(delivery.enqueued_us),
        "headers": dict(delivery.headers),
        "body": json.loads(delivery.body),
    }


def _show(rows: list[dict[str, Any]], as_json: bool) -> None:
    """Prints rows as JSON, or as a table in which headers are left out and bodies are summed up."""
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    if not rows:
        click.echo("nothing there")
        return
    columns = [column for column in rows[0] if column != "headers"]
    echo_table(columns, [[_cell(row[column]) for column in columns] for row in rows])


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.1f}"
    return _summary(value) if isinstance(value, dict) else str(value)


def _summary(body: dict[str, Any]) -> str:
    """What a message says, in some words: how much, and the last sentence or the people of it."""
    match body:
        case {"frameAnalyses": [*frames, {"description": last}]}:
            text = f"{len(frames) + 1} frames: … {last}"
        case {"kind": kind, "frames": {"analysed": analysed}, "people": {"mean": mean, "max": most}}:
            text = f"{kind}, {analysed} frames: {mean} people on average, {most} at most"
        case _:
            text = json.dumps(body, ensure_ascii=False)
    return text if len(text) <= _SUMMARY_CHARS else text[: _SUMMARY_CHARS - 1] + "…"
