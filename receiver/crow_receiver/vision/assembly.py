"""The vision of a receiver, put together: the engines of the settings, each in worker processes of its own."""

from collections.abc import Sequence

from crow_receiver.settings import VisionSettings
from crow_receiver.vision.choose import Choice
from crow_receiver.vision.fallback import FallbackVision
from crow_receiver.vision.supervisor.job import Limits
from crow_receiver.vision.supervisor.workers import WorkerVision
from crow_shared.clock import Clock


def assembled(choices: Sequence[Choice], settings: VisionSettings, clock: Clock) -> FallbackVision:
    """The engines in their order; still to be started."""
    limits = Limits(deadline_s=settings.deadline_s, duplicate_s=settings.duplicate_s)
    engines = {choice.engine: WorkerVision(choice.worker, settings.workers, limits) for choice in choices}
    return FallbackVision(engines, settings.fallback_after_s, clock)
