"""The service manager hears of start, life and stop."""

import asyncio
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from crow_shared.lifecycle import Notifier, Tasks, all_of, finished, finished_before, stop_on_signals, within


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(5)
        yield sock


def test_states_reach_the_notify_socket(manager: socket.socket) -> None:
    Notifier({"NOTIFY_SOCKET": manager.getsockname()}).send("READY=1")
    assert manager.recv(100) == b"READY=1"


def test_without_a_manager_nothing_happens() -> None:
    Notifier({}).send("READY=1")


def test_a_manager_that_has_gone_is_passed_over(tmp_path: Path) -> None:
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).send("READY=1")


async def test_the_watchdog_is_fed_twice_per_period(manager: socket.socket) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "100000"})
    feeding = asyncio.create_task(notifier.feed_watchdog())
    await asyncio.sleep(0.18)
    feeding.cancel()
    manager.setblocking(False)
    fed = 0
    while True:
        try:
            assert manager.recv(100) == b"WATCHDOG=1"
        except BlockingIOError:
            break
        fed += 1
    assert fed >= 2


async def test_the_first_signal_asks_for_an_orderly_stop() -> None:
    stop = asyncio.Event()
    stop_on_signals(stop)
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(stop.wait(), 5)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().remove_signal_handler(number)


async def test_a_task_that_fails_brings_the_service_down() -> None:
    stop = asyncio.Event()
    tasks = Tasks(stop)

    async def fail() -> None:
        raise RuntimeError("broken")

    tasks.start("part", fail())
    await asyncio.wait_for(stop.wait(), 5)
    assert tasks.failed
    await tasks.cancel()


async def test_a_stop_step_that_hangs_does_not_hold_the_stop() -> None:
    async def hang() -> None:
        await asyncio.Event().wait()

    await asyncio.wait_for(within(0.01, "step", hang), 5)


async def test_a_stop_goes_on_past_a_part_that_has_failed() -> None:
    async def fail() -> None:
        raise RuntimeError("broken")

    tasks = Tasks(asyncio.Event())
    part = tasks.start("part", fail())
    await within(5, "part", lambda: finished(part))
    assert tasks.failed


async def test_a_stop_does_not_wait_for_a_start_that_takes_long() -> None:
    stop, cleaned_up = asyncio.Event(), False

    async def load() -> None:
        nonlocal cleaned_up
        stop.set()
        try:
            await asyncio.Event().wait()
        finally:
            cleaned_up = True

    assert not await asyncio.wait_for(finished_before(stop, load()), 5)
    assert cleaned_up


async def test_a_start_that_fails_says_why() -> None:
    async def fail() -> None:
        raise RuntimeError("no model")

    with pytest.raises(RuntimeError, match="no model"):
        await finished_before(asyncio.Event(), fail())


async def test_when_one_of_several_steps_fails_none_of_the_others_goes_on() -> None:
    ended = []

    async def long() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append("long")

    async def failing() -> None:
        raise ValueError("it does not start")

    with pytest.raises(ValueError, match="it does not start"):
        await all_of(long(), failing())
    assert ended == ["long"]
