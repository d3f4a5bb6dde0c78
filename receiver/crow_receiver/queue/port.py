"""What an output queue promises, whatever runs it.

At least once: a message is handed out again until it is acknowledged within its lease. One that has run out of
deliveries is set aside as dead, with the reason. Publishing is idempotent by message id.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from crow_shared.errors import CrowError, Kind

INTERACTION_QUEUE = "crow-interaction-queue"
PATTERN_QUEUE = "crow-pattern-queue"
QUEUE_NAMES = (INTERACTION_QUEUE, PATTERN_QUEUE)

# Cloudflare Queues takes "128 KB" a message and counts some of it for itself; 128,000 is below every reading of that.
MAX_MESSAGE_BYTES = 128_000
MAX_PULL = 100
MAX_LEASE_S = 12 * 3600  # also the longest delay of a retry
REMEMBERED_US = 7 * 24 * 3600 * 1_000_000  # so long after its acknowledgement a message is known as taken
DEFAULT_LEASE_S = 30
DEFAULT_RETRY_DELAY_S = 60


def checked_queue(name: str) -> str:
    """Returns `name` when it is one of the two queues. Raises CrowError(NOT_FOUND) otherwise."""
    if name not in QUEUE_NAMES:
        known = " and ".join(QUEUE_NAMES)
        raise CrowError(Kind.NOT_FOUND, "queue_unknown", f"there is no queue {name[:80]!r}; there are {known}")
    return name


@dataclass(frozen=True, slots=True)
class Message:
    """One message to publish: a JSON body of at most MAX_MESSAGE_BYTES, and headers beside it."""

    queue: str
    message_id: str
    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message handed out under a lease; `attempt` counts from 1."""

    message_id: str
    lease_id: str
    attempt: int
    body: bytes
    headers: Mapping[str, str]
    enqueued_us: int


class MessageState(StrEnum):
    """Where a message of a queue stands."""

    READY = "ready"
    LEASED = "leased"
    DELAYED = "delayed"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """One message as it lies in the queue; `error` is the last reason that a consumer or a lease's end gave."""

    message_id: str
    state: MessageState
    attempts: int
    enqueued_us: int
    error: str | None
    body: bytes
    headers: Mapping[str, str]


class Whereabouts(StrEnum):
    """Where a message is that was published once."""

    WAITING = "waiting"  # ready, leased or delayed
    DEAD = "dead"
    TAKEN = "taken"  # a consumer acknowledged it


@dataclass(frozen=True, slots=True)
class Trace:
    """Where a message is; `body` is None once it was taken."""

    whereabouts: Whereabouts
    body: bytes | None


class Rewriting(StrEnum):
    """What came of rewriting a message."""

    UNSEEN = "unseen"  # it was there, and nobody had it before
    SEEN = "seen"  # a consumer had it, or has it now
    ABSENT = "absent"  # it was never published, or taken longer ago than REMEMBERED_US


@dataclass(frozen=True, slots=True)
class Settlement:
    """What became of a list of leases.

    `refused` are the leases that had ended, or never were of this queue: their messages are handed out again. `dead`
    counts those of a retry that had no delivery left.
    """

    settled: int
    refused: tuple[str, ...]
    dead: int = 0


@dataclass(frozen=True, slots=True)
class Depth:
    """How many messages a queue holds, by state; `oldest_age_s` is that of the oldest which is not dead."""

    queue: str
    ready: int
    leased: int
    delayed: int
    dead: int
    oldest_age_s: float | None


class OutputQueue(Protocol):
    """The queues. Calls block on the disk: an event loop runs them in a thread.

    Every method raises CrowError(NOT_FOUND) for an unknown queue and CrowError(UNAVAILABLE) when the store cannot be
    reached now.
    """

    def publish_many(self, messages: Sequence[Message]) -> list[bool]:
        """Stores all of the messages durably, or none.

        False stands for a message whose id was there already, though it may have been acknowledged since. Raises
        CrowError(TOO_LARGE) for a body over MAX_MESSAGE_BYTES, CrowError(EXHAUSTED) when the store is full.
        """
        ...

    def pull(self, queue: str, max_messages: int, lease_s: float) -> list[Delivery]:
        """Leases up to `max_messages` (1 to MAX_PULL), oldest first, for `lease_s` (over 0, up to MAX_LEASE_S)."""
        ...

    def ack(self, queue: str, lease_ids: Sequence[str]) -> Settlement:
        """Lets go of the messages for good."""
        ...

    def retry(self, queue: str, lease_ids: Sequence[str], delay_s: float, error: str) -> Settlement:
        """Gives the messages back, to be handed out again after `delay_s` (0 to MAX_LEASE_S)."""
        ...

    def peek(self, queue: str, limit: int) -> list[StoredMessage]:
        """The oldest messages that are not dead, without leasing them."""
        ...

    def dead(self, queue: str, limit: int) -> list[StoredMessage]:
        """The dead letters, the oldest first."""
        ...

    def replay(self, queue: str, message_ids: Sequence[str] | None = None) -> int:
        """Makes dead letters (None: all of them) ready again with all their deliveries; returns how many."""
        ...

    def trace(self, queue: str, message_ids: Sequence[str]) -> dict[str, Trace]:
        """Where these messages are. One that was never published is left out, or taken over REMEMBERED_US ago."""
        ...

    def rewrite(
        self, queue: str, message_ids: Sequence[str], change: Callable[[str, bytes], bytes | None]
    ) -> dict[str, Rewriting]:
        """Gives waiting and dead messages the body that `change` makes of id and body, None: takes the message away.

        Of the old bodies nothing is left on return. Leases go on. Raises CrowError(UNAVAILABLE) when that is impossible
        now; some may be rewritten then.
        """
        ...

    def depths(self) -> list[Depth]:
        """How full each queue is."""
        ...
