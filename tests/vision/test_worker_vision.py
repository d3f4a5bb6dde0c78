"""Worker processes under their supervisor: what they survive, and what a caller is told."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import structlog
from vision_parts import request, shop_picture

from crow_receiver.vision import supervisor, worker_process
from crow_receiver.vision.supervisor import WorkerVision
from crow_receiver.vision.worker_protocol import LENGTHS, MAX_HEADER_BYTES, WorkerConfig, packed, unpacked_lengths
from crow_shared.errors import CrowError, Kind

CLASSIC = WorkerConfig(engine="classic")
PICTURE = shop_picture()


@pytest.fixture
async def vision() -> AsyncIterator[WorkerVision]:
    started = WorkerVision(CLASSIC, deadline_s=20)
    await started.start()
    yield started
    await started.close()


async def failure(call: Awaitable[object]) -> CrowError:
    with pytest.raises(CrowError) as caught:
        await call
    return caught.value


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return state == "Z"


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_frame_comes_back_described_with_who_said_so(vision: WorkerVision) -> None:
    analysis = await vision.describe(request(PICTURE))
    assert analysis.scene.description
    assert (analysis.provenance.engine, analysis.provenance.model) == ("classic", None)
    assert analysis.provenance.limits
    assert vision.engine_name == "classic"


async def test_a_worker_remembers_a_camera_from_frame_to_frame(vision: WorkerVision) -> None:
    first = await vision.describe(request(PICTURE, 0))
    second = await vision.describe(request(PICTURE, 1))
    assert "no reference yet" in first.scene.description
    assert "no reference yet" not in second.scene.description


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


async def test_a_worker_killed_at_work_costs_that_frame_alone(vision: WorkerVision) -> None:
    (pid,) = vision.pids
    os.kill(pid, signal.SIGSTOP)  # so that the frame is surely under way
    under_way = asyncio.create_task(vision.describe(request(PICTURE)))
    await until(vision._idle.empty)
    os.kill(pid, signal.SIGKILL)
    error = await failure(under_way)
    assert (error.kind, error.code, error.retryable) == (Kind.UNAVAILABLE, "worker_died", True)
    assert "SIGKILL" in error.message
    assert await vision.describe(request(PICTURE, 1))
    assert vision.pids != (pid,)


async def test_a_worker_killed_while_idle_is_replaced_and_costs_nothing(vision: WorkerVision) -> None:
    (pid,) = vision.pids
    os.kill(pid, signal.SIGKILL)
    await until(lambda: vision.pids not in ((), (pid,)))
    assert await vision.describe(request(PICTURE))


async def test_a_frame_over_its_deadline_is_given_up_and_its_worker_replaced() -> None:
    vision = WorkerVision(CLASSIC, deadline_s=0.3)
    await vision.start()
    try:
        (pid,) = vision.pids
        os.kill(pid, signal.SIGSTOP)
        error = await failure(vision.describe(request(PICTURE)))
        assert (error.kind, error.code, error.retryable) == (Kind.TIMEOUT, "frame_deadline", True)
        assert gone(pid)
        await until(lambda: not vision._idle.empty())  # a start takes longer than the deadline on a busy machine
        assert await vision.describe(request(PICTURE))
    finally:
        await vision.close()


async def test_a_worker_that_cannot_start_again_is_retried_with_growing_pauses(
    vision: WorkerVision, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "PAUSE_FIRST_S", 0.01)
    monkeypatch.setattr(vision, "_deadline_s", 0.2)
    monkeypatch.setattr(worker_process.sys, "executable", "/bin/false")
    with structlog.testing.capture_logs() as logs:
        os.kill(vision.pids[0], signal.SIGKILL)
        await until(lambda: sum(line["event"] == "vision worker does not start" for line in logs) >= 3)
    pauses = [line["again_in_s"] for line in logs if line["event"] == "vision worker does not start"]
    assert pauses[2] > pauses[0]
    error = await failure(vision.describe(request(PICTURE)))
    assert (error.code, error.retryable) == ("no_worker", True)
    monkeypatch.undo()
    assert await vision.describe(request(PICTURE))


async def test_closing_ends_all_workers_and_answers_those_who_wait() -> None:
    vision = WorkerVision(CLASSIC)
    await vision.start()
    (pid,) = vision.pids
    os.kill(pid, signal.SIGSTOP)
    at_work = asyncio.create_task(vision.describe(request(PICTURE)))
    waiting = [asyncio.create_task(vision.describe(request(PICTURE))) for _ in range(2)]
    await until(vision._idle.empty)
    await vision.close()
    assert gone(pid)
    assert (await failure(at_work)).code == "worker_died"
    assert [(await failure(task)).code for task in waiting] == ["vision_closed", "vision_closed"]


async def test_a_call_that_is_cancelled_leaves_a_working_worker_behind(vision: WorkerVision) -> None:
    (pid,) = vision.pids
    os.kill(pid, signal.SIGSTOP)
    under_way = asyncio.create_task(vision.describe(request(PICTURE)))
    await until(vision._idle.empty)
    under_way.cancel()
    with pytest.raises(asyncio.CancelledError):
        await under_way
    assert gone(pid)
    assert await vision.describe(request(PICTURE))


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


def test_a_worker_ends_with_its_input() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "crow_receiver.vision.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as worker:
        assert worker.stdin
        worker.stdin.close()
        assert worker.wait(20) == 0


def test_a_worker_dies_with_its_supervisor_even_if_its_input_never_ends() -> None:
    script = (
        "import subprocess, sys\n"
        "worker = subprocess.Popen([sys.executable, '-m', 'crow_receiver.vision.worker'])\n"
        "print(worker.pid, flush=True)\n"
        "worker.wait()\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdin
        assert parent.stdout
        pid = int(parent.stdout.readline())
        parent.stdin.write(packed(CLASSIC))
        parent.stdin.flush()
        assert parent.stdout.read(LENGTHS.size), "the worker is ready"
        parent.kill()
        parent.wait()
        asyncio.run(until(lambda: gone(pid)))


def test_a_message_beyond_the_bounds_is_refused_before_it_is_read() -> None:
    for lengths in ((MAX_HEADER_BYTES + 1, 0), (0, 1 << 31)):
        with pytest.raises(CrowError) as caught:
            unpacked_lengths(lengths[0].to_bytes(4, "big") + lengths[1].to_bytes(4, "big"))
        assert caught.value.code == "worker_protocol"
