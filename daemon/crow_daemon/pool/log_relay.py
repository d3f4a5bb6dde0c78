"""What a worker writes to standard error, into the daemon's log.

Invariants
1. A password of a camera that the worker reads is in no line, be it as it is or as URLs, JSON or Python write it. (One
   of fewer than `LEAST_SECRET` characters may be: without it, half of every line would be blanked.)
2. Lines are bounded in length and number: a worker cannot fill the disk that the log is on. A line that is too long is
   left out whole, since a part of it may end within a password.
3. Nothing that it writes raises, passes for the daemon's own fields, or moves a terminal.
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
MAX_LINE_BYTES = 16_000  # a traceback has some thousand
MAX_LINES = 200  # in …
PERIOD_S = 60.0
_LAST_LINES = 10
_TOO_LONG = "(a line that is too long)"
# What the daemon's log says by itself, and what its formatters read.
_RESERVED = ("event", "level", "logger", "timestamp", "worker", "exc_info", "stack_info", "stack", "log_level")


class LogRelay:
    """Of one worker."""

    def __init__(self, pid: int) -> None:
        """Knows no password yet."""
        self._pid = pid
        self._secrets: list[str] = []
        self._last_lines: deque[str] = deque(maxlen=_LAST_LINES)
        self._period_s = 0.0
        self._lines = 0

    def hide(self, credentials: Credentials | None) -> None:
        """The worker knows this password from now on."""
        if credentials is not None and len(word := credentials.password.reveal()) >= LEAST_SECRET:
            in_json = {json.dumps(word, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False)}
            known = {*self._secrets, word, quote(word), quote(word, safe=""), repr(word)[1:-1], *in_json}
            self._secrets = sorted(known, key=len, reverse=True)  # so that no shorter one leaves the rest of a longer

    @property
    def last_lines(self) -> list[str]:
        """The last that came and were not log events of ours: such as a crash report."""
        return list(self._last_lines)

    async def run(self, stderr: asyncio.StreamReader) -> None:
        """Until the worker has ended."""
        rest = b""
        while chunk := await stderr.read(MAX_LINE_BYTES):
            *lines, rest = (rest + chunk).split(b"\n")
            rest = rest[: MAX_LINE_BYTES + 1]
            for line in lines:
                self._heard(line)
        if rest:
            self._heard(rest)

    def _heard(self, line: bytes) -> None:
        if not self._within_bounds():
            return
        text = line.decode("utf-8", "replace") if len(line) <= MAX_LINE_BYTES else _TOO_LONG
        if (event := _event(text)) is None:
            self._last_lines.append(self._shown(text))
            log.warning("capture worker says", worker=self._pid, line=self._shown(text))
            return
        level = logging.getLevelNamesMapping().get(str(event.get("level")).upper()) or logging.WARNING
        fields = {self._shown(key): self._shown(value) for key, value in event.items() if key not in _RESERVED}
        # Bound rather than passed: among arguments, some names would be taken for those of `log` itself.
        structlog.get_logger(**fields).log(level, self._shown(event["event"]), worker=self._pid)

    def _shown(self, value: Any) -> Any:
        """A number as it is, all else as text without any secret."""
        if isinstance(value, int | float | None):
            return value
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return "".join(character if character.isprintable() or character in "\n\t" else "?" for character in text)

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
    except (ValueError, RecursionError):
        return None
    is_event = isinstance(event, dict) and all(isinstance(event.get(key, ""), str) for key in ("event", "exception"))
    return event if is_event and "event" in event else None
