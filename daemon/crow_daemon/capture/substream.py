"""The camera's smaller stream, for the gate to look at beside the main one.

Invariants
1. Its thread only reads; a keyframe is decoded by the thread that looks at it.
2. It keeps the last `_KEPT` keyframes and nothing else.
3. It ends with its first failure, which `failure` tells from then on; whoever uses it decides when to try again.
"""

import threading
from collections import deque
from collections.abc import Callable

from crow_daemon.capture.choice import MODE_CHANGED
from crow_daemon.capture.source import Bgr, Picture, Source
from crow_daemon.gate.gate import Luma
from crow_shared.errors import CrowError

_KEPT = 4
_CHANGES = 3  # a reader that finds that another one has to read is followed so often


class Substream:
    """Started and stopped once."""

    def __init__(self, open_source: Callable[[], Source]) -> None:
        """`open_source` makes a source of pictures that are decoded only when somebody looks."""
        self._open_source = open_source
        self._stop = threading.Event()
        self._source: Source | None = None
        self._recent: deque[Picture] = deque(maxlen=_KEPT)
        self._thread = threading.Thread(target=self._run, name="substream", daemon=True)
        self.failure: CrowError | None = None

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Asks the thread to end; from any thread, before `start` as well."""
        self._stop.set()
        if source := self._source:
            source.stop()

    def join(self) -> None:
        """Waits for the thread, which ends when its read times out at the latest."""
        if self._thread.ident is not None:
            self._thread.join()

    def nearest(self, capture_us: int, within_us: int) -> Picture | None:
        """The keyframe taken nearest to that time, if it is that near; None otherwise, and once reading has failed."""
        recent = list(self._recent) if self.failure is None else []
        near = min(recent, key=lambda picture: abs(picture.capture_us - capture_us), default=None)
        return near if near is not None and abs(near.capture_us - capture_us) <= within_us else None

    def _run(self) -> None:
        changes = 0
        while self.failure is None and not self._stop.is_set():
            try:
                self._read()
            except CrowError as error:
                changes += 1
                if error.code != MODE_CHANGED or changes > _CHANGES:
                    self.failure = error

    def _read(self) -> None:
        source = self._source = self._open_source()
        try:
            source.open()
            if self._stop.is_set():  # set before `stop` could know this source
                return
            for picture in source.pictures():
                if picture is not None:
                    self._recent.append(picture)
        finally:
            self._source = None
            source.close()


class GatedPicture:
    """The main stream's picture, whose luma is that of the substream's; its own, should that one be damaged."""

    def __init__(self, main: Picture, seen: Picture) -> None:
        """`seen` was taken at about the time of `main`."""
        self._main = main
        self._seen = seen
        self.capture_us = main.capture_us
        self.time_source = main.time_source
        self.clock_skew_us = main.clock_skew_us
        self.coded = main.coded
        self.width = main.width
        self.height = main.height

    def bgr(self, width: int, height: int) -> Bgr:
        """Scaled to that size, rows x columns x 3. Raises CrowError(CORRUPT)."""
        return self._main.bgr(width, height)

    def luma(self, width: int, height: int) -> Luma:
        """Scaled to that size, rows x columns. Raises CrowError(CORRUPT)."""
        try:
            return self._seen.luma(width, height)
        except CrowError:
            return self._main.luma(width, height)
