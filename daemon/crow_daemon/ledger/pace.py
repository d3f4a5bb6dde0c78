"""How many samples of a live camera are due, and which are overdue, by the monotonic clock. Pure: time is passed in."""


class Pace:
    """Samples come at one phase of the interval, give or take some jitter.

    The first one sets the phase; from then on a sample may be half an interval early or late without being taken for a
    hole.
    """

    def __init__(self, interval_s: float, now_s: float) -> None:
        """The camera was enabled now."""
        self.interval_s = interval_s
        self._anchor_s = now_s
        self._settled = 0  # samples taken or given up since the anchor
        self._phased = False

    def sample(self, now_s: float) -> int:
        """A sample has come; returns how many before it are missing and takes them as given up."""
        elapsed = (now_s - self._anchor_s) / self.interval_s
        if not self._phased:
            missing = max(0, int(elapsed) - self._settled)
            self._phased, self._anchor_s, self._settled = True, now_s, 1
            return missing
        missing = max(0, int(elapsed + 0.5) - self._settled)
        self._settled += missing + 1
        return missing

    def overdue(self, now_s: float) -> int:
        """No sample is coming for now; returns how many are missing by now and takes them as given up."""
        elapsed = (now_s - self._anchor_s) / self.interval_s
        missing = max(0, int(elapsed + 0.5 if self._phased else elapsed) - self._settled)
        self._settled += missing
        return missing

    @property
    def next_due_s(self) -> float:
        """When the first sample was due, or will be, that has neither been taken nor given up."""
        return self._anchor_s + self._settled * self.interval_s
