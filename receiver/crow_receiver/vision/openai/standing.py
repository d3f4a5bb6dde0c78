"""Whether a server is given frames: a circuit breaker, told of results and of checks. It knows no I/O and no clock.

Invariants
1. A server *serves* (several frames at once), is *on trial* (one at a time) or *out* (none). It begins on trial.
2. A frame that is answered makes it serve. It goes out when it cannot be reached, when a trial fails, or when
   `FAILURES_IN_A_ROW` frames fail at it: one that it cannot answer does not put it out, however often it is tried.
3. While it is out, and when it has had no frame for `IDLE_S`, it is asked after its health; an answer puts one that
   was out on trial, and silence puts one out. Each trial that fails
   doubles the pause, from `PAUSE_FIRST_S` to `PAUSE_MOST_S`; a frame that is answered makes it short again.
4. One that wants to be left alone is left alone for as long as it says.
"""

from crow_receiver.vision.openai.server import Fault, ServerFailure

FAILURES_IN_A_ROW = 3
PAUSE_FIRST_S = 5.0
PAUSE_MOST_S = 120.0
IDLE_S = 30.0
BUSY_S = 1.0  # where a busy server does not say for how long


class Standing:
    """How a server stands; times are monotonic seconds."""

    def __init__(self, most_in_flight: int) -> None:
        self._most_in_flight = most_in_flight
        self._serves = False
        self._failures = 0
        self._pause_s = PAUSE_FIRST_S
        self._alone_until_s = 0.0
        self.in_flight = 0
        self.out_because: str | None = None
        self.next_check_s = 0.0

    @property
    def load(self) -> float:
        """The share of its places that is taken."""
        return self.in_flight / self._most_in_flight

    def takes_from_s(self, now_s: float) -> float | None:
        """From when on it takes another frame, if nothing changes; None while it is out or its places are taken."""
        places = self._most_in_flight if self._serves else 1
        if self.out_because is not None or self.in_flight >= places:
            return None
        return max(now_s, self._alone_until_s)

    def is_to_be_checked(self, now_s: float) -> bool:
        """Whether it is time to ask after its health."""
        return now_s >= self.next_check_s and not self.in_flight

    def answered(self, now_s: float) -> None:
        """It answered a frame."""
        self._serves, self.out_because = True, None
        self._failures, self._pause_s = 0, PAUSE_FIRST_S
        self.next_check_s = now_s + IDLE_S

    def failed(self, failure: ServerFailure, now_s: float, *, again: bool) -> None:
        """It failed at a frame, `again` if at the same one as before."""
        if failure.fault is Fault.BUSY or failure.retry_after_s is not None:
            wait_s = BUSY_S if failure.retry_after_s is None else failure.retry_after_s
            self._alone_until_s = max(self._alone_until_s, now_s + wait_s)
        if self.out_because is not None:
            return
        self._failures += not again
        trial_failed = not self._serves and failure.fault is not Fault.BUSY
        if failure.fault is Fault.SERVER or trial_failed or self._failures >= FAILURES_IN_A_ROW:
            self._serves, self.out_because = False, failure.why
            self.next_check_s = max(now_s + self._pause_s, self._alone_until_s)
            self._pause_s = min(self._pause_s * 2, PAUSE_MOST_S) if trial_failed else self._pause_s

    def checked(self, failure: ServerFailure | None, now_s: float) -> None:
        """It was asked after its health."""
        if failure is not None:
            self._serves, self.out_because = False, failure.why
            self.next_check_s = now_s + PAUSE_FIRST_S
        else:
            self.out_because = None
            self.next_check_s = now_s + IDLE_S
