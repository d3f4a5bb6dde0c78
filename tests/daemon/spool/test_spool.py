"""The spool's promises: durable before promised, bounded, every number accounted for."""

import errno
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from crow_daemon.spool.spool import Hole, HoleReason, Spool
from crow_shared.errors import CrowError, Kind
from crow_shared.frame import Frame, TimeSource


def frame(camera_id: str = "till", payload: bytes = b"picture", capture_us: int = 1) -> Frame:
    return Frame.of_picture(camera_id, capture_us, TimeSource.ARRIVAL, 4, 3, payload)


def test_numbers_rise_by_one_per_camera_across_restarts(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 1 << 20)
    first = spool.append([frame("till"), frame("door"), frame("till")])
    assert [(f.camera_id, f.seq) for f in first] == [("till", 1), ("door", 1), ("till", 2)]
    epoch = spool.epoch
    spool.release({"till": 2})
    spool.close()
    again = Spool(tmp_path, 1 << 20)
    assert again.epoch == epoch
    assert [f.seq for f in again.append([frame("till"), frame("door")])] == [3, 2]
    again.close()


def test_frames_come_back_whole_and_in_order(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 1 << 20)
    stored = spool.append([frame("till", bytes([index]) * 100, index) for index in range(20)])
    first = spool.read(0, 15)
    rest = spool.read(first[-1].position, 15)
    assert [spooled.frame for spooled in first + rest] == stored
    spool.close()


def test_the_bound_holds_and_what_was_let_go_is_accounted_for(tmp_path: Path) -> None:
    spool = Spool(tmp_path, max_bytes=10_000, segment_bytes=2_000)
    for _ in range(100):
        spool.append([frame(payload=b"x" * 500)])
    left = [spooled.frame.seq for spooled in spool.read(0, 1000)]
    (lost,) = spool.lost()
    assert spool.stored_bytes <= 12_000
    assert sum(path.stat().st_size for path in (tmp_path / "segments").iterdir()) <= 12_500
    assert left == list(range(left[0], 101))
    assert (lost.reason, lost.frames) == (HoleReason.SPOOL_FULL, left[0] - 1)
    holes = spool.holes("till", 1, 100)
    assert [seq for hole in holes for seq in range(hole.from_seq, hole.to_seq + 1)] == list(range(1, left[0]))
    spool.close()


def test_a_flipped_bit_costs_one_frame_and_is_counted(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 1 << 20)
    spool.append([frame(payload=bytes([index]) * 100) for index in range(3)])
    (path,) = (tmp_path / "segments").iterdir()
    data = bytearray(path.read_bytes())
    data[150] ^= 1
    path.write_bytes(data)
    assert [spooled.frame.seq for spooled in spool.read(0, 10)] == [1, 3]
    assert [(lost.reason, lost.frames) for lost in spool.lost()] == [(HoleReason.CORRUPT, 1)]
    assert [(hole.from_seq, hole.to_seq, hole.reason) for hole in spool.holes("till", 1, 3)] == [
        (2, 2, HoleReason.CORRUPT)
    ]
    spool.close()


def test_a_long_time_without_receiver_is_one_hole_per_camera(tmp_path: Path) -> None:
    spool = Spool(tmp_path, max_bytes=10_000, segment_bytes=2_000)
    for _ in range(100):
        spool.append([frame(camera, b"x" * 500) for camera in ("till", "door")])
    for camera in ("till", "door"):
        (hole,) = spool.holes(camera, 1, 100)
        (lost,) = [lost for lost in spool.lost() if lost.camera_id == camera]
        assert (hole.from_seq, hole.to_seq) == (1, lost.frames)
    spool.close()


def test_a_frame_refused_after_it_was_let_go_changes_no_hole(tmp_path: Path) -> None:
    spool = Spool(tmp_path, max_bytes=10_000, segment_bytes=2_000)
    for _ in range(30):
        spool.append([frame(payload=b"x" * 500)])
    before = spool.holes("till", 1, 30)
    spool.give_up(Hole("till", 1, 1, HoleReason.REFUSED, "bad"))
    assert spool.holes("till", 1, 30) == before
    spool.close()


def test_an_attempt_on_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    spool = Spool(tmp_path, 1 << 20)
    for _ in range(3):
        with monkeypatch.context() as disk:
            disk.setattr(os, "write", full)
            with pytest.raises(CrowError):
                spool.append([frame()])
    assert list((tmp_path / "segments").iterdir()) == []
    assert [stored.seq for stored in spool.append([frame()])] == [1]
    spool.close()


def test_a_second_daemon_does_not_get_the_same_spool(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 1 << 20)
    with pytest.raises(CrowError) as caught:
        Spool(tmp_path, 1 << 20)
    assert caught.value.kind is Kind.CONFLICT
    spool.close()


