"""How many samples of a live camera are due, and which are overdue, by the monotonic clock. Pure: time is passed in."""


class Pace:
    """Samples come at one phase of the interval, give or take some jitter.

    The first one sets the phase; from then on a sample may be half an interval early or late without being taken for a
    hole.

    Invariants
    1. What was settled, as taken or as given up, is the time times the rate, as long as samples come no faster.
    2. A sample that comes when none is due stands for one that was given up, so that it is not settled twice. Unless it
       was held up on its way, it sets the phase anew: a stream's first sample comes late, and what is lost later shows.
    """

    def __init__(self, interval_s: float, now_s: float) -> None:
        """The camera was enabled now."""
        self.interval_s = interval_s
        self._anchor_s = now_s
        self._settled = 0  # samples taken or given up since the anchor
        self._phased = False

    def sample(self, now_s: float, *, may_be_late: bool, held_up: bool = False) -> int:
        """A sample has come; returns how many before it are missing, and takes them as given up.

        -1: none was due, so it is one of those that were given up. Only where it `may_be_late`. One that was `held_up`
        on its way sets no phase: `now_s` is then when it should have come.
        """
        missing = self._slot(now_s) - self._settled
        is_late = missing < 0 and may_be_late
        if not self._phased or (missing < 0 and not (is_late and held_up)):
            self._phased, self._anchor_s = True, now_s
            self._settled = -missing if is_late else 1
        elif missing >= 0:
            self._settled += missing + 1
        return -1 if is_late else max(0, missing)

    def is_settled(self, at_s: float) -> bool:
        """Whether the sample that was due then was taken or given up."""
        return self._slot(at_s) < self._settled

    def overdue(self, now_s: float) -> int:
        """No sample is coming for now; returns how many are missing by now and takes them as given up."""
        missing = max(0, self._slot(now_s) - self._settled)
        self._settled += missing
        return missing

    @property
    def next_due_s(self) -> float:
        """When the first sample was due, or will be, that has neither been taken nor given up."""
        return self._anchor_s + self._settled * self.interval_s

    def _slot(self, now_s: float) -> int:
        """How many samples were due since the anchor before one that comes now."""
        elapsed = (now_s - self._anchor_s) / self.interval_s
        return int(elapsed + 0.5) if self._phased else int(elapsed)
