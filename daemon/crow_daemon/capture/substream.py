"""The camera's smaller stream, for the gate to look at beside the main one.

Invariants
1. Its thread only reads; a keyframe is decoded by the thread that looks at it.
2. It keeps the last `_KEPT` keyframes and nothing else. Each is looked at once, beside a picture of the main stream
   that arrived within half a sample interval of it by our clock: the two streams' own times need not agree.
3. Whatever ends its reading, defects of ours included, is told in the camera's memory, and it is read again after
   `RETRY_SUBSTREAM_S`, by the next connection if need be. So is one whose keyframes are rarer than samples.
"""

import threading
from collections import deque
from collections.abc import Callable
from statistics import median

import structlog

from crow_daemon.capture.choice import MODE_CHANGED, StreamMemory
from crow_daemon.capture.source import Bgr, Picture, Source
from crow_daemon.gate.gate import Luma
from crow_daemon.registry.camera import Camera
from crow_shared.clock import Clock
from crow_shared.errors import CrowError, Kind

log = structlog.get_logger()

_KEPT = 4
_CHANGES = 3  # a reader that finds that another one has to read is followed so often
_LONGEST_WAIT_S = 2.0  # for a keyframe that may come; the camera's thread has other things to do
_RARITY_KNOWN = 4  # distances of keyframes
_RARE = 1.1  # intervals; arrival jitters


class Substream:
    """That of one connection to the camera; started and stopped once."""

    def __init__(self, camera: Camera, memory: StreamMemory, open_source: Callable[[], Source], clock: Clock) -> None:
        """`memory` is that of the camera; `open_source` makes a source of pictures decoded only when looked at."""
        self._camera = camera
        self._memory = memory
        self._open_source = open_source
        self._clock = clock
        self._stop = threading.Event()
        self._source: Source | None = None
        self._came = threading.Condition()  # guards what follows
        self._delivers = False  # a keyframe has come since it was connected to
        self._recent: deque[tuple[float, Picture]] = deque(maxlen=_KEPT)  # and when they arrived, monotonic
        self._thread = threading.Thread(target=self._run, name=f"substream {camera.id}", daemon=True)

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

    def take_nearest(self, arrival_s: float) -> Picture | None:
        """The keyframe that arrived nearest to that time by the monotonic clock, and not too far from it; else None.

        One that is about to come is waited for. Neither it nor an earlier one is given again.
        """
        within_s = self._camera.sample_interval_us / 2_000_000
        wait_s = arrival_s + min(within_s, _LONGEST_WAIT_S) - self._clock.monotonic_s()
        with self._came:
            self._came.wait_for(lambda: not self._delivers or self._near(arrival_s, within_s), max(0.0, wait_s))
            near = self._near(arrival_s, within_s)
            while near is not None and self._recent.popleft() is not near:
                pass
            return near and near[1]

    def _near(self, arrival_s: float, within_s: float) -> tuple[float, Picture] | None:
        near = min(self._recent, key=lambda come: abs(come[0] - arrival_s), default=None)
        return near if near is not None and abs(near[0] - arrival_s) <= within_s else None

    def _run(self) -> None:
        while not self._stop.wait(self._memory.substream_rests_s(self._clock.monotonic_s())):
            try:
                self._read_as_it_fits()
            except CrowError as error:
                self._failed(error.message)
            except Exception as error:  # a defect must not end the thread silently
                log.exception("the substream is not read because of a defect", camera=self._camera.id)
                self._failed(f"a defect: {type(error).__name__}")
            finally:
                self._forget()

    def _failed(self, why: str) -> None:
        self._memory.substream_failed(why, self._clock.monotonic_s())

    def _read_as_it_fits(self) -> None:
        for changes in range(_CHANGES + 1):
            try:
                self._read()
            except CrowError as error:
                if error.code != MODE_CHANGED or changes == _CHANGES:
                    raise
            else:
                return

    def _read(self) -> None:
        source = self._source = self._open_source()
        try:
            source.open()
            if self._stop.is_set():  # set before `stop` could know this source
                return
            self._keep(source)
        finally:
            self._source = None
            source.close()

    def _keep(self, source: Source) -> None:
        distances_s: deque[float] = deque(maxlen=2 * _RARITY_KNOWN)
        before_s: float | None = None
        for picture in source.pictures():
            arrival_s = self._clock.monotonic_s()
            if picture is None:
                before_s = None
                continue
            if before_s is not None:
                distances_s.append(arrival_s - before_s)
                self._refuse_rare(distances_s)
            before_s = arrival_s
            with self._came:
                self._delivers = True
                self._recent.append((arrival_s, picture))
                self._came.notify_all()
            self._memory.substream_reads()

    def _refuse_rare(self, distances_s: deque[float]) -> None:
        interval_s = self._camera.sample_interval_us / 1_000_000
        usual_s = median(distances_s)
        if len(distances_s) >= _RARITY_KNOWN and usual_s > _RARE * interval_s:
            raise CrowError(
                Kind.UNSUPPORTED,
                "keyframes_rare",
                f"its keyframes come {usual_s:.1f} s apart, samples are due every {interval_s:g} s",
            )

    def _forget(self) -> None:
        with self._came:
            self._delivers = False
            self._recent.clear()
            self._came.notify_all()


class GatedPicture:
    """The main stream's picture with the luma of the substream's; its own where there is none, or a damaged one."""

    def __init__(self, main: Picture, find_seen: Callable[[], Picture | None]) -> None:
        """`find_seen` is asked once, and only if somebody looks, for the substream's picture of about the same time."""
        self._main = main
        self._find_seen = find_seen
        self._looked_at: Picture | None = None
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
        if self._looked_at is None:
            self._looked_at = self._find_seen() or self._main
        try:
            return self._looked_at.luma(width, height)
        except CrowError:
            if self._looked_at is self._main:
                raise
            self._looked_at = self._main
            return self._main.luma(width, height)
