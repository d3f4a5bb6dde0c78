"""Handing recordings to a daemon, as far as it can be seen without one."""

import json
import os
from pathlib import Path

import pytest
from conftest import ManualClock

from crow_daemon.recordings import processing
from crow_daemon.recordings.plan import Planned
from crow_daemon.recordings.processing import Processing
from crow_daemon.registry.camera import Camera, Recording
from crow_daemon.registry.registry import Registry
from crow_shared.errors import CrowError, Kind

ONE = Planned(Recording(Path("/rec/a.mp4"), 0), 1_000_000, "as given")
MONDAY = Camera("monday", "Monday", ONE.recording)


class Silent:
    """Progress that nobody looks at."""

    def begins(self, one: Planned) -> None: ...
    def reached(self, one: Planned, capture_us: int) -> None: ...
    def ends(self, one: Planned) -> None: ...
    def delivering(self, frames: int, trouble: str | None) -> None: ...


class Hurrying(ManualClock):
    """Each look at it is a second later."""

    def monotonic_s(self) -> float:
        self.advance(1)
        return super().monotonic_s()


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processing, "POLL_S", 0.0)


async def run(tmp_path: Path) -> CrowError:
    registry = Registry(tmp_path / "cameras.db")
    try:
        with pytest.raises(CrowError) as failed:
            await Processing(registry, tmp_path, Hurrying(), Silent()).run(MONDAY, [ONE], wait_for_delivery=True)
    finally:
        registry.close()
    return failed.value


async def test_a_daemon_that_says_nothing_any_more_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    error = await run(tmp_path)
    assert (error.kind, error.code) == (Kind.UNAVAILABLE, "daemon_silent")


@pytest.mark.parametrize("state", ["unsupported", "refused", "unreachable"])
async def test_a_recording_that_the_daemon_cannot_read_ends_it_with_the_reason(state: str, tmp_path: Path) -> None:
    camera = {"camera_id": "monday", "since_us": 1 << 60, "state": state, "last_error": "it is broken"}
    camera |= {"worker_losses": {}, "last_sample_us": None, "spool": {"lost": {}}}
    told = {"pid": os.getpid(), "written_us": 1 << 60, "cameras": [camera]}
    (tmp_path / "status.json").write_text(json.dumps(told))
    error = await run(tmp_path)
    assert error.message == "it is broken"


class Daemon(Silent):
    """One that says what a test wants, each time that it is asked."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.counters = {"expected": 10, "sent": 10, "gated": {}, "dropped": {}}
        self.camera = {"camera_id": "monday", "since_us": 0, "state": "live", "last_error": None}
        self.camera |= {"last_sample_us": 5, "worker_losses": {}, "counters": self.counters}

    def says(self, **changes: object) -> None:
        self.camera |= changes
        whole = {"spool": {"in_memory": 0}, "uplink": {"last_error": None}, "cameras": [self.camera]}
        told = {"pid": os.getpid(), "written_us": 1 << 60} | whole
        (self.directory / "status.json").write_text(json.dumps(told))


class CrashingDaemon(Daemon):
    """Its worker dies again each time that somebody looks."""

    def reached(self, one: Planned, capture_us: int) -> None:
        crashes = self.camera["worker_losses"].get("worker_crashed", 0) + 1
        self.says(worker_losses={"worker_crashed": crashes}, last_error="the process that read it died by signal 11")


async def test_a_recording_that_kills_its_worker_again_and_again_is_given_up_with_the_reason(tmp_path: Path) -> None:
    daemon, registry = CrashingDaemon(tmp_path), Registry(tmp_path / "cameras.db")
    daemon.says(since_us=1 << 60, spool={"lost": {}, "waiting": 0})
    with pytest.raises(CrowError, match="died by signal 11"):
        await Processing(registry, tmp_path, Hurrying(), daemon).run(MONDAY, [ONE], wait_for_delivery=True)
    assert daemon.camera["worker_losses"] == {"worker_crashed": processing.MOST_LOSSES}
    registry.close()


class RefusedDaemon(Daemon):
    """Reads all at once; of what was sent, the receiver refuses two frames."""

    def __init__(self, directory: Path, registry: Registry) -> None:
        super().__init__(directory)
        self.registry = registry

    def begins(self, one: Planned) -> None:
        self.registry.mark_finished("monday", self.registry.get("monday").revision)
        self.says(spool={"lost": {"refused": 3}, "waiting": 0})


async def test_frames_that_were_refused_or_lost_are_not_said_to_be_delivered(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "cameras.db")
    daemon = RefusedDaemon(tmp_path, registry)
    daemon.says(spool={"lost": {"refused": 1}, "waiting": 0})
    done = await Processing(registry, tmp_path, Hurrying(), daemon).run(MONDAY, [ONE], wait_for_delivery=True)
    assert (done.sent, done.delivered, done.lost) == (10, False, {"refused": 2})
    registry.close()


class RemovingDaemon(RefusedDaemon):
    """The camera is removed as soon as it is read, and not spoken of any more."""

    def ends(self, one: Planned) -> None:
        self.registry.remove("monday")
        self.says(camera_id="another")


async def test_a_camera_that_is_removed_meanwhile_is_not_waited_for(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "cameras.db")
    daemon = RemovingDaemon(tmp_path, registry)
    with pytest.raises(CrowError) as failed:
        await Processing(registry, tmp_path, Hurrying(), daemon).run(MONDAY, [ONE], wait_for_delivery=True)
    assert failed.value.kind is Kind.NOT_FOUND
    registry.close()
