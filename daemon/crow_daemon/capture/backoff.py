"""How long to wait before the next attempt."""

import random
from dataclasses import dataclass

# Cameras lock an account after five or so wrong passwords within half an hour: of these, three are ours at most. A
# password that is set anew is tried at once.
AFTER_REFUSED_LOGIN_S = 600.0


@dataclass(slots=True)
class Backoff:
    """Doubling waits with jitter, so that a switch coming back is not met by all cameras at once.

    A wait lies between the current step and one and a half of it; steps go from `first_s` to `limit_s`.
    """

    first_s: float
    limit_s: float
    _step_s: float = 0.0

    def next_s(self) -> float:
        """Seconds to wait now; the following wait is twice as long, up to the limit."""
        self._step_s = min(self.limit_s, self._step_s * 2 or self.first_s)
        return self._step_s * random.uniform(1.0, 1.5)  # noqa: S311 — spreads load, guards nothing

    def reset(self) -> None:
        """Starts again from the shortest wait: the last attempt held."""
        self._step_s = 0.0
