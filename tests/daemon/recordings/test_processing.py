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
    told = {"pid": os.getpid(), "written_us": 1 << 60, "cameras": [camera]}
    (tmp_path / "status.json").write_text(json.dumps(told))
    error = await run(tmp_path)
    assert error.message == "it is broken"
