"""One flipped bit costs at most one frame, and no damage makes the spool give out a number or a picture wrongly."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from spool_parts import ROOM, contents, frame, hole_numbers, segments, seqs

from crow_daemon.spool.accounts import Hole, HoleReason
from crow_daemon.spool.format import scan
from crow_daemon.spool.spool import START, Spool
from crow_shared.frame import Frame

# Thousands of spools are opened here, and no test is about syncs: they would be most of the time.
pytestmark = pytest.mark.usefixtures("disk_without_syncs")

PICTURES = {("till", seq): bytes([seq]) * 20 for seq in range(1, 9)} | {
    ("door", seq): bytes([100 + seq]) * 20 for seq in range(1, 4)
}


@pytest.fixture
def disk_without_syncs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(os, "fdatasync", lambda _: None)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, dict[tuple[str, int], Frame]]:
    """Two segments, two cameras, an acknowledgement and a hole; and what waits in them."""
    directory = tmp_path_factory.mktemp("made")
    spool = Spool(directory, ROOM, segment_bytes=900)
    (epoch,) = spool.epochs()
    last = dict.fromkeys(("till", "door"), 0)
    for cameras in ("till door", "till till", "till door till", "till", "till till door"):
        group = []
        for camera in cameras.split():
            last[camera] += 1
            group.append(frame(camera, PICTURES[camera, last[camera]], last[camera]))
        spool.append(group)
        if last == {"till": 3, "door": 1}:
            spool.release(epoch, {"till": 1})
            spool.give_up(epoch, Hole("till", 2, 2, HoleReason.REFUSED, "no picture"))
    waiting = {(f.camera_id, f.seq): f for f in contents(spool)}
    assert len(waiting) == len(PICTURES) - 2
    spool.close()
    assert len(segments(directory)) == 2
    return directory, epoch, waiting


def damaged_copies(made: Path, place: Path) -> Iterator[tuple[Path, str]]:
    """The spool with each byte in turn flipped in one bit."""
    for name in [path.name for path in segments(made)]:
        data = (made / name).read_bytes()
        for offset in range(len(data)):
            shutil.rmtree(place, ignore_errors=True)
            shutil.copytree(made, place)
            (place / name).write_bytes(data[:offset] + bytes([data[offset] ^ 1 << offset % 8]) + data[offset + 1 :])
            yield place, f"{name} at {offset}"


def test_any_flipped_bit_costs_at_most_one_frame_which_is_counted(
    made: tuple[Path, str, dict[tuple[str, int], Frame]], tmp_path: Path
) -> None:
    directory, epoch, waiting = made
    costs = []
    for place, where in damaged_copies(directory, tmp_path / "copy"):
        spool = Spool(place, ROOM)
        found = {(f.camera_id, f.seq): f for e in [epoch] for f in (s.frame for s in spool.read(e, START, 99))}
        # What was acknowledged or refused may come back when the record of that is hit; a frame never comes wrong.
        assert all(PICTURES[key] == f.payload for key, f in found.items()), where
        lost = [key for key in waiting if key not in found]
        assert len(lost) <= 1, where
        costs.append(len(lost))
        counted = [one for one in spool.lost() if one.reason is HoleReason.CORRUPT]
        assert [(one.camera_id, one.frames) for one in counted] == [(camera, 1) for camera, _ in lost], where
        for camera, seq in lost:
            assert seq in hole_numbers(spool, epoch, camera), where
            assert list((place / "quarantine").glob("*.bin")), where
        for camera, last in (("till", 8), ("door", 3)):
            (fresh,) = spool.append([frame(camera)])
            assert spool.epochs()[-1] != epoch or fresh.seq == last + 1, where
        seen = (contents(spool), spool.lost(), spool.epochs())
        spool.close()
        if len(costs) % 5 == 0:
            again = Spool(place, ROOM)
            assert (contents(again), again.lost(), again.epochs()) == seen, where
            again.close()
    assert 0.2 < sum(costs) / len(costs) < 1  # most bytes are in frames: the loop did damage something


def test_a_last_segment_cut_anywhere_keeps_what_lies_before_and_gives_no_number_again(
    made: tuple[Path, str, dict[tuple[str, int], Frame]], tmp_path: Path
) -> None:
    directory, epoch, waiting = made
    whole = segments(directory)[-1].read_bytes()
    with segments(directory)[-1].open("rb") as file:
        ends = {0, *(record.end for record in scan(file.fileno(), int(segments(directory)[-1].stem), len(whole)))}
    kept_before = 0
    for length in range(len(whole) + 1):
        place = tmp_path / "copy"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(directory, place)
        segments(place)[-1].write_bytes(whole[:length])
        spool = Spool(place, ROOM)
        found = [s.frame for s in spool.read(epoch, START, 99)]
        assert all(PICTURES[f.camera_id, f.seq] == f.payload for f in found), length
        kept = len({(f.camera_id, f.seq) for f in found} & waiting.keys())
        assert kept >= kept_before, length
        kept_before = kept
        assert not [lost for lost in spool.lost() if lost.reason is HoleReason.SPOOL_FULL], length
        assert (spool.epochs()[-1] == epoch) == (length in ends), length  # in doubt which numbers were given out?
        (fresh,) = spool.append([frame("till", b"fresh")])
        assert fresh.seq == 1 + max(0, 0, *(f.seq for f in found if f.camera_id == "till")) or length not in ends
        spool.close()
        again = Spool(place, ROOM)
        assert {(f.camera_id, f.payload) for f in contents(again)} == {
            (f.camera_id, f.payload) for f in [*found, fresh]
        }, length
        again.close()
    assert kept_before == len(waiting)


def test_damage_to_the_only_start_makes_no_loss_of_what_was_delivered(tmp_path: Path) -> None:
    spool = Spool(tmp_path, ROOM, segment_bytes=300)
    (epoch,) = spool.epochs()
    for _ in range(9):
        spool.append([frame(payload=b"x" * 300)])
        spool.release(epoch, {"till": 7})
    spool.close()
    for path in segments(tmp_path)[:-1]:
        path.unlink()
    (path,) = segments(tmp_path)
    data = bytearray(path.read_bytes())
    data[3] ^= 1
    path.write_bytes(data)
    spool = Spool(tmp_path, ROOM)
    assert [s.frame.seq for s in spool.read(epoch, START, 9)] == [9]
    assert [(lost.reason, lost.frames) for lost in spool.lost()] == [(HoleReason.CORRUPT, 1)]  # 8, and not 1 to 8
    assert spool.start_epoch() != epoch
    spool.close()


def test_a_spool_whose_files_are_garbage_opens_and_takes_frames(tmp_path: Path) -> None:
    for number, garbage in enumerate((b"\0" * 5000, b"\x93crow\r\n\x1a" * 300, b"x"), start=1):
        (tmp_path / f"{number:012d}.seg").write_bytes(garbage)
    (tmp_path / "000000000004.seg").touch()
    (tmp_path / "notes.seg").write_text("not ours")
    spool = Spool(tmp_path, ROOM)
    assert contents(spool) == []
    spool.append([frame()])
    assert seqs(spool) == [1]
    assert (tmp_path / "notes.seg").exists()
    spool.close()


def test_a_segment_that_vanished_is_a_hole_that_is_counted_once(tmp_path: Path) -> None:
    spool = Spool(tmp_path, ROOM, segment_bytes=300)
    (epoch,) = spool.epochs()
    for _ in range(9):
        spool.append([frame(payload=b"x" * 300)])
    spool.close()
    segments(tmp_path)[0].unlink()
    segments(tmp_path)[3].unlink()
    for _ in range(3):
        spool = Spool(tmp_path, ROOM, segment_bytes=300)
        assert seqs(spool)[:7] == [2, 3, 4, 6, 7, 8, 9]
        assert hole_numbers(spool, epoch) == [1, 5]
        assert [(lost.reason, lost.frames) for lost in spool.lost()] == [(HoleReason.SPOOL_FULL, 2)]
        spool.append([frame()])
        spool.close()


def test_a_record_at_another_place_is_no_record(tmp_path: Path) -> None:
    """Blocks of a deleted file that come back after a power cut, or a picture that holds a record's bytes."""
    spool = Spool(tmp_path, ROOM)
    spool.append([frame(payload=b"first")])
    spool.close()
    (old,) = segments(tmp_path)
    stale = old.read_bytes()
    old.rename(tmp_path / "000000000007.seg")
    spool = Spool(tmp_path, ROOM)
    assert contents(spool) == []
    spool.append([frame(payload=b"A" * 10 + stale + b"B" * 10)])
    spool.append([frame(payload=b"after")])
    (epoch,) = [epoch for epoch in spool.epochs() if spool.waiting(epoch)]
    spool.close()
    path = segments(tmp_path)[-1]
    data = bytearray(path.read_bytes())
    data[data.index(b"A" * 10) - 3] ^= 1  # the frame's header: the scan now looks for records inside its picture
    path.write_bytes(data)
    spool = Spool(tmp_path, ROOM)
    assert [s.frame.payload for s in spool.read(epoch, START, 9)] == [b"after"]
    assert hole_numbers(spool, epoch) == [1]
    spool.close()


def test_what_is_known_of_a_damaged_frame_is_set_aside_with_its_bytes_and_erased_with_its_camera(
    tmp_path: Path,
) -> None:
    spool = Spool(tmp_path, ROOM)
    spool.append([frame(payload=b"p" * 100, capture_us=50)])
    (path,) = segments(tmp_path)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"p" * 100, b"p" * 99 + b"q"))
    assert contents(spool) == []
    (told,) = (tmp_path / "quarantine").glob("*.json")
    known = json.loads(told.read_text())
    assert (known["camera_id"], known["seq"], known["capture_us"], known["bytes"]) == ("till", 1, 50, 100)
    assert told.with_suffix(".bin").read_bytes() == b"p" * 99 + b"q"
    spool.erase("till", 51, 60)
    assert told.exists()
    spool.erase("till", 50, 51)
    assert list((tmp_path / "quarantine").iterdir()) == []
    spool.close()
