"""The thread that reads the sockets of all cameras that this process reads directly.

It sleeps, and then takes from every socket in turn, in one piece, what has come in the meantime. That is what makes
reading cheap: a thread of its own for each camera costs three times as much, since each time that it wakes, it finds
the processor's caches full of something else.

Invariants
1. The thread runs while there are readers, and ends with the last one.
2. After `remove`, a reader is not looked at any more.
3. Whatever one reader raises ends that one alone.
"""

import threading

import structlog

from crow_daemon.direct.interleaved import Buffer
from crow_daemon.direct.reader import KeyframeReader
from crow_shared.errors import CrowError

log = structlog.get_logger()

_LOOK_EVERY_S = 0.25
_HURRIED_S = 0.05  # a fifth of it


class ReadingThread:
    """The readers of one process; to be called from any thread."""

    def __init__(self) -> None:
        """No thread runs yet. `buffer` is for the streams of the readers that are added."""
        self.buffer = Buffer()
        self._lock = threading.Lock()  # held while readers are looked at
        self._readers: list[KeyframeReader] = []
        self._changed = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, reader: KeyframeReader) -> None:
        """Looks at it from now on, until it ends or is removed."""
        with self._lock:
            self._readers.append(reader)
            self._changed.clear()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="direct readers", daemon=True)
                self._thread.start()

    def remove(self, reader: KeyframeReader) -> None:
        """Looks at it no more."""
        with self._lock:
            if reader in self._readers:
                self._readers.remove(reader)
            if not self._readers:
                self._changed.set()

    def _run(self) -> None:
        leisure = round(_LOOK_EVERY_S / _HURRIED_S)
        rounds = 0
        while True:
            with self._lock:
                due = [reader for reader in self._readers if reader.hurried or rounds % leisure == 0]
                for reader in due:
                    self._look(reader)
                for reader in due:
                    reader.hand_over()
                hurried = any(reader.hurried for reader in self._readers)
                if not self._readers:
                    self._thread = None
                    return
            rounds = rounds + 1 if hurried else 0
            self._changed.wait(_HURRIED_S if hurried else _LOOK_EVERY_S)

    def _look(self, reader: KeyframeReader) -> None:
        try:
            reader.look()
        except CrowError as error:
            self._readers.remove(reader)
            reader.end(error)
        except Exception as error:  # a defect met by one reader must not end the others
            log.exception("direct reading failed by a defect")
            self._readers.remove(reader)
            reader.end(error)


READERS = ReadingThread()  # of this process
