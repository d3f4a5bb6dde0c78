"""Which recordings are read, in which order, and when they were taken."""

import shutil
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import av
import pytest
from camera_rig import write_clip

from crow_daemon.recordings.named_time import named_time
from crow_daemon.recordings.plan import plan
from crow_shared.errors import CrowError

BERLIN = timezone(timedelta(hours=1))


@pytest.mark.parametrize(
    "name",
    [
        "ch01_20261122090000.mp4",
        "2026-11-22_09-00-00.mkv",
        "2026-11-22 09.00.00 till.mov",
        "20261122T090000.avi",
        "RecM01_20261122_090000_20261122_091500_6D28808.mp4",
        "till_2026-11-22T09-00-00.123.mp4",
        "20261122_090000-20261122_100000.mp4",
    ],
)
def test_the_time_in_a_name_is_found(name: str) -> None:
    assert named_time(name, BERLIN) == datetime(2026, 11, 22, 9, tzinfo=BERLIN)


def test_a_z_behind_it_means_utc_and_nothing_the_zone_of_this_machine() -> None:
    assert named_time("20261122T090000Z.mp4", BERLIN) == datetime(2026, 11, 22, 9, tzinfo=UTC)
    assert named_time("20261122T090000.mp4") == datetime(2026, 11, 22, 9).astimezone()


@pytest.mark.parametrize(
    "name",
    ["till.mp4", "20261122.mp4", "20261322_090000.mp4", "20260230_090000.mp4", "120261122090000.mp4", "v2026-11.mp4"],
)
def test_what_is_no_time_is_not_taken_for_one(name: str) -> None:
    assert named_time(name) is None


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("plan") / "clip.mp4", "h264", seconds=2)


def stamped(clip: Path, path: Path, created: str) -> Path:
    """The clip with a time of creation in it."""
    with av.open(str(clip)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        target.metadata["creation_time"] = created
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    return path


def test_a_folder_is_read_in_order_of_time(clip: Path, tmp_path: Path) -> None:
    for name in ("b_20261122T090000Z.mp4", "a_20261122T100000Z.MP4", "notes.txt"):
        shutil.copy(clip, tmp_path / name)
    found = plan([tmp_path], None)
    assert [one.recording.path.name for one in found] == ["b_20261122T090000Z.mp4", "a_20261122T100000Z.MP4"]
    assert [one.lasts_us for one in found] == [2_000_000, 2_000_000]
    assert found[0].recording.start_us == 1_795_338_000_000_000


def test_the_time_is_the_one_given_or_that_of_the_name_or_of_the_file(clip: Path, tmp_path: Path) -> None:
    both = stamped(clip, tmp_path / "20261122T090000Z.mp4", "2026-01-01T00:00:00Z")
    alone = stamped(clip, tmp_path / "till.mp4", "2026-01-01T00:00:00Z")
    assert [(one.recording.start_us, one.because) for one in plan([both], 5)] == [(5, "as given")]
    assert plan([both], None)[0].because == "by the file's name"
    (found,) = plan([alone], None)
    assert (found.recording.start_us, found.because) == (
        1_767_225_600_000_000,
        "by the time of creation in the file",
    )


@pytest.mark.parametrize("created", ["1970-01-01T00:00:00Z", "2999-01-01T00:00:00Z"])
def test_a_clock_that_was_never_set_tells_no_time(created: str, clip: Path, tmp_path: Path) -> None:
    with pytest.raises(CrowError, match="--recorded-at"):
        plan([stamped(clip, tmp_path / "till.mp4", created)], None)


def test_what_cannot_be_read_is_named(clip: Path, tmp_path: Path) -> None:
    text = tmp_path / "20261122T090000Z.mp4"
    text.write_text("no video")
    for paths in ([text], [tmp_path / "none.mp4"], [tmp_path / "empty"]):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(CrowError):
            plan(paths, 0)
    with pytest.raises(CrowError, match="these are 2"):
        plan([clip, Path(shutil.copy(clip, tmp_path / "b.mp4"))], 0)
    assert list((tmp_path / "empty").iterdir()) == []
