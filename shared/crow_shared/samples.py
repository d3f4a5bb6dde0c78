"""What daemon and receiver both have to know of the words for what becomes of samples."""

from collections.abc import Mapping

DEGRADED = "degraded"  # dropped, since the receiver asked for a longer interval
NOTHING_TO_SEE = frozenset({"black", "frozen", "covered"})  # gated, since the picture showed nothing of use


def seen_percent(expected: int, sent: int, gated: Mapping[str, int]) -> float | None:
    """Of a hundred samples, how many were sent, or seen and not worth sending; None when none was expected."""
    if not expected:
        return None
    seen = sent + sum(samples for reason, samples in gated.items() if reason not in NOTHING_TO_SEE)
    return round(100 * seen / expected, 2)
