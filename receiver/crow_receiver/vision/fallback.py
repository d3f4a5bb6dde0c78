"""Several engines behind one port: each camera's in its order, the next one where one is down.

Invariants
1. A frame goes to the first engine of its camera's order that is not passed over. If all are, it goes to the first.
2. An engine is passed over once it has been down for `fallback_after_s`, and no longer than it has trouble. The clock
   runs from when its trouble began until it describes a frame, or has had none for as long: one that only seems to be
   well again is passed over at once when it turns out not to be. One that was passed over has one frame to show it.
3. What an engine says of a frame stands: no other engine is asked about a bad frame, or one that killed its worker.
4. An analysis says which engines would have had the frame, and why they had not.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import structlog

from crow_receiver.vision.engine_state import EngineState
from crow_receiver.vision.port import FRAME_AT_FAULT, Vision, VisionRequest
from crow_receiver.vision.schema import Analysis, PassedOver
from crow_shared.clock import Clock
from crow_shared.errors import CrowError
from crow_shared.lifecycle import all_of

log = structlog.get_logger()


class EngineVision(Vision, Protocol):
    """A `Vision` of one engine that is started, and says why it cannot serve."""

    @property
    def trouble(self) -> str | None:
        """Why no frame can be described at present, None while one can."""
        ...

    @property
    def near_duplicates(self) -> int:
        """How many frames were answered by the analysis of one that shows the same."""
        ...

    async def start(self) -> None:
        """Starts it. Raises CrowError when it cannot be."""
        ...

    async def close(self) -> None:
        """Ends it."""
        ...


@dataclass(slots=True)
class _Engine:
    vision: EngineVision
    state: EngineState
    well_since_s: float
    down_since_s: float | None = None
    frames: int = 0  # that it is asked about
    on_trial: bool = False  # it was passed over, and has not described a frame since

    def is_well(self) -> None:
        self.down_since_s, self.on_trial = None, False


class FallbackVision:
    """Engines, the first of which serves as a rule."""

    def __init__(self, engines: Mapping[str, EngineVision], fallback_after_s: float, clock: Clock) -> None:
        """`engines` in the order in which they are tried for cameras that have none of their own."""
        assert engines
        now_us = clock.now_us()
        self._engines = {
            name: _Engine(vision, EngineState(name, None, now_us, passed_over=False), clock.monotonic_s())
            for name, vision in engines.items()
        }
        self._fallback_after_s = fallback_after_s
        self._clock = clock

    @property
    def near_duplicates(self) -> int:
        """How many frames were answered by the analysis of one that shows the same."""
        return sum(engine.vision.near_duplicates for engine in self._engines.values())

    @property
    def slots(self) -> int:
        """How many frames may be under way at once."""
        return sum(engine.vision.slots for engine in self._engines.values())

    @property
    def engine_name(self) -> str:
        """The engines in their order, for people and metrics."""
        return ", ".join(self._engines)

    @property
    def states(self) -> tuple[EngineState, ...]:
        """How each engine is, in their order."""
        for name in self._engines:
            self._look(name)
        return tuple(engine.state for engine in self._engines.values())

    async def start(self) -> None:
        """Starts all engines; one that cannot be had when it is needed would be no fallback.

        Raises CrowError when one cannot start; then none is left running.
        """
        try:
            await all_of(*(engine.vision.start() for engine in self._engines.values()))
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Ends all engines."""
        await asyncio.gather(*(engine.vision.close() for engine in self._engines.values()))

    def has_room(self, engines: tuple[str, ...] = ()) -> bool:
        """Whether a frame of a camera with these engines would be begun at once."""
        order = self._order(engines)
        name = next((name for name in order if self._passed_over(name) is None), order[0])
        return self._engines[name].vision.has_room()

    async def describe(self, request: VisionRequest) -> Analysis:
        """Describes one frame. Raises CrowError as the engine does that was asked last."""
        order = self._order(request.engines)
        passed_over: list[PassedOver] = []
        for name in order:
            reason = self._passed_over(name)
            if reason is None:
                try:
                    return self._answered(name, await self._ask(name, request), passed_over)
                except CrowError as error:
                    reason = self._passed_over(name)
                    if reason is None or not error.retryable or error.code in FRAME_AT_FAULT:
                        raise
            passed_over.append(PassedOver(engine=name, reason=reason))
        return self._answered(order[0], await self._ask(order[0], request), [])

    async def _ask(self, name: str, request: VisionRequest) -> Analysis:
        engine = self._engines[name]
        engine.frames += 1
        try:
            return await engine.vision.describe(request)
        finally:
            engine.frames -= 1

    def _order(self, engines: tuple[str, ...]) -> tuple[str, ...]:
        """The camera's own order, of the engines that there are; else that of all."""
        return tuple(name for name in engines if name in self._engines) or tuple(self._engines)

    def _answered(self, name: str, analysis: Analysis, passed_over: list[PassedOver]) -> Analysis:
        self._engines[name].is_well()
        if not passed_over:
            return analysis
        return analysis.model_copy(
            update={"provenance": analysis.provenance.model_copy(update={"passed_over": passed_over})}
        )

    def _passed_over(self, name: str) -> str | None:
        """Why the engine is passed over, None if it is not."""
        self._look(name)
        engine = self._engines[name]
        if engine.state.passed_over:
            return engine.state.trouble
        if engine.on_trial and engine.frames:
            return "it was down, and is at its first frame since"
        return None

    def _look(self, name: str) -> None:
        """Brings an engine's state up to date."""
        engine, trouble, now_s = self._engines[name], self._engines[name].vision.trouble, self._clock.monotonic_s()
        before = engine.state
        if trouble is None:
            engine.well_since_s = now_s if before.trouble is not None else engine.well_since_s
            engine.on_trial |= before.passed_over
            if not (engine.on_trial and engine.frames) and now_s - engine.well_since_s >= self._fallback_after_s:
                engine.is_well()
            passed_over = False
        else:
            engine.down_since_s = now_s if engine.down_since_s is None else engine.down_since_s
            passed_over = now_s - engine.down_since_s >= self._fallback_after_s
        changed = (before.trouble is None) is not (trouble is None)
        since_us = self._clock.now_us() if changed else before.since_us
        engine.state = EngineState(name, trouble, since_us, passed_over)
        if changed or passed_over is not before.passed_over:
            _tell(engine.state)


def _tell(state: EngineState) -> None:
    if state.trouble is None:
        log.info("engine serves again", engine=state.name)
    elif state.passed_over:
        log.warning("engine is passed over", engine=state.name, trouble=state.trouble)
    else:
        log.warning("engine is down", engine=state.name, trouble=state.trouble)
