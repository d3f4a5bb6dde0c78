"""What a worker writes to standard error, into the daemon's log.

Invariants
1. A password of a camera that the worker reads is in no line, whatever the worker writes. (One of fewer than
   `LEAST_SECRET` characters may be: without it, half of every line would be blanked.)
2. Lines are bounded in length and number: a worker cannot fill the disk that the log is on.
"""

import asyncio
import json
import logging
import time
from collections import deque
from typing import Any
from urllib.parse import quote

import structlog

from crow_daemon.registry.secret import Credentials

log = structlog.get_logger()

LEAST_SECRET = 4
MAX_LINE_BYTES = 4000
MAX_LINES = 200  # in …
PERIOD_S = 60.0
_LAST_LINES = 10
_RESERVED = ("event", "level", "logger", "timestamp", "worker", "exc_info", "stack_info")


class LogRelay:
    """Of one worker."""

    def __init__(self, pid: int) -> None:
        """Knows no password yet."""
        self._pid = pid
        self._secrets: set[str] = set()
        self._last_lines: deque[str] = deque(maxlen=_LAST_LINES)
        self._period_s = 0.0
        self._lines = 0

    def hide(self, credentials: Credentials | None) -> None:
        """The worker knows this password from now on."""
        if credentials is not None and len(word := credentials.password.reveal()) >= LEAST_SECRET:
            self._secrets |= {word, quote(word, safe=""), json.dumps(word)[1:-1]}

    @property
    def last_lines(self) -> list[str]:
        """The last that came and were not log events of ours: such as a crash report."""
        return list(self._last_lines)

    async def run(self, stderr: asyncio.StreamReader) -> None:
        """Until the worker has ended."""
        rest = b""
        while chunk := await stderr.read(MAX_LINE_BYTES):
            *lines, rest = (rest + chunk).split(b"\n")
            rest = rest[:MAX_LINE_BYTES]
            for line in lines:
                self._heard(line)
        if rest:
            self._heard(rest)

    def _heard(self, line: bytes) -> None:
        text = line[:MAX_LINE_BYTES].decode("utf-8", "replace")
        for secret in self._secrets:
            text = text.replace(secret, "***")
        if not self._within_bounds():
            return
        if (event := _event(text)) is None:
            self._last_lines.append(text)
            log.warning("capture worker says", worker=self._pid, line=text)
        else:
            level = logging.getLevelNamesMapping().get(str(event.get("level", "")).upper(), logging.WARNING)
            fields = {key: value for key, value in event.items() if key not in _RESERVED}
            log.log(level, str(event["event"]), worker=self._pid, **fields)

    def _within_bounds(self) -> bool:
        now_s = time.monotonic()
        if now_s - self._period_s > PERIOD_S:
            if self._lines > MAX_LINES:
                log.warning("capture worker said more", worker=self._pid, lines=self._lines - MAX_LINES)
            self._period_s, self._lines = now_s, 0
        self._lines += 1
        return self._lines <= MAX_LINES


def _event(text: str) -> dict[str, Any] | None:
    """A line that is a log event; None for any other."""
    if not text.startswith("{"):
        return None
    try:
        event = json.loads(text)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "event" in event else None
