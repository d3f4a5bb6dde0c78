"""What one stream has brought and the store has not begun with.

Invariants
1. What was added is taken in the order of adding, each once.
2. Of several additions before the next taking, exactly one is told to ask the store; an addition during a taking is
   taken by it or told to ask again. So nothing stays behind, and what comes while the disk is busy goes together.
"""

from collections import deque

from crow_receiver.store.arrivals import Arrival, Missing


class Arriving:
    """Filled by the event loop, emptied by the store's thread."""

    def __init__(self) -> None:
        self._waiting: deque[Arrival | Missing] = deque()
        self._asked = False

    def add(self, one: Arrival | Missing) -> bool:
        """Adds to the end; whether the store has to be asked to take."""
        self._waiting.append(one)
        asked, self._asked = self._asked, True
        return not asked

    def take_all(self) -> list[Arrival | Missing]:
        """What waits, oldest first."""
        self._asked = False  # before the taking: whoever adds from here on asks anew
        taken: list[Arrival | Missing] = []
        while self._waiting:
            taken.append(self._waiting.popleft())
        return taken
