"""Worker processes under their supervisor: what they survive, and what a caller is told."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
import structlog
from faulty_worker import PROGRAM, SLOTS
from vision_parts import gone, request, shop_picture

from crow_receiver.vision.supervisor import process, workers
from crow_receiver.vision.supervisor.job import Limits
from crow_receiver.vision.supervisor.workers import WorkerVision
from crow_receiver.vision.worker.protocol import WorkerConfig
from crow_shared.errors import CrowError, Kind

CLASSIC = WorkerConfig(engine="classic")
FAULTY = WorkerConfig(engine="llama")  # of which there may be several workers; the program runs another engine
LIMITS = Limits(deadline_s=20)
PICTURE = shop_picture()


@pytest.fixture
async def vision() -> AsyncIterator[WorkerVision]:
    started = WorkerVision(CLASSIC, limits=LIMITS)
    await started.start()
    yield started
    await started.close()


@pytest.fixture
async def faulty() -> AsyncIterator[WorkerVision]:
    started = WorkerVision(FAULTY, limits=LIMITS, program=PROGRAM)
    await started.start()
    yield started
    await started.close()


async def failure(call: Awaitable[object]) -> CrowError:
    with pytest.raises(CrowError) as caught:
        await call
    return caught.value


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def asked(vision: WorkerVision, fault: str, second: float = 0) -> "asyncio.Task[str]":
    """A frame of a camera whose name tells the faulty engine what to do; the answer's description."""

    async def said() -> str:
        return (await vision.describe(request(PICTURE, second, camera=fault))).scene.description

    return asyncio.create_task(said())


def under_way(vision: WorkerVision) -> int:
    return sum(worker.frames for worker in vision._workers.values())


def words(vision: WorkerVision) -> list[str]:
    """What the workers that run have said on standard error."""
    return [line for worker in vision._workers.values() for line in worker.last_words]


async def test_a_frame_comes_back_described_with_who_said_so(vision: WorkerVision) -> None:
    analysis = await vision.describe(request(PICTURE))
    assert analysis.scene.description
    assert (analysis.provenance.engine, analysis.provenance.model) == ("classic", None)
    assert analysis.provenance.limits
    assert vision.engine_name == "classic"


async def test_what_a_frame_took_comes_back_with_it(faulty: WorkerVision) -> None:
    analysis = await faulty.describe(request(PICTURE, camera="slow 0.1"))
    assert analysis.provenance.usage.answer_tokens == 7
    assert analysis.provenance.duration_ms >= 100


async def test_a_worker_remembers_a_camera_from_frame_to_frame(vision: WorkerVision) -> None:
    first = await vision.describe(request(PICTURE, 0))
    second = await vision.describe(request(PICTURE, 1))
    assert "no reference yet" in first.scene.description
    assert "no reference yet" not in second.scene.description


async def test_several_frames_are_under_way_at_once_and_answered_as_they_end(faulty: WorkerVision) -> None:
    assert faulty.slots == SLOTS
    never = asked(faulty, "never")
    late, early = asked(faulty, "slow 0.3"), asked(faulty, "slow 0.1", 1)
    assert faulty.has_room()
    done, _ = await asyncio.wait([late, early], return_when=asyncio.FIRST_COMPLETED)
    assert done == {early}
    assert await late == "slow 0.3"
    assert not never.done()
    never.cancel()


async def test_no_more_frames_are_under_way_than_there_are_slots(faulty: WorkerVision) -> None:
    frames = [asked(faulty, "slow 0.1", second) for second in range(3 * SLOTS)]
    await asyncio.sleep(0)
    assert not faulty.has_room()
    await asyncio.gather(*frames)
    beside = [int(line.rpartition(" ")[2]) for line in words(faulty) if line.startswith("begin")]
    assert max(beside) == SLOTS - 1


