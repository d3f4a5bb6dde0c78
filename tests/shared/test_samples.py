"""How much of what was due was seen."""

from crow_daemon.capture.outcome import Dropped
from crow_daemon.gate.gate import GateReason
from crow_shared.samples import DEGRADED, NOTHING_TO_SEE, seen_percent


def test_a_sample_of_a_covered_camera_was_not_seen_though_the_gate_held_it_back() -> None:
    assert seen_percent(10, 2, {"no_activity": 3, "covered": 5}) == 50
    assert seen_percent(0, 0, {}) is None


def test_both_ends_use_the_daemons_words() -> None:
    assert Dropped(DEGRADED) is Dropped.DEGRADED
    assert {GateReason(word) for word in NOTHING_TO_SEE} == {GateReason.BLACK, GateReason.FROZEN, GateReason.COVERED}