def test_segments_without_frames_are_removed(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 1 << 20, segment_bytes=100)
    spool.append([frame(payload=b"x" * 100) for _ in range(5)])
    spool.release({"till": 4})
    assert len(list((tmp_path / "segments").iterdir())) == 1
    spool.close()
    (tmp_path / "segments" / "000000000099.seg").write_bytes(b"left by a crash before the row was committed")
    again = Spool(tmp_path, 1 << 20)
    assert [spooled.frame.seq for spooled in again.read(0, 9)] == [5]
    assert not (tmp_path / "segments" / "000000000099.seg").exists()
    again.close()


def test_only_the_owner_may_read_pictures(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", 1 << 20)
    spool.append([frame()])
    spool.close()
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "spool").rglob("*") if path.is_file())


def test_a_spool_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CrowError) as caught:
        Spool(tmp_path / "file" / "spool", 1 << 20)
    assert caught.value.kind is Kind.UNAVAILABLE


WRITER = """
import sys
import tempfile
from pathlib import Path
from crow_daemon.spool.spool import Spool
from crow_shared.frame import Frame, TimeSource
spool = Spool(Path(sys.argv[1]), 1 << 30, 100_000)
while True:
    stored = spool.append([Frame.of_picture("till", 1, TimeSource.ARRIVAL, 4, 3, b"x" * 3000) for _ in range(4)])
    print(stored[-1].seq, flush=True)
"""


def test_what_was_promised_survives_a_kill(tmp_path: Path) -> None:
    """kill -9 while writing, again and again: every number that was printed is there, intact and in order."""
    promised = 0
    for kill_after in (1, 7, 20):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            for _ in range(kill_after):
                promised = int(writer.stdout.readline())
            os.kill(writer.pid, signal.SIGKILL)
            tail = writer.stdout.read().split()
            promised = int(tail[-1]) if tail else promised
    spool = Spool(tmp_path, 1 << 30)
    found = [spooled.frame.seq for spooled in spool.read(0, 100_000)]
    assert found == list(range(1, len(found) + 1))
    assert len(found) >= promised
    assert not spool.lost()
    spool.close()


class SpoolMachine(RuleBasedStateMachine):
    """The spool against a model: a list of frames, a set of accounted losses."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.spool = Spool(Path(self.directory.name), 6_000, segment_bytes=1_000)
        self.given: dict[str, int] = {}
        self.released: dict[str, int] = {}

    def teardown(self) -> None:
        self.spool.close()
        self.directory.cleanup()

    @rule(cameras=st.lists(st.sampled_from(["a", "b"]), min_size=1, max_size=4), size=st.integers(1, 900))
    def append(self, cameras: list[str], size: int) -> None:
        for stored in self.spool.append([frame(camera, bytes(size)) for camera in cameras]):
            self.given[stored.camera_id] = self.given.get(stored.camera_id, 0) + 1
            assert stored.seq == self.given[stored.camera_id]

    @precondition(lambda self: self.given)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        camera = data.draw(st.sampled_from(sorted(self.given)))
        through = data.draw(st.integers(1, self.given[camera]))
        self.spool.release({camera: through})
        self.released[camera] = max(self.released.get(camera, 0), through)

    @precondition(lambda self: self.given)
    @rule(data=st.data())
    def refuse(self, data: st.DataObject) -> None:
        camera = data.draw(st.sampled_from(sorted(self.given)))
        seq = data.draw(st.integers(1, self.given[camera]))
        if seq > self.released.get(camera, 0):
            self.spool.give_up(Hole(camera, seq, seq, HoleReason.REFUSED, "bad"))

    @rule()
    def reopen(self) -> None:
        self.spool.close()
        self.spool = Spool(Path(self.directory.name), 6_000, segment_bytes=1_000)

    @invariant()
    def every_number_is_waiting_released_or_a_hole(self) -> None:
        waiting = {(s.frame.camera_id, s.frame.seq) for s in self.spool.read(0, 10_000)}
        for camera, last in self.given.items():
            holes = {seq for hole in self.spool.holes(camera, 1, last) for seq in range(hole.from_seq, hole.to_seq + 1)}
            for seq in range(self.released.get(camera, 0) + 1, last + 1):
                assert ((camera, seq) in waiting) != (seq in holes), (camera, seq)

    @invariant()
    def the_bound_holds(self) -> None:
        stored = sum(len(s.frame.payload) for s in self.spool.read(0, 10_000))
        assert self.spool.stored_bytes == stored <= 7_000


SpoolMachine.TestCase.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
test_the_spool_agrees_with_its_model = SpoolMachine.TestCase
