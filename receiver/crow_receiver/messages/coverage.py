"""What a message says of the samples behind it: how many were due, and what became of them before a frame came here."""

from collections import Counter
from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from crow_receiver.messages.body import Body, Count, TimestampMs
from crow_receiver.store.ledger import LedgerSums

MAX_REASONS = 32
MAX_ALERTS = 16
OTHER = "other"  # reasons beyond MAX_REASONS, together

Word = Annotated[str, Field(pattern="^[a-z][a-z0-9_]{0,39}$")]


class Coverage(Body):
    """The samples of the minutes that a message touches: expected = sent + all gated + all dropped.

    `minutes` are those minutes, `known_minutes` the ones of which the camera's daemon has told by `as_of` (this
    receiver's clock); the sums are over these. `known` says whether they are all.
    """

    known: bool
    minutes: Count
    known_minutes: Count
    as_of: TimestampMs
    expected: Count
    sent: Count
    gated: Annotated[dict[Word, Count], Field(max_length=MAX_REASONS)]
    dropped: Annotated[dict[Word, Count], Field(max_length=MAX_REASONS)]
    alerts: Annotated[list[Word], Field(max_length=MAX_ALERTS)]

    @classmethod
    def of(cls, sums: LedgerSums, minutes: int, as_of_us: int) -> "Coverage":
        """Of so many minutes, of which `sums` has what is known."""
        return cls(
            known=sums.minutes == minutes,
            minutes=minutes,
            known_minutes=sums.minutes,
            as_of=max(0, as_of_us // 1000),
            expected=sums.expected,
            sent=sums.sent,
            gated=_bounded(sums.gated),
            dropped=_bounded(sums.dropped),
            alerts=sorted(sums.alerts)[:MAX_ALERTS],
        )


def _bounded(by_reason: Mapping[str, int]) -> dict[str, int]:
    """The largest first, the same order among equals; those that find no room are one."""
    ordered = sorted(by_reason.items(), key=lambda item: (-item[1], item[0]))
    if len(ordered) <= MAX_REASONS:
        return dict(ordered)
    kept = Counter(dict(ordered[: MAX_REASONS - 1]))
    kept[OTHER] += sum(samples for _, samples in ordered[MAX_REASONS - 1 :])
    return dict(kept)


_LONGEST_WORDS = {f"a{number:039}": 10**15 for number in range(MAX_REASONS)}
# As long as one can be, where room is reckoned before it is known.
LARGEST = Coverage.of(
    LedgerSums(
        10**6, 10**15, 10**15, Counter(_LONGEST_WORDS), Counter(_LONGEST_WORDS), set(list(_LONGEST_WORDS)[:MAX_ALERTS])
    ),
    10**7,
    10**18,
)
