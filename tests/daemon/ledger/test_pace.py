"""Which samples of a live camera are overdue."""

from hypothesis import given
from hypothesis import strategies as st

from crow_daemon.ledger.pace import Pace


@given(st.floats(0, 5), st.lists(st.floats(-0.4, 0.4), min_size=1, max_size=100))
def test_jitter_is_not_taken_for_a_hole(first_s: float, jitter: list[float]) -> None:
    pace = Pace(1.0, 0.0)
    assert pace.sample(first_s, may_be_late=False) == int(first_s)
    base = [first_s + number + 1 for number in range(len(jitter))]
    assert sum(pace.sample(at_s + shift, may_be_late=False) for at_s, shift in zip(base, jitter, strict=True)) == 0


@given(st.floats(0.1, 60), st.lists(st.floats(0.01, 500), max_size=30))
def test_what_is_overdue_is_the_time_times_the_rate_however_often_one_looks(
    interval_s: float, looks: list[float]
) -> None:
    pace, now_s, given_up = Pace(interval_s, 0.0), 0.0, 0
    for step_s in looks:
        now_s += step_s
        given_up += pace.overdue(now_s)
    assert given_up == int(now_s / interval_s)


def test_what_comes_faster_than_it_is_due_hides_no_later_loss() -> None:
    pace = Pace(1.0, 0.0)
    for number in range(1000):
        assert pace.sample(0.99 * number, may_be_late=False) == 0
    assert pace.sample(0.99 * 999 + 6, may_be_late=False) == 5
