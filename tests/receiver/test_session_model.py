"""Session actors and store against arbitrary orders of arrival, clocks that jump, and restarts.

Each frame ends in exactly one session, each analysis in exactly one batch, and the latest revisions add up, whatever
happens. A wrong variant is kept as control: the model must catch it.
"""

import asyncio
import itertools
import json
import shutil
import sqlite3
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from conftest import ManualClock
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from receiver_parts import GAP_S, GAP_US, HOUR_US, SECOND_US, analysis, frame_at, known_camera

from crow_receiver.queue.port import INTERACTION_QUEUE
from crow_receiver.session import actor
from crow_receiver.session.directory import SessionDirectory
from crow_receiver.session.records import BatchLimits, Outcome
from crow_receiver.store import frames, sessions
from crow_receiver.store.arrivals import Arrival, store_stream
from crow_receiver.store.frames import next_frames
from crow_receiver.store.sessions import HOUR_US as HOUR_LENGTH_US
from crow_receiver.store.sessions import Span
from crow_receiver.store.store import Store

MEMORY = Path("/dev/shm")
LIMITS = BatchLimits(frames=3, age_s=30)
OFFSETS_S = st.one_of(
    st.integers(-3, 3).map(lambda near: 3600 + near),  # around the end of the hour
    st.integers(0, 20).map(lambda minutes: minutes * 60),
    st.integers(0, 3 * 3600),
)


