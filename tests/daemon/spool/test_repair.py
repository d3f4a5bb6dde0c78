"""What `check` finds, `repair` sets right; neither touches what is intact."""

import errno
import os
from pathlib import Path

import pytest
from spool_parts import ROOM, contents, frame, hole_numbers, segments, seqs

from crow_daemon.spool.accounts import Hole, HoleReason
from crow_daemon.spool.check import check
from crow_daemon.spool.repair import Repaired, repair
from crow_daemon.spool.spool import START, Spool
from crow_shared.errors import CrowError, Kind


@pytest.fixture
def spooled(tmp_path: Path) -> Path:
    """Nine frames in several segments; 1 is acknowledged, 2 refused."""
    spool = Spool(tmp_path, ROOM, segment_bytes=600)
    for seq in range(1, 9):
        spool.append([frame(payload=bytes([seq]) * 300, capture_us=seq)])
    (epoch,) = spool.epochs()
    spool.release(epoch, {"till": 1})
    spool.give_up(epoch, Hole("till", 2, 2, HoleReason.REFUSED, "no picture"))
    spool.append([frame(payload=bytes([9]) * 300, capture_us=9)])
    spool.close()
    assert len(segments(tmp_path)) > 2
    return tmp_path


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 4
    path.write_bytes(data)


def picture(directory: Path, seq: int) -> tuple[Path, int]:
    """Where the picture of a frame lies."""
    for path in segments(directory):
        at = path.read_bytes().find(bytes([seq]) * 300)
        if at >= 0:
            return path, at
    raise AssertionError(seq)


def test_a_sound_spool_passes_and_repair_changes_nothing(spooled: Path) -> None:
    checked = check(spooled)
    assert (checked.frames, checked.violations) == (7, [])
    assert repair(spooled) == Repaired(0, 0, {})
    spool = Spool(spooled, ROOM)
    assert seqs(spool) == [3, 4, 5, 6, 7, 8, 9]
    assert len(spool.epochs()) == 1
    spool.close()


def test_a_running_daemon_is_checked_too_and_not_repaired(spooled: Path) -> None:
    spool = Spool(spooled, ROOM)
    spool.append([frame()])
    with segments(spooled)[-1].open("ab") as half_written:
        half_written.write(b"\x93crow\r\n")
    assert check(spooled).violations == []
    with pytest.raises(CrowError) as caught:
        repair(spooled)
    assert caught.value.kind is Kind.CONFLICT
    spool.close()
    assert len(check(spooled).violations) == 1


@pytest.mark.parametrize("where", ["picture", "header", "start", "end"])
def test_damage_is_found_and_repaired_and_what_is_intact_stays(spooled: Path, where: str) -> None:
    path, at = picture(spooled, 5)
    flip(
        *{"picture": (path, at + 7), "header": (path, at - 20), "start": (path, 9), "end": (segments(spooled)[-1], -3)}[
            where
        ]
    )
    (violation, *_) = check(spooled).violations
    assert path.stem.lstrip("0") in violation or where == "end"
    costs = int(where in ("picture", "header"))
    repaired = repair(spooled)
    assert repaired.given_up_frames == costs
    assert check(spooled).violations == []
    spool = Spool(spooled, ROOM)
    old = spool.epochs()[0]
    assert [frame.seq for frame in contents(spool)] == [seq for seq in (3, 4, 5, 6, 7, 8, 9) if seq != 5 or not costs]
    assert sum(lost.frames for lost in spool.lost() if lost.reason is HoleReason.CORRUPT) == costs
    assert hole_numbers(spool, old) == [2, 5][: 1 + costs]
    assert list((spooled / "quarantine").glob("*.bin"))
    spool.close()
    assert repair(spooled) == Repaired(0, 0, {})


def test_a_vanished_segment_and_a_foreign_file_are_told(spooled: Path) -> None:
    segments(spooled)[1].unlink()
    (spooled / "notes.txt").write_text("")
    (spooled / "notes.txt").chmod(0o600)
    nowhere, foreign = check(spooled).violations
    assert "nowhere" in nowhere
    assert "notes.txt is no file of the spool" in foreign
    given_up = repair(spooled).given_up_frames
    assert given_up > 0
    assert [foreign] == check(spooled).violations


def test_a_restored_spool_gets_fresh_numbers_and_loses_nothing(spooled: Path) -> None:
    spool = Spool(spooled, ROOM)
    first = spool.epochs()[0]
    second = spool.start_epoch()
    spool.append([frame("door", b"other"), frame(payload=b"newer")])
    waiting = [f.payload for f in contents(spool)]
    spool.close()
    assert repair(spooled, new_epoch=True).moved_frames == {"door": 1, "till": 8}
    assert len(waiting) == 9
    spool = Spool(spooled, ROOM)
    (fresh,) = spool.epochs()
    assert fresh not in (first, second)
    assert [s.frame.payload for s in spool.read(fresh, START, 99)] == waiting
    assert seqs(spool, "till") == [1, 2, 3, 4, 5, 6, 7, 8]
    assert seqs(spool, "door") == [1]
    assert [lost.frames for lost in spool.lost()] == [1]
    spool.close()
    assert check(spooled).violations == []


def test_pictures_that_the_disk_does_not_read_are_given_up_and_the_others_kept(
    spooled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = {(path.stat().st_ino, offset) for path, offset in (picture(spooled, seq) for seq in (4, 5, 7))}
    pread = os.pread

    def failing(descriptor: int, length: int, offset: int) -> bytes:
        if (os.fstat(descriptor).st_ino, offset) in bad:
            raise OSError(errno.EIO, "Input/output error")
        return pread(descriptor, length, offset)

    monkeypatch.setattr(os, "pread", failing)
    assert repair(spooled).given_up_frames == 3
    spool = Spool(spooled, ROOM)
    assert seqs(spool) == [3, 6, 8, 9]
    spool.close()
