"""What the commands share."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cached_property
from pathlib import Path

from crow_receiver import settings
from crow_receiver.queue.embedded import EmbeddedQueue
from crow_receiver.settings import ReceiverSettings
from crow_shared.clock import SystemClock
from crow_shared.database import connect, translated_errors
from crow_shared.errors import CrowError, Kind


class Context:
    """What the commands share: the settings, read when first needed, the queues and the models' place."""

    def __init__(self, config: Path | None) -> None:
        self.config = config

    @cached_property
    def settings(self) -> ReceiverSettings:
        """Raises CrowError when the settings are wrong."""
        return settings.load(self.config)

    def queue(self) -> EmbeddedQueue:
        """The output queues. Raises CrowError when they cannot be used, or no receiver has made them yet.

        Looking must not make them: they would belong to whoever looked, and not to the receiver's user.
        """
        return EmbeddedQueue(self._existing("queue.db"), SystemClock())

    @contextmanager
    def database(self) -> Iterator[sqlite3.Connection]:
        """The receiver's database, which may be running. Raises CrowError as `queue` does."""
        path = self._existing("receiver.db")
        with translated_errors("receiver.db"), closing(connect(path)) as db:
            yield db

    def _existing(self, name: str) -> Path:
        path = self.settings.state_path / name
        if not path.exists():
            raise CrowError(Kind.UNAVAILABLE, "no_state", f"no receiver has run in {self.settings.state_path} yet")
        return path

    @property
    def models_dir(self) -> Path:
        """Where model files lie."""
        return self.settings.models_path