class Sessions(RuleBasedStateMachine):
    """Two cameras, and a test that decides when an analysis is done."""

    def __init__(self) -> None:
        super().__init__()
        self.directory_path = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None))
        self.clock = ManualClock()
        self.runner = asyncio.Runner()
        self.seqs: Counter[str] = Counter()
        self.sent: list[tuple[str, int, int]] = []
        self.runner.run(self._open())

    async def _open(self) -> None:
        self.store = Store(self.directory_path)
        self.directory = SessionDirectory(self.store, self.clock, LIMITS, GAP_S, lambda: None, lambda: None)
        await self.directory.resume()

    async def _close(self) -> None:
        await self.directory.stop()
        assert not self.directory.failed.done()
        self.store.close()

    async def _arrive(self, arrived: list[tuple[str, int, int]], *, told: bool = True) -> None:
        now_us = self.clock.now_us()
        group = [
            Arrival(await known_camera(self.store, camera_id), frame_at(capture_us, seq, camera_id), now_us)
            for camera_id, seq, capture_us in arrived
        ]
        for camera, stored in await self.store.write(lambda tx: store_stream(tx, "epoch", group, GAP_US)):
            if told:
                self.directory.stored(camera, stored)

    def _sent(self, camera_id: str, offset_us: int) -> tuple[str, int, int]:
        self.seqs[camera_id] += 1
        self.sent.append((camera_id, self.seqs[camera_id], HOUR_US + offset_us))
        return self.sent[-1]

    async def _finish(self, index: int, *, failed: bool, twice: bool = False) -> bool:
        waiting = await self.store.read(lambda db: [*_all_pending(db)])
        if not waiting:
            return False
        frame = waiting[index % len(waiting)]
        outcome = Outcome(frame, failure="no picture") if failed else Outcome(frame, analysis())
        for _ in range(2 if twice else 1):
            await self.directory.finished(frame.camera.id, frame.session_id, outcome)
        return True

    @rule(camera_id=st.sampled_from(["till", "door"]), offset_s=OFFSETS_S, microsecond=st.sampled_from([0, -1, 1]))
    def a_frame_arrives(self, camera_id: str, offset_s: int, microsecond: int) -> None:
        self.runner.run(self._arrive([self._sent(camera_id, offset_s * SECOND_US + microsecond)]))

    @rule(order=st.lists(st.tuples(st.sampled_from(["till", "door"]), OFFSETS_S), min_size=2, max_size=6))
    def frames_arrive_together(self, order: list[tuple[str, int]]) -> None:
        self.runner.run(self._arrive([self._sent(camera_id, offset_s * SECOND_US) for camera_id, offset_s in order]))

    @rule(camera_id=st.sampled_from(["till", "door"]), offset_s=OFFSETS_S, count=st.integers(2, 6))
    def a_stretch_arrives(self, camera_id: str, offset_s: int, count: int) -> None:
        stretch = [self._sent(camera_id, (offset_s + index * 20) * SECOND_US) for index in range(count)]
        self.runner.run(self._arrive(stretch))

    @rule(index=st.integers(0, 100), count=st.integers(1, 4))
    def frames_come_again(self, index: int, count: int) -> None:
        if self.sent:
            first = index % len(self.sent)
            self.runner.run(self._arrive(self.sent[first : first + count]))

    @rule(index=st.integers(0, 100), failed=st.booleans(), twice=st.booleans())
    def an_analysis_is_done(self, index: int, failed: bool, twice: bool) -> None:
        self.runner.run(self._finish(index, failed=failed, twice=twice))

    @rule(seconds=st.sampled_from([1, 6, 30, 301]))
    def time_passes(self, seconds: int) -> None:
        self.clock.advance(seconds)
        self.runner.run(asyncio.sleep(0.004))

    @rule(seconds=st.sampled_from([-7200, -60, 60, 7200]))
    def the_clock_jumps(self, seconds: int) -> None:
        self.clock.jump(seconds)
        self.runner.run(asyncio.sleep(0.004))

    @rule(lost=st.booleans(), offset_s=OFFSETS_S)
    def the_receiver_restarts(self, lost: bool, offset_s: int) -> None:
        """Perhaps just after a frame was stored, before its session heard of it."""
        if lost:
            self.runner.run(self._arrive([self._sent("till", offset_s * SECOND_US)], told=False))
        self.runner.run(self._close())
        self.runner.run(self._open())

    def teardown(self) -> None:
        try:
            self.runner.run(self._settle())
            with sqlite3.connect(self.directory_path / "receiver.db") as db:
                self._check(db)
            db.close()
        finally:
            self.runner.run(self._close())
            self.runner.close()
            shutil.rmtree(self.directory_path)

    async def _settle(self) -> None:
        while await self._finish(0, failed=False):
            pass
        async with asyncio.timeout(10):
            while self.directory.open_sessions:
                self.clock.advance(GAP_S)
                await asyncio.sleep(0.005)

    def _check(self, db: sqlite3.Connection) -> None:
        rows = db.execute(
            "select c.camera_id, f.seq, f.session_id, f.frame_index, f.capture_us, f.state from frame as f "
            "join camera as c on c.id = f.camera"
        ).fetchall()
        assert sorted((camera, seq, capture_us) for camera, seq, _, _, capture_us, _ in rows) == sorted(self.sent)
        spans = self._check_sessions(db, rows)
        self._check_messages(db, rows, spans)

    def _check_sessions(self, db: sqlite3.Connection, rows: list[tuple]) -> dict[str, int]:
        found = db.execute(
            "select id, camera, hour_us, first_capture_us, last_capture_us, state, closings from session order by 2, 4"
        ).fetchall()
        by_id = {row[0]: row for row in found}
        for _, _, session_id, _, capture_us, _ in rows:
            _, _, hour_us, first_us, last_us, _, _ = by_id[session_id]
            assert hour_us <= first_us <= capture_us <= last_us < hour_us + HOUR_LENGTH_US
        for one, other in itertools.pairwise(found):
            assert one[1] != other[1] or one[4] < other[3], "two sessions of a camera overlap"
        assert {row[5] for row in found} <= {"closed"}
        return {row[0]: row[6] for row in found}

    def _check_messages(self, db: sqlite3.Connection, rows: list[tuple], closings: dict[str, int]) -> None:
        bodies = [
            (queue, json.loads(body))
            for queue, body in db.execute("select queue, body from outbox join outbox_content using (id) order by id")
        ]
        told: Counter[tuple[str, int]] = Counter()
        batches: dict[str, list[int]] = defaultdict(list)
        windows: dict[str, dict[int, dict]] = defaultdict(dict)
        summaries: dict[str, list[dict]] = defaultdict(list)
        for queue, body in bodies:
            session_id = body["sessionId"]
            if queue == INTERACTION_QUEUE:
                batches[session_id].append(body["batchIndex"])
                told.update((session_id, frame["frameIndex"]) for frame in body["frameAnalyses"])
            elif body["kind"] == "window":
                before = windows[session_id].get(body["windowStart"])
                assert body["revision"] == (before["revision"] + 1 if before else 0)
                windows[session_id][body["windowStart"]] = body
            else:
                summaries[session_id].append(body)
        assert told == Counter((session, index) for _, _, session, index, _, state in rows if state == "analysed")
        for session_id, times in closings.items():
            counts = Counter(state for _, _, session, _, _, state in rows if session == session_id)
            expected = {"analysed": counts["analysed"], "failed": counts["failed"]}
            assert batches[session_id] == list(range(len(batches[session_id])))
            assert [summary["revision"] for summary in summaries[session_id]] == list(range(times))
            assert summaries[session_id][-1]["frames"] == expected
            assert summaries[session_id][-1]["batches"] == len(batches[session_id])
            assert summaries[session_id][-1]["minutes"] == len(windows[session_id])
            for end, frames_of_it in expected.items():
                assert sum(window["frames"][end] for window in windows[session_id].values()) == frames_of_it


def _all_pending(db: sqlite3.Connection) -> list[frames.PendingFrame]:
    found = next_frames(db, 2**62)
    return [
        frame
        for row in found
        for frame in frames.waiting_since(db, row.camera.id, 2**62, 1000)
    ]  # fmt: skip


LIGHT = settings(
    max_examples=25,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.fixture(autouse=True)
def _quick_actors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actor, "TICK_S", 0.001)


def test_every_frame_ends_in_one_session_and_one_batch_and_the_latest_revisions_add_up() -> None:
    run_state_machine_as_test(Sessions, settings=LIGHT)


def test_the_model_catches_a_session_that_runs_on_beyond_its_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    def of_any_hour(db: sqlite3.Connection, camera: int, _hour_us: int) -> list[Span]:
        rows = db.execute(
            "select id, first_capture_us, last_capture_us, frames, 0 from session where camera = ?", (camera,)
        )
        return [Span(*row) for row in rows]

    monkeypatch.setattr(sessions, "spans", of_any_hour)
    generating = settings(LIGHT, max_examples=100, phases=[Phase.generate], database=None)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(Sessions, settings=generating)