async def test_what_the_engine_says_of_a_bad_frame_arrives_as_it_was_and_the_worker_goes_on(
    vision: WorkerVision,
) -> None:
    pids = vision.pids
    half = await failure(vision.describe(request(PICTURE[: len(PICTURE) // 2] + b"\xff\xd9")))
    assert (half.kind, half.code, half.retryable) == (Kind.CORRUPT, "picture_corrupt", False)
    bomb = PICTURE.replace(b"\x01\x68\x02\x80", b"\xff\xdc\xff\xdc", 1)
    assert bomb != PICTURE, "the height and width were where they are expected"
    assert (await failure(vision.describe(request(bomb)))).kind is Kind.TOO_LARGE
    assert (await failure(vision.describe(request(b"not a picture")))).kind is Kind.INVALID
    assert await vision.describe(request(PICTURE))
    assert vision.pids == pids


async def test_a_frame_that_the_engine_refuses_disturbs_no_other(faulty: WorkerVision) -> None:
    other = asked(faulty, "slow 0.1")
    refused = await failure(asked(faulty, "refuse"))
    assert (refused.kind, refused.code) == (Kind.INVALID, "refused")
    assert await other == "slow 0.1"


async def test_a_worker_killed_from_outside_costs_no_frame_of_several_and_answers_none_twice(
    faulty: WorkerVision,
) -> None:
    (pid,) = faulty.pids
    frames = [asked(faulty, "slow 0.3", second) for second in range(SLOTS)]
    await until(lambda: sum(line.startswith("begin") for line in words(faulty)) == SLOTS)
    os.kill(pid, signal.SIGKILL)
    assert await asyncio.gather(*frames) == ["slow 0.3"] * SLOTS
    assert faulty.pids != (pid,)
    assert [line for line in words(faulty) if line.startswith("begin")] == ["begin slow 0.3 beside 0"] * SLOTS


async def test_of_several_frames_the_one_that_kills_the_worker_is_found_and_the_others_are_described(
    faulty: WorkerVision,
) -> None:
    """The killer waits until all four are under way; each is then tried alone, and it kills once more."""
    never = asked(faulty, "never")
    killer = asked(faulty, "kill", 1)
    innocents = [asked(faulty, "slow 0.2", 2 + second) for second in range(2)]
    await until(lambda: sum(line.startswith("begin") for line in words(faulty)) == SLOTS)
    never.cancel()
    error = await failure(killer)
    assert (error.code, error.retryable) == ("worker_died", True)
    assert await asyncio.gather(*innocents) == ["slow 0.2"] * 2


async def test_a_frame_that_killed_a_worker_is_never_put_beside_others_again(faulty: WorkerVision) -> None:
    assert (await failure(asked(faulty, "kill", 1))).code == "worker_died"
    await until(lambda: faulty.pids)
    other = asked(faulty, "slow 0.3")
    again = asked(faulty, "kill", 1)
    next_one = asked(faulty, "slow 0.1", 2)
    (pid,) = faulty.pids
    assert (await failure(again)).code == "worker_died"
    assert other.done(), "it was not under way with the killer"
    assert await other == "slow 0.3"
    assert await next_one == "slow 0.1"
    assert faulty.pids != (pid,)


async def test_while_one_frame_is_tried_alone_other_workers_go_on() -> None:
    vision = WorkerVision(FAULTY, workers=2, limits=LIMITS, program=PROGRAM)
    await vision.start()
    try:
        first = asked(vision, "kill", 1)
        assert (await failure(first)).code == "worker_died"
        await until(lambda: len(vision.pids) == 2)
        held = [asked(vision, "never", second) for second in range(2, 4)]
        again = asked(vision, "kill", 1)
        assert await asked(vision, "slow 0.1", 5) == "slow 0.1"
        for frame in held:
            frame.cancel()
        assert (await failure(again)).code == "worker_died"
    finally:
        await vision.close()


async def test_a_defect_of_the_engine_ends_the_worker_and_its_words_are_in_the_log(faulty: WorkerVision) -> None:
    with structlog.testing.capture_logs() as logs:
        error = await failure(asked(faulty, "bug"))
    assert (error.code, error.message) == ("worker_died", "the vision worker ended with exit code 1")
    (ended,) = [line for line in logs if line["event"] == "vision worker ended"]
    assert "ValueError: a defect of the engine" in ended["said"]


async def test_a_worker_killed_while_idle_is_replaced_and_costs_nothing(vision: WorkerVision) -> None:
    (pid,) = vision.pids
    os.kill(pid, signal.SIGKILL)
    await until(lambda: vision.pids not in ((), (pid,)))
    assert await vision.describe(request(PICTURE))


async def test_a_frame_over_its_deadline_is_given_up_and_no_other_is_disturbed() -> None:
    vision = WorkerVision(FAULTY, limits=replace(LIMITS, deadline_s=0.5), program=PROGRAM)
    await vision.start()
    try:
        pids = vision.pids
        late = asked(vision, "never")
        await asyncio.sleep(0.3)
        other = asked(vision, "slow 0.4")
        error = await failure(late)
        assert (error.kind, error.code, error.retryable) == (Kind.TIMEOUT, "frame_deadline", True)
        assert await other == "slow 0.4"
        assert vision.pids == pids
        assert "abort never" in words(vision)
    finally:
        await vision.close()


async def test_a_worker_that_does_not_let_go_of_a_frame_is_replaced_and_the_frames_beside_it_are_tried_again() -> None:
    vision = WorkerVision(FAULTY, limits=replace(LIMITS, deadline_s=0.5, grace_s=0.3), program=PROGRAM)
    await vision.start()
    try:
        (pid,) = vision.pids
        hanging = asked(vision, "hang")
        other = asked(vision, "slow 0.4")
        error = await failure(hanging)
        assert (error.kind, error.code) == (Kind.TIMEOUT, "frame_deadline")
        assert await other == "slow 0.4"
        assert gone(pid)
    finally:
        await vision.close()


async def test_a_worker_that_says_nothing_is_killed_in_time_although_no_frame_is_late() -> None:
    vision = WorkerVision(FAULTY, limits=replace(LIMITS, silent_s=2.5), program=PROGRAM)
    await vision.start()
    try:
        (pid,) = vision.pids
        await asked(vision, "slow 1.5")  # it has been heard by then
        os.kill(pid, signal.SIGSTOP)
        began_s = asyncio.get_running_loop().time()
        error = await failure(asked(vision, "slow 0.1"))
        assert (error.code, error.message) == ("worker_died", "the vision worker said nothing for 2.5 s and was killed")
        assert asyncio.get_running_loop().time() - began_s < 2.5 + 3
        assert gone(pid)
        assert await asked(vision, "slow 0.1", 1) == "slow 0.1"
    finally:
        await vision.close()


async def test_a_worker_is_not_blamed_for_the_receivers_own_standstill(
    faulty: WorkerVision, monkeypatch: pytest.MonkeyPatch
) -> None:
    (pid,) = faulty.pids
    await asked(faulty, "slow 1.5")
    worker = faulty._workers[0]
    loop = asyncio.get_running_loop()
    now_s = loop.time()
    monkeypatch.setattr(loop, "time", lambda: now_s + 3600)
    worker._look_for_silence(now_s)
    monkeypatch.undo()
    assert worker.serves
    assert faulty.pids == (pid,)


async def test_a_worker_that_says_what_it_must_not_is_replaced() -> None:
    mad = "import sys; sys.stdin.buffer.read(9); sys.stdout.buffer.write(b'x' * 99); sys.stdout.flush(); input()"
    worker = await process.WorkerProcess.spawn((sys.executable, "-c", mad), LIMITS, lambda: None)
    assert (await failure(worker.load(CLASSIC))).code == "worker_died"
    assert "said what is no message" in await worker.ended()


async def test_a_worker_that_cannot_start_again_is_retried_with_growing_pauses(
    vision: WorkerVision, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "PAUSE_FIRST_S", 0.01)
    monkeypatch.setattr(vision, "_limits", replace(LIMITS, no_worker_s=0.2))
    monkeypatch.setattr(vision, "_program", ("/bin/false",))
    with structlog.testing.capture_logs() as logs:
        os.kill(vision.pids[0], signal.SIGKILL)
        await until(lambda: sum(line["event"] == "vision worker does not start" for line in logs) >= 3)
    pauses = [line["again_in_s"] for line in logs if line["event"] == "vision worker does not start"]
    assert pauses[2] > pauses[0]
    error = await failure(vision.describe(request(PICTURE)))
    assert (error.code, error.retryable) == ("no_worker", True)
    assert vision.trouble is not None
    monkeypatch.undo()
    await until(lambda: vision.pids)
    assert vision.trouble is None
    assert await vision.describe(request(PICTURE))


async def test_a_worker_that_is_started_again_has_as_many_slots_as_before(faulty: WorkerVision) -> None:
    assert "load with 0 slots" in words(faulty)  # of its own choice
    (pid,) = faulty.pids
    os.kill(pid, signal.SIGKILL)
    await until(lambda: faulty.pids not in ((pid,), ()))
    await until(lambda: words(faulty))
    assert words(faulty)[0] == f"load with {SLOTS} slots"
    assert faulty.slots == SLOTS


async def test_a_worker_that_is_killed_by_a_signal_without_a_name_is_replaced(faulty: WorkerVision) -> None:
    with structlog.testing.capture_logs() as logs:
        os.kill(faulty.pids[0], signal.SIGRTMIN + 5)
        await until(lambda: logs)
        assert await asked(faulty, "slow 0.1") == "slow 0.1"
    assert [line["how"] for line in logs if line["event"] == "vision worker ended"] == ["was killed by signal 39"]


async def test_what_troubles_the_engine_is_known_within_seconds_and_when_it_is_over(faulty: WorkerVision) -> None:
    await asked(faulty, "trouble its-server-is-down")
    await until(lambda: faulty.trouble == "its-server-is-down")
    await asked(faulty, "trouble ")
    await until(lambda: faulty.trouble is None)


async def test_closing_ends_all_workers_and_answers_those_who_wait(faulty: WorkerVision) -> None:
    (pid,) = faulty.pids
    frames = [asked(faulty, "never", second) for second in range(SLOTS + 2)]
    await until(lambda: under_way(faulty) == SLOTS)
    await faulty.close()
    assert gone(pid)
    assert {(await failure(frame)).code for frame in frames} == {"vision_closed"}
    assert (await failure(asked(faulty, "slow"))).code == "vision_closed"


async def test_a_call_that_is_cancelled_has_the_worker_forget_the_frame(faulty: WorkerVision) -> None:
    pids = faulty.pids
    frame = asked(faulty, "never")
    await until(lambda: "begin never beside 0" in words(faulty))
    frame.cancel()
    with pytest.raises(asyncio.CancelledError):
        await frame
    await until(lambda: under_way(faulty) == 0)
    assert "abort never" in words(faulty)
    assert faulty.pids == pids


async def test_a_call_that_is_cancelled_before_its_turn_reaches_no_worker(faulty: WorkerVision) -> None:
    held = [asked(faulty, "slow 0.3", second) for second in range(SLOTS)]
    waiting = asked(faulty, "never")
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(*held)
    assert await asked(faulty, "slow 0") == "slow 0"
    assert not any("never" in line for line in words(faulty))


async def test_an_engine_that_cannot_load_is_told_at_the_start_and_leaves_no_process(tmp_path: Path) -> None:
    missing = WorkerConfig(engine="llama", model_path=str(tmp_path / "none.gguf"), mmproj_path=str(tmp_path / "none"))
    vision = WorkerVision(missing, workers=2)
    error = await failure(vision.start())
    assert (error.kind, error.code) == (Kind.NOT_FOUND, "file_missing")
    assert vision.pids == ()


async def test_the_worker_is_not_given_the_receivers_secrets(
    vision: WorkerVision, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INTERNAL_GATEWAY_KEY", "a-secret-of-thirty-two-characters")
    (pid,) = vision.pids
    os.kill(pid, signal.SIGKILL)
    await until(lambda: vision.pids not in ((), (pid,)))
    environ = Path(f"/proc/{vision.pids[0]}/environ").read_bytes()
    assert b"GGML_NO_BACKTRACE=1" in environ
    assert b"a-secret" not in environ


async def test_what_a_dying_worker_said_is_in_the_log(vision: WorkerVision) -> None:
    with structlog.testing.capture_logs() as logs:
        os.kill(vision.pids[0], signal.SIGABRT)
        await until(lambda: any(line["event"] == "vision worker ended" for line in logs))
    (ended,) = [line for line in logs if line["event"] == "vision worker ended"]
    assert ended["how"] == "was killed by SIGABRT"
    assert ended["log_level"] == "warning"
