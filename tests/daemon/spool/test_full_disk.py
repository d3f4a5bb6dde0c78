"""A disk that is really full, and one that becomes read-only: the spool lives, says so, and goes on after."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from spool_parts import contents, frame, segments, seqs

from crow_daemon.spool.limits import DropPolicy, SpoolLimits
from crow_daemon.spool.spool import Spool
from crow_shared.errors import CrowError, Kind

DISK_BYTES = 4 << 20
PICTURE = 100_000
UNBOUNDED = SpoolLimits(1 << 40)
KEEP = SpoolLimits(1 << 40, drop=DropPolicy.NEWEST)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=700", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a tmpfs")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def remount(disk: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], check=True)


def fill(disk: Path) -> Path:
    """Takes every byte that is left."""
    ballast = disk / "ballast"
    with ballast.open("ab", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    assert os.statvfs(disk).f_bavail == 0
    return ballast


def big(index: int = 0) -> list[bytes]:
    return [bytes([index % 256]) * PICTURE]


def put(spool: Spool, count: int = 1) -> int:
    """Appends frames one by one; the last number."""
    for index in range(count):
        (stored,) = spool.append([frame(payload=bytes([index % 256]) * PICTURE)])
    return stored.seq


def refused(call: Callable[[], object]) -> CrowError:
    with pytest.raises(CrowError) as caught:
        call()
    return caught.value


def numbers_add_up(spool: Spool) -> bool:
    """Every number is acknowledged, waits, or is counted as lost."""
    (total,) = spool.totals()
    return total.last_seq == total.acked_seq + len(seqs(spool)) + sum(lost.frames for lost in spool.lost())


@pytest.mark.parametrize("segment_bytes", [500_000, 32 << 20], ids=["many segments", "one segment"])
def test_drop_oldest_goes_on_for_ever_on_a_full_disk(disk: Path, segment_bytes: int) -> None:
    spool = Spool(disk / "spool", UNBOUNDED, segment_bytes=segment_bytes)
    assert put(spool, 200) == 200
    assert numbers_add_up(spool)
    assert seqs(spool)[-1] == 200
    assert spool.stored_bytes <= DISK_BYTES
    seen = (contents(spool), spool.lost())
    spool.close()
    spool = Spool(disk / "spool", UNBOUNDED, segment_bytes=segment_bytes)
    assert (contents(spool), spool.lost()) == seen
    assert put(spool) == 201
    spool.close()


@pytest.mark.parametrize("segment_bytes", [500_000, 32 << 20], ids=["many segments", "one segment"])
def test_without_a_free_byte_at_opening_the_spool_delivers_and_drops_the_oldest(disk: Path, segment_bytes: int) -> None:
    spool = Spool(disk / "spool", UNBOUNDED, segment_bytes=segment_bytes)
    put(spool, 20)
    spool.close()
    fill(disk)
    spool = Spool(disk / "spool", UNBOUNDED, segment_bytes=segment_bytes)
    (epoch,) = spool.epochs()
    assert seqs(spool) == list(range(1, 21))
    spool.release(epoch, {"till": 2})
    assert put(spool, 30) == 50
    assert numbers_add_up(spool)
    spool.close()
    spool = Spool(disk / "spool", UNBOUNDED, segment_bytes=segment_bytes)
    assert numbers_add_up(spool)
    assert put(spool) == 51
    spool.close()


def test_drop_newest_keeps_what_waits_and_takes_frames_again_after_delivery(disk: Path) -> None:
    spool = Spool(disk / "spool", KEEP, segment_bytes=500_000)
    with pytest.raises(CrowError) as caught:
        put(spool, 200)
    assert caught.value.kind is Kind.EXHAUSTED
    (epoch,) = spool.epochs()
    kept = seqs(spool)
    assert kept == list(range(1, len(kept) + 1))
    assert len(kept) > 30
    spool.close()
    fill(disk)
    spool = Spool(disk / "spool", KEEP, segment_bytes=500_000)
    assert seqs(spool) == kept
    assert refused(lambda: put(spool)).kind is Kind.EXHAUSTED
    spool.release(epoch, {"till": 12})
    assert put(spool) == len(kept) + 1
    assert not spool.lost()
    assert numbers_add_up(spool)
    spool.close()


def test_all_that_waits_can_be_delivered_without_a_free_byte(disk: Path) -> None:
    spool = Spool(disk / "spool", KEEP, segment_bytes=500_000)
    put(spool, 20)
    (epoch,) = spool.epochs()
    fill(disk)
    for seq in range(1, 21):
        assert seqs(spool)[0] == seq
        spool.release(epoch, {"till": seq})
    assert put(spool) == 21
    assert spool.trouble is None
    spool.close()


def test_room_for_others_is_left_on_the_disk(disk: Path) -> None:
    spool = Spool(disk / "spool", SpoolLimits(1 << 40, min_free_bytes=2 << 20), segment_bytes=500_000)
    put(spool, 60)
    system = os.statvfs(disk)
    assert 2 << 20 <= system.f_bavail * system.f_frsize < 3 << 20
    assert numbers_add_up(spool)
    ballast = fill(disk)
    error = refused(lambda: put(spool))  # what others took cannot be given back
    assert error.kind is Kind.EXHAUSTED
    assert len(segments(disk / "spool")) == 1
    ballast.unlink()
    assert put(spool) == 61
    assert numbers_add_up(spool)
    spool.close()


def test_a_disk_that_becomes_read_only_is_lived_through(disk: Path) -> None:
    spool = Spool(disk / "spool", UNBOUNDED, segment_bytes=500_000)
    put(spool, 10)
    (epoch,) = spool.epochs()
    spool.close()  # a file open for writing would keep the disk from becoming read-only
    spool = Spool(disk / "spool", UNBOUNDED, segment_bytes=500_000)
    remount(disk, "ro")
    assert refused(lambda: put(spool)).kind is Kind.UNAVAILABLE
    assert refused(spool.start_epoch).kind is Kind.UNAVAILABLE
    assert seqs(spool) == list(range(1, 11))
    spool.release(epoch, {"till": 7})
    assert "Read-only" in str(spool.trouble)
    assert seqs(spool) == [8, 9, 10]
    remount(disk, "rw")
    assert put(spool) == 11
    spool.release(epoch, {"till": 9})
    assert spool.trouble is None
    assert len(segments(disk / "spool")) == 2
    spool.close()
    spool = Spool(disk / "spool", UNBOUNDED, segment_bytes=500_000)
    assert seqs(spool) == [10, 11]
    assert not spool.lost()
    spool.close()


def test_a_spool_opens_on_a_read_only_disk_and_delivers(disk: Path) -> None:
    spool = Spool(disk / "spool", UNBOUNDED)
    put(spool, 3)
    spool.close()
    remount(disk, "ro")
    spool = Spool(disk / "spool", UNBOUNDED)
    assert seqs(spool) == [1, 2, 3]
    assert refused(lambda: put(spool)).kind is Kind.UNAVAILABLE
    remount(disk, "rw")
    assert put(spool) == 4
    spool.close()
