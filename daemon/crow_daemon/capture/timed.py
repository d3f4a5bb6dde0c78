"""Reading a source for a limited time."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from crow_daemon.capture.source import Source


@contextmanager
def stopped_after(source: Source, timeout_s: float) -> Iterator[None]:
    """Ends the reading of a source in time, and closes it."""
    alarm = threading.Timer(timeout_s, source.stop)
    alarm.daemon = True
    alarm.start()
    try:
        yield
    finally:
        alarm.cancel()
        source.close()
