"""Start, readiness, watchdog and orderly stop of a service process.

1. `READY=1` is sent once everything listens, `STOPPING=1` when the stop begins; without systemd both do nothing.
2. The first SIGTERM or SIGINT asks for an orderly stop; the second ends the process at once.
3. The watchdog is fed by the event loop itself, so that a loop that hangs is noticed.
"""

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import structlog

log = structlog.get_logger()


class Notifier:
    """systemd's notification protocol (sd_notify(3)): datagrams of KEY=VALUE lines to the socket in NOTIFY_SOCKET."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET")
        self._address = "\0" + address[1:] if address and address.startswith("@") else address
        self.watchdog_s = int(environ.get("WATCHDOG_USEC", "0")) / 1_000_000

    def send(self, state: str) -> None:
        """Sends one state ("READY=1"); a manager that has gone is not our trouble, so it is logged and passed over."""
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            try:
                sock.sendto(state.encode(), self._address)
            except OSError as error:
                log.warning("notify socket does not take messages", error=str(error))

    async def feed_watchdog(self) -> None:
        """Tells the watchdog that the loop is alive, twice per period, until cancelled."""
        if not self.watchdog_s:
            return
        while True:
            self.send("WATCHDOG=1")
            await asyncio.sleep(self.watchdog_s / 2)


def stop_on_signals(stop: asyncio.Event) -> None:
    """Sets `stop` on the first SIGTERM or SIGINT and exits at once on the second."""
    loop = asyncio.get_running_loop()

    def received(number: int) -> None:
        if stop.is_set():
            os._exit(128 + number)
        log.info("stopping", signal=signal.Signals(number).name)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, received, number)


class Tasks:
    """The named background tasks of a service: one that fails brings the whole service down, with its reason logged.

    A part that can go on after a failure retries inside itself. What reaches this point is a defect, and a restart by
    the service manager is better than a service that half works.
    """

    def __init__(self, stop: asyncio.Event) -> None:
        self._stop = stop
        self._tasks: list[asyncio.Task[None]] = []
        self.failed = False

    def start(self, name: str, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs `coroutine` under `name` until it ends or `cancel` is called."""
        task = asyncio.create_task(coroutine, name=name)
        task.add_done_callback(self._done)
        self._tasks.append(task)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        if error := task.exception():
            log.error("task failed; stopping", task=task.get_name(), exc_info=error)
            self.failed = True
            self._stop.set()

    async def cancel(self) -> None:
        """Cancels the tasks, the last started first, and waits for each."""
        for task in reversed(self._tasks):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self._tasks.clear()


async def finished_before(stop: asyncio.Event, step: Coroutine[Any, Any, None]) -> bool:
    """Runs a long step of the start; a stop that is asked for meanwhile cancels it. Whether it finished."""
    running, stopping = asyncio.create_task(step), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
            return True
        return False
    finally:
        for task in (running, stopping):
            task.cancel()
        await asyncio.gather(running, stopping, return_exceptions=True)


async def all_of(*steps: Coroutine[Any, Any, None]) -> None:
    """Runs steps of the start together; when one fails, or the call is cancelled, none goes on when it raises."""
    running = [asyncio.create_task(step) for step in steps]
    try:
        await asyncio.gather(*running)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def within(deadline_s: float, what: str, step: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Runs one step of an orderly stop; when it outlasts the deadline, says so and goes on with the next."""
    try:
        async with asyncio.timeout(deadline_s):
            await step()
    except TimeoutError:
        log.warning("stop step outlasted its deadline", step=what, deadline_s=deadline_s)


async def finished(task: "asyncio.Task[None]") -> None:
    """Waits for a task's own end, however it ended; giving up the wait does not cancel it."""
    await asyncio.wait([task])
