"""The spool against a model: frames appended, released, refused, let go, epochs sealed, and power cut at any moment.

The disk of the model keeps what was synced. At a cut it drops any part of what was not, and files that were unlinked
since the directory was last synced may come back. A wrong variant is kept as control: the model must catch it.
"""

import os
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from uuid import UUID

import pytest
from conftest import ManualClock
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from spool_parts import frame, segments

from crow_daemon.spool.accounts import Hole, HoleReason
from crow_daemon.spool.limits import SpoolLimits
from crow_daemon.spool.segment import SegmentWriter
from crow_daemon.spool.spool import START, Spool

LIMITS = SpoolLimits(8_000)
SEGMENT_BYTES = 1_000
CAMERAS = ("a", "b")
Key = tuple[str, str, int]  # epoch, camera, number


class ForgetfulDisk:
    """Remembers what of a directory's files is synced."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.synced: dict[str, int] = {}  # bytes of each file
        self.unlinked: dict[str, bytes] = {}  # since the directory was last synced
        self._seen: dict[str, bytes] = {}

    def sync(self, descriptor: int) -> None:
        self.look()
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if path == self.directory:
            self.unlinked.clear()
        else:
            self.synced[path.name] = os.fstat(descriptor).st_size

    def look(self) -> None:
        """Takes note of files that are gone."""
        present = {path.name: path.read_bytes() for path in segments(self.directory)}
        self.unlinked |= {name: content for name, content in self._seen.items() if name not in present}
        self._seen = present

    def cut(self, data: st.DataObject) -> None:
        self.look()
        for name in sorted(self.unlinked):
            if data.draw(st.booleans(), f"{name} comes back"):
                (self.directory / name).write_bytes(self.unlinked[name])
        for path in segments(self.directory):
            size, kept = path.stat().st_size, self.synced.get(path.name, 0)
            os.truncate(path, data.draw(st.integers(min(kept, size), size), f"{path.name} keeps"))
        self.unlinked.clear()
        self._seen = {}
        self.look()
        self.synced = {path.name: path.stat().st_size for path in segments(self.directory)}


class SpoolMachine(RuleBasedStateMachine):
    """What was promised and what became of it, beside the spool."""

    def __init__(self) -> None:
        super().__init__()
        self.temporary = tempfile.TemporaryDirectory()
        self.directory = Path(self.temporary.name).resolve()
        self.disk = ForgetfulDisk(self.directory)
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(os, "fsync", self.disk.sync)
        self.patch.setattr(os, "fdatasync", self.disk.sync)
        names = count()
        self.patch.setattr("crow_daemon.spool.spool.uuid4", lambda: UUID(int=next(names)))  # the same in each replay
        self.promised: dict[Key, bytes] = {}
        self.delivered: set[Key] = set()
        self.holes: set[Key] = set()  # all that was ever seen
        self.captured: dict[str, int] = {}  # capture time of each camera's last frame
        self.open()

    def open(self) -> None:
        self.spool = Spool(self.directory, LIMITS, ManualClock(), SEGMENT_BYTES)

    def teardown(self) -> None:
        self.spool.close()
        self.patch.undo()
        self.temporary.cleanup()

    @rule(cameras=st.lists(st.sampled_from(CAMERAS), min_size=1, max_size=4), size=st.integers(1, 900))
    def append(self, cameras: list[str], size: int) -> None:
        group = [
            frame(camera, bytes([(len(self.promised) + index) % 256]) * size, capture_us=len(self.promised) + index)
            for index, camera in enumerate(cameras)
        ]
        for stored in self.spool.append(group):
            key = (self.spool.epochs()[-1], stored.camera_id, stored.seq)
            assert key not in self.promised, f"{key} was given out twice"
            self.promised[key] = stored.payload
            self.captured[stored.camera_id] = stored.capture_us

    @precondition(lambda self: self.promised)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        epoch = data.draw(st.sampled_from(self.spool.epochs()))
        through = {mark.camera_id: data.draw(st.integers(0, mark.last_seq)) for mark in self.spool.marks(epoch)}
        self.delivered |= {(epoch, camera, number) for camera, seq in through.items() for number in range(1, seq + 1)}
        self.spool.release(epoch, through)

    @precondition(lambda self: self.promised)
    @rule(data=st.data())
    def refuse(self, data: st.DataObject) -> None:
        epoch = data.draw(st.sampled_from(self.spool.epochs()))
        for mark in self.spool.marks(epoch)[:1]:
            seq = data.draw(st.integers(1, mark.last_seq))
            self.spool.give_up(epoch, Hole(mark.camera_id, seq, seq, HoleReason.REFUSED, "bad"))

    @rule()
    def seal(self) -> None:
        self.spool.start_epoch()

    @precondition(lambda self: self.promised)  # the name of an epoch without numbers is not kept
    @rule()
    def reopen(self) -> None:
        before = (self.spool.epochs(), self.spool.lost(), self.spool.totals(), self.found())
        self.spool.close()
        self.open()
        assert (self.spool.epochs(), self.spool.lost(), self.spool.totals(), self.found()) == before

    @rule(data=st.data())
    def cut_the_power(self, data: st.DataObject) -> None:
        self.spool.close()
        self.disk.cut(data)
        self.open()
        assert not (set(self.seen_holes()) - self.holes) & self.delivered, "delivered, and counted as lost"
        # A refusal that was not synced is forgotten; the receiver will tell it again.
        self.holes -= self.found().keys()

    def found(self) -> dict[Key, bytes]:
        return {
            (epoch, spooled.frame.camera_id, spooled.frame.seq): spooled.frame.payload
            for epoch in self.spool.epochs()
            for spooled in self.spool.read(epoch, START, 10_000)
        }

    def seen_holes(self) -> Iterator[Key]:
        for epoch in self.spool.epochs():
            for mark in self.spool.marks(epoch):
                for hole in self.spool.holes(epoch, mark.camera_id, 1, mark.last_seq):
                    yield from ((epoch, mark.camera_id, seq) for seq in range(hole.from_seq, hole.to_seq + 1))

    @invariant()
    def everything_promised_is_delivered_waits_or_is_counted_as_lost(self) -> None:
        found, holes = self.found(), set(self.seen_holes())
        self.holes |= holes
        assert all(self.promised[key] == payload for key, payload in found.items() if key in self.promised)
        assert not found.keys() & holes
        for key in self.promised.keys() - self.delivered - found.keys():
            assert key in self.holes, f"{key} is nowhere"
        assert sum(lost.frames for lost in self.spool.lost()) == len(self.holes)

    @invariant()
    def every_number_of_an_epoch_is_in_one_state(self) -> None:
        found, holes = self.found(), set(self.seen_holes())
        for epoch in self.spool.epochs():
            for mark in self.spool.marks(epoch):
                for seq in range(mark.acked_seq + 1, mark.last_seq + 1):
                    key = (epoch, mark.camera_id, seq)
                    assert (key in found) != (key in holes), key
        assert sum(self.spool.waiting().values()) == len(found)

    @invariant()
    def the_last_capture_time_of_each_camera_is_known(self) -> None:
        assert {camera: self.spool.last_capture_us(camera) for camera in self.captured} == self.captured

    @invariant()
    def the_bound_holds(self) -> None:
        stored = sum(path.stat().st_size for path in segments(self.directory))
        assert stored == self.spool.stored_bytes <= LIMITS.max_bytes + 4 * 1_100


class ForgetsToSync(SpoolMachine):
    """Control: a spool that promises before the disk has it."""

    def __init__(self) -> None:
        super().__init__()
        self.patch.setattr(SegmentWriter, "sync", lambda _: None)


SETTINGS = settings(max_examples=80, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck))


def test_the_spool_agrees_with_its_model() -> None:
    run_state_machine_as_test(SpoolMachine, settings=SETTINGS)


def test_the_model_catches_a_spool_that_does_not_sync() -> None:
    with pytest.raises(AssertionError):
        run_state_machine_as_test(ForgetsToSync, settings=settings(SETTINGS, phases=[Phase.generate], max_examples=200))
