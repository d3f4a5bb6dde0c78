"""What a daemon says of its samples, checked."""

import re
from collections.abc import Iterable

from crow.cctv.v1 import ingest_pb2 as pb
from crow_receiver.store.ledger import MINUTE_US, LedgerMinute
from crow_shared.errors import CrowError, Kind
from crow_shared.identity import checked_id

MAX_MINUTES = 1000
MAX_REASONS = 32
MAX_TIME_US = 2**62
_WORD = re.compile(r"[a-z][a-z0-9_]{0,39}")


def checked_minutes(ledger: pb.SampleLedger) -> dict[str, list[LedgerMinute]]:
    """The minutes by camera id. Raises CrowError(INVALID) for what no daemon of ours says."""
    if len(ledger.minutes) > MAX_MINUTES:
        raise _broken(f"{len(ledger.minutes)} minutes in one message; {MAX_MINUTES} are the most")
    by_camera: dict[str, list[LedgerMinute]] = {}
    for minute in ledger.minutes:
        by_camera.setdefault(checked_id(minute.camera_id, "camera id"), []).append(_checked(minute))
    return by_camera


def kept(ledger: pb.SampleLedger) -> pb.LedgerAck:
    """The answer, once they are on disk."""
    marks = [
        pb.LedgerMark(camera_id=minute.camera_id, minute_us=minute.minute_us, revision=minute.revision)
        for minute in ledger.minutes
    ]
    return pb.LedgerAck(minutes=marks)


def _checked(minute: pb.LedgerMinute) -> LedgerMinute:
    gated, dropped = _counts(minute.gated), _counts(minute.dropped)
    if minute.minute_us % MINUTE_US or abs(minute.minute_us) > MAX_TIME_US or minute.revision >= 2**63:
        raise _broken(f"a minute that begins at {minute.minute_us}, revision {minute.revision}")
    if minute.expected != minute.sent + sum(gated.values()) + sum(dropped.values()):
        raise _broken(f"{minute.expected} samples expected, which is not what became of them")
    if len(minute.alerts) > MAX_REASONS or not all(map(_WORD.fullmatch, minute.alerts)):
        raise _broken("alerts that are no words")
    numbers = (minute.minute_us, minute.revision, minute.expected, minute.sent)
    return LedgerMinute(*numbers, gated, dropped, sorted(minute.alerts))


def _counts(counts: Iterable[pb.SampleCount]) -> dict[str, int]:
    by_reason = {count.reason: count.samples for count in counts}
    if len(by_reason) > MAX_REASONS or not all(map(_WORD.fullmatch, by_reason)):
        raise _broken("reasons that are no words")
    return by_reason


def _broken(what: str) -> CrowError:
    return CrowError(Kind.INVALID, "bad_ledger", f"the daemon's sample ledger is not understood: {what}")
