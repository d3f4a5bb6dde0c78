"""Structured logs: readable on a terminal, JSON lines elsewhere, and never a secret.

Every line, those of libraries included, passes one processor that blanks credentials in URLs and the values of keys
that name a secret. Code does not rely on it: credentials are kept apart from URLs. It is the net under that.
"""

import logging
import re
import sys
from collections.abc import Iterable
from typing import Any

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

_URL_CREDENTIALS = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*://)[^\s/@]*(?:@[^\s/@]*)*@", re.IGNORECASE)
_SECRET_KEY = re.compile(r"password|secret|token|authorization|credential|internal_key", re.IGNORECASE)


def redacted(text: str) -> str:
    """`text` with the credentials of every URL in it blanked."""
    return _URL_CREDENTIALS.sub(r"\g<scheme>***@", text)


def _redact_value(value: Any) -> Any:
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, dict):
        return {key: "***" if _SECRET_KEY.search(str(key)) else _redact_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_redact_value(item) for item in value]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return redacted(str(value))


def _redact(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    for key, value in event.items():
        event[key] = "***" if _SECRET_KEY.search(key) else _redact_value(value)
    return event


def configure(level: str = "info", *, json: bool | None = None, quiet: Iterable[str] = ()) -> None:
    """Sends all logging to standard error at `level`; JSON unless that is a terminal, or as `json` says.

    Libraries named in `quiet` speak from WARNING on only.
    """
    json = not sys.stderr.isatty() if json is None else json
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer: Processor = structlog.processors.JSONRenderer() if json else structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _redact, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in quiet:
        logging.getLogger(name).setLevel(logging.WARNING)
