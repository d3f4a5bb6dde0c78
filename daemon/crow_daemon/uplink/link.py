"""How much may be on its way over one link, all lanes together. Pure: time is passed in.

What waits in a slow link's buffers keeps fresh frames waiting behind it, and the pings that tell a dead link from
a slow one. So the number of frames under way follows the time that the receiver takes to acknowledge them.

Invariants
1. At least one frame may be under way, however slow the link.
2. While acknowledgements take less than `FAST_S` the window grows by one a frame, so it doubles with each round; one
   that took more than `SLOW_S` halves it, once for all the frames that were under way together.
"""

FAST_S = 1.0
SLOW_S = 3.0
MOST_FRAMES = 1024  # as much as a receiver may be set to take


class LinkWindow:
    """The window of one connection; a new connection begins with a new one, at one frame."""

    def __init__(self) -> None:
        """Nothing is known of the link."""
        self.frames = 1
        self.delivers = False  # whether a frame has been acknowledged
        self._under_way = 0
        self._halved_s = float("-inf")

    @property
    def room(self) -> int:
        """How many more frames may be sent now."""
        return max(0, self.frames - self._under_way)

    def sent(self) -> None:
        """A frame is on its way."""
        self._under_way += 1

    def acknowledged(self, sent_s: float, now_s: float) -> None:
        """A frame that was sent then has been acknowledged."""
        self._under_way -= 1
        self.delivers = True
        if now_s - sent_s < FAST_S:
            self.frames = min(self.frames + 1, MOST_FRAMES)
        elif now_s - sent_s > SLOW_S and sent_s >= self._halved_s:
            self.frames = max(1, self.frames // 2)
            self._halved_s = now_s

    def given_up(self, frames: int) -> None:
        """Frames whose stream has ended will not be acknowledged on it."""
        self._under_way -= frames
