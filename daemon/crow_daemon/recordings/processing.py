"""Reads recordings into the line one after the other, through the daemon that has the state directory.

The daemon that runs there is given each recording as the camera's source; without one, a daemon of our own is run for
that camera alone. Either way the registry says what is read, the spool where it goes on, and the daemon's status how
far it is.

Invariants
1. A recording is handed over when the one before it was read to its end. One that was read before is left out.
2. Whatever ends this, and whenever: done again, it goes on behind the last frame that is in the spool.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from crow_daemon import status
from crow_daemon.recordings.plan import Planned
from crow_daemon.registry.camera import Camera, Recording
from crow_daemon.registry.registry import Registry
from crow_daemon.settings import DaemonSettings
from crow_shared.clock import Clock
from crow_shared.errors import CrowError, Kind
from crow_shared.lifecycle import Notifier

POLL_S = 0.25
SILENCE_S = 20.0
TELL_S = 30.0  # for the rest of the sample ledger, which whoever runs next tells else
MOST_LOSSES = 5  # of the process that reads a recording, at one place of it
_GIVEN_UP_IN = frozenset({"unsupported", "refused", "unreachable"})  # the states of a recording that cannot be read


class Progress(Protocol):
    """Told how far it is."""

    def begins(self, one: Planned) -> None:
        """It is read from now on."""
        ...

    def reached(self, one: Planned, capture_us: int) -> None:
        """The capture time of its last sample."""
        ...

    def ends(self, one: Planned) -> None:
        """It was read to its end."""
        ...

    def delivering(self, frames: int, trouble: str | None) -> None:
        """All is read; so many frames wait for the receiver, and why they do, if there is a reason."""
        ...


@dataclass(frozen=True, slots=True)
class Processed:
    """What became of the samples, by the daemon's count, and whether the receiver has all that was sent.

    `lost` are frames that were sent meanwhile and given up since, by reason: the receiver does not have them.
    """

    expected: int
    sent: int
    gated: int
    dropped: int
    delivered: bool
    lost: Mapping[str, int]


class Processing:
    """The recordings of one camera on their way."""

    def __init__(self, registry: Registry, state_dir: Path, clock: Clock, progress: Progress) -> None:
        """Nothing is handed over yet."""
        self._registry = registry
        self._state_dir = state_dir
        self._clock = clock
        self._progress = progress
        self._heard_s = clock.monotonic_s()  # when a daemon last said something

    async def run(self, camera: Camera, recordings: Sequence[Planned], *, wait_for_delivery: bool) -> Processed:
        """Reads all of them as `camera`, whose source and switch are set here.

        Raises CrowError: UNSUPPORTED and the like when one cannot be read, CONFLICT or NOT_FOUND when somebody else
        changes the camera or removes it meanwhile, UNAVAILABLE when the daemon ends.
        """
        before = self._seen(camera.id)
        lost_before = Counter[str]() if before is None else Counter(before["spool"]["lost"])
        total = Counter[str]()
        for one in recordings:
            await self._read(replace(camera, source=one.recording, enabled=True, finished=False), one)
            total += await self._counted(camera.id)
        waiting, lost = await self._settled(camera.id, wait_for_delivery=wait_for_delivery)
        lost -= lost_before
        counts = (total["expected"], total["sent"], total["gated"], total["dropped"])
        return Processed(*counts, delivered=not (waiting or lost), lost=dict(lost))

    async def _read(self, camera: Camera, one: Planned) -> None:
        known = {existing.id for existing in self._registry.cameras()}
        handed_us = self._clock.now_us()
        (self._registry.update if camera.id in known else self._registry.add)(camera)
        self._progress.begins(one)
        at_place: tuple[object, int] | None = None  # the last sample, and the losses of its process when it came
        while not (now := self._registry.get(camera.id)).finished:
            if now.source != camera.source or not now.enabled:
                raise CrowError(
                    Kind.CONFLICT, "camera_changed", f"camera {camera.id} was changed meanwhile; the rest is not read"
                )
            await asyncio.sleep(POLL_S)
            seen = self._seen(camera.id)
            if seen is None or seen["since_us"] < handed_us:
                continue
            losses = sum(seen["worker_losses"].values())
            if at_place is None or at_place[0] != seen["last_sample_us"]:
                at_place = (seen["last_sample_us"], losses)
            if losses - at_place[1] >= MOST_LOSSES or seen["state"] in _GIVEN_UP_IN:
                raise CrowError(Kind.UNSUPPORTED, "recording_unreadable", str(seen["last_error"]))
            if seen["last_sample_us"] is not None:
                self._progress.reached(one, int(seen["last_sample_us"]))
        self._progress.ends(one)

    async def _counted(self, camera_id: str) -> "Counter[str]":
        """What became of the samples of the recording that was just read, before another one takes its place."""
        read_us = self._clock.now_us()
        # Polling, since what is waited for is another process's word.
        while (seen := self._seen(camera_id, since_us=read_us)) is None:
            self._registry.get(camera_id)  # it may be removed meanwhile
            await asyncio.sleep(POLL_S)
        counters = seen["counters"]
        held = {key: sum(counters[key].values()) for key in ("gated", "dropped")}
        return Counter({"expected": counters["expected"], "sent": counters["sent"]} | held)

    async def _settled(self, camera_id: str, *, wait_for_delivery: bool) -> tuple[int, Counter[str]]:
        """Waits until the frames are in the spool, or at the receiver: how many wait still, and the lost ones, ever."""
        read_us = self._clock.now_us()
        while True:
            self._registry.get(camera_id)  # it may be removed meanwhile
            current, seen = self._status(), self._seen(camera_id, since_us=read_us)
            if current is not None and seen is not None:
                waiting, in_memory = int(seen["spool"]["waiting"]), int(current["spool"]["in_memory"])
                if not in_memory and not (waiting and wait_for_delivery):
                    return waiting, Counter(seen["spool"]["lost"])
                self._progress.delivering(waiting + in_memory, current["uplink"]["last_error"])
            await asyncio.sleep(POLL_S)

    def _seen(self, camera_id: str, since_us: int = 0) -> dict[str, Any] | None:
        """What the daemon says of the camera, after `since_us` by the wall clock; None while it says nothing."""
        current = self._status()
        if current is None or int(current["written_us"]) <= since_us:
            return None
        for camera in current["cameras"]:
            if camera["camera_id"] == camera_id:
                return dict(camera)
        return None

    def _status(self) -> dict[str, Any] | None:
        """What the daemon says; None while it says nothing. Raises CrowError(UNAVAILABLE) when that lasts."""
        now_s = self._clock.monotonic_s()
        try:
            current = status.read(self._state_dir, self._clock.now_us())
        except CrowError:  # a daemon of our own that has not said anything yet
            current = {"running": False}
        if current["running"]:
            self._heard_s = now_s
            return current
        if now_s - self._heard_s > SILENCE_S:
            raise CrowError(
                Kind.UNAVAILABLE,
                "daemon_silent",
                f"no daemon has written a status in {self._state_dir} for {SILENCE_S:.0f} seconds; the same command "
                "goes on where it was",
            )
        return None


def present_source(registry: Registry, camera_id: str) -> Camera | None:
    """The camera, if it is there and may be given recordings. Raises CrowError(CONFLICT) if it is a live one."""
    known = {camera.id: camera for camera in registry.cameras()}.get(camera_id)
    if known is not None and not isinstance(known.source, Recording):
        raise CrowError(
            Kind.CONFLICT,
            "camera_is_live",
            f"camera {camera_id} is a live one; give its recordings an id of their own, with its settings: "
            f"--camera {camera_id}-recorded --like {camera_id}",
        )
    return known


def left_to_read(
    registry: Registry, camera: Camera, present: Camera | None, recordings: Sequence[Planned]
) -> list[Planned]:
    """Those that were not read to their end before.

    Raises CrowError(CONFLICT) while the camera is reading another recording.
    """
    mine = [one.recording for one in recordings]
    if present is not None and present.wanted and present.source not in mine:
        assert isinstance(present.source, Recording)
        raise CrowError(
            Kind.CONFLICT,
            "camera_is_reading",
            f"camera {camera.id} is still reading {present.source.path}; wait for it, or stop it with: "
            f"crow-daemon camera disable {camera.id}",
        )
    return [one for one in recordings if not registry.was_read(replace(camera, source=one.recording))]


def is_running(state_dir: Path, clock: Clock) -> bool:
    """Whether a daemon has the state directory now."""
    try:
        current = status.read(state_dir, clock.now_us())
    except CrowError:
        return False
    return bool(current["running"] or current["silent"])


async def with_own_daemon(
    settings: DaemonSettings, camera_id: str, clock: Clock, work: Callable[[], Awaitable[Processed]]
) -> Processed:
    """Runs a daemon for one camera while `work` lasts.

    Raises what `work` raises, and CrowError(UNAVAILABLE) when the daemon ends first: by a signal, or since it failed.
    """
    from crow_daemon.app import Daemon  # noqa: PLC0415 — loads gRPC, which most commands do without

    daemon = Daemon(settings, Notifier({}), clock, only=camera_id)
    running = asyncio.create_task(daemon.run())
    working = asyncio.ensure_future(work())
    await asyncio.wait({running, working}, return_when=asyncio.FIRST_COMPLETED)
    ended_first = not working.done()
    if not ended_first and working.exception() is None and working.result().delivered:
        telling = asyncio.create_task(daemon.all_told())
        await asyncio.wait({running, telling}, timeout=TELL_S, return_when=asyncio.FIRST_COMPLETED)
        telling.cancel()
    if ended_first:
        working.cancel()
    daemon.stop()
    went_well = await running
    if ended_first:
        why = "it was stopped" if went_well else "the daemon failed"
        raise CrowError(Kind.UNAVAILABLE, "interrupted", f"{why}; the same command goes on where it was")
    return await working
