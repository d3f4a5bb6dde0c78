"""What the disk did not confirm is not there, and what it does not read is not given up at once."""

import errno
import os
from pathlib import Path

import pytest
from spool_parts import ROOM, contents, frame, seqs

from crow_daemon.spool.accounts import HoleReason
from crow_daemon.spool.spool import Spool
from crow_shared.errors import CrowError, Kind


class Disk:
    """Lets the next calls of a function of `os` fail."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.patch = patch
        self.calls: list[int] = []

    def fails(self, function: str, times: int) -> None:
        real = getattr(os, function)
        left = times

        def failing(*arguments: int) -> object:
            nonlocal left
            if function == "fdatasync":
                self.calls.append(os.fstat(arguments[0]).st_ino)
            if not left:
                return real(*arguments)
            left -= 1
            raise OSError(errno.EIO, "Input/output error")

        self.patch.setattr(os, function, failing)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def test_a_file_whose_sync_failed_is_never_synced_again_and_the_frames_go_to_a_fresh_one(
    tmp_path: Path, disk: Disk
) -> None:
    spool = Spool(tmp_path, ROOM)
    spool.append([frame(payload=b"first")])
    disk.fails("fdatasync", 1)
    assert spool.append([frame(payload=b"second")])[0].seq == 2
    assert len(disk.calls) == 3
    assert disk.calls.count(disk.calls[0]) == 1
    spool.close()
    again = Spool(tmp_path, ROOM)
    assert [(f.seq, f.payload) for f in contents(again)] == [(1, b"first"), (2, b"second")]
    assert not again.lost()
    again.close()


def test_a_number_whose_frame_the_disk_did_not_confirm_is_given_to_the_next_one_alone(
    tmp_path: Path, disk: Disk
) -> None:
    """Even when the refused frame's bytes did reach the disk and cannot be cut off."""
    spool = Spool(tmp_path, ROOM)
    spool.append([frame(payload=b"first")])
    disk.fails("ftruncate", 99)
    disk.fails("fdatasync", 2)
    with pytest.raises(CrowError) as caught:
        spool.append([frame(payload=b"refused") for _ in range(3)])
    assert caught.value.kind is Kind.UNAVAILABLE
    assert seqs(spool) == [1]
    assert spool.append([frame(payload=b"second")])[0].seq == 2
    expected = [(1, b"first"), (2, b"second")]
    assert [(f.seq, f.payload) for f in contents(spool)] == expected
    spool.close()
    again = Spool(tmp_path, ROOM)
    assert [(f.seq, f.payload) for f in contents(again)] == expected
    assert again.append([frame()])[0].seq == 3
    assert not again.lost()
    again.close()


def test_what_is_not_read_is_tried_again_and_only_then_given_up(tmp_path: Path, disk: Disk) -> None:
    spool = Spool(tmp_path, ROOM)
    spool.append([frame(), frame(), frame()])
    assert seqs(spool) == [1, 2, 3]
    for failures, left in ((2, [1, 2, 3]), (3, [2, 3])):
        disk.fails("pread", failures)
        for _ in range(2):
            with pytest.raises(CrowError) as caught:
                contents(spool)
            assert caught.value.kind is Kind.UNAVAILABLE
        assert seqs(spool) == left
    assert [(lost.reason, lost.frames) for lost in spool.lost()] == [(HoleReason.CORRUPT, 1)]
    spool.close()


def test_a_disk_that_takes_no_notes_keeps_no_frame_from_being_delivered(tmp_path: Path, disk: Disk) -> None:
    spool = Spool(tmp_path, ROOM)
    spool.append([frame() for _ in range(5)])
    (epoch,) = spool.epochs()
    with disk.patch.context() as patch:
        patch.setattr(os, "writev", refuses)
        spool.release(epoch, {"till": 3})
        assert "Input/output error" in str(spool.trouble)
        assert seqs(spool) == [4, 5]
    spool.release(epoch, {"till": 4})
    assert spool.trouble is None
    spool.close()
    again = Spool(tmp_path, ROOM)
    assert seqs(again) == [5]
    again.close()


def refuses(*_: object) -> int:
    raise OSError(errno.EIO, "Input/output error")
