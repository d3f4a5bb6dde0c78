"""What the commands share."""

from functools import cached_property
from pathlib import Path

from crow_receiver import settings
from crow_receiver.queue.embedded import EmbeddedQueue
from crow_receiver.settings import ReceiverSettings
from crow_shared.clock import SystemClock
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
        path = self.settings.state_path / "queue.db"
        if not path.exists():
            raise CrowError(Kind.UNAVAILABLE, "no_state", f"no receiver has run in {self.settings.state_path} yet")
        return EmbeddedQueue(path, SystemClock())

    @property
    def models_dir(self) -> Path:
        """Where model files lie."""
        return self.settings.models_path
