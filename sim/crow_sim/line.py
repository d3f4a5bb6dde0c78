"""The whole line as real processes: receiver and daemon, started and stopped as a service manager would.

The demo and the end-to-end tests drive the product through this: by its commands, its settings in the environment, its
notify socket and its exit codes alone.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from crow_shared.errors import CrowError, Kind

START_S = 60.0
STOP_S = 60.0
POLL_S = 0.05


class Service:
    """One service process with its log; ready when it says READY=1 to its notify socket."""

    def __init__(self, command: str, directory: Path, environ: Mapping[str, str]) -> None:
        """`command` is an entry point installed beside the running Python, `directory` its state directory."""
        self.command = command
        self.program = (_installed(command),)  # a test may put a changed program in its place
        self.directory = directory
        self.log = directory.with_suffix(".log")
        prefix = command.upper().replace("-", "_")
        self._environ = {**os.environ, f"{prefix}_STATE_DIR": str(directory), **environ}
        self.process: subprocess.Popen[bytes] | None = None
        self._manager: socket.socket | None = None
        self._notified: list[str] = []

    def start(self) -> Self:
        """Starts the process and waits until it is ready. Raises CrowError(UNAVAILABLE) with its last words."""
        self.launch()
        return self.wait_until_ready()

    def restart(self, environ: Mapping[str, str]) -> Self:
        """Stops the process in order and starts it with some settings changed."""
        self.stop()
        self._environ |= environ
        return self.start()

    def launch(self) -> None:
        """Starts the process, ready or not."""
        self.directory.mkdir(parents=True, exist_ok=True)
        address = self.directory.with_suffix(".notify")  # beside it, so that a test can unmount the directory
        address.unlink(missing_ok=True)
        if self._manager is not None:
            self._manager.close()
        self._notified = []
        self._manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._manager.bind(str(address))
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603 — our own commands
                [*self.program, "run"],
                env={**self._environ, "NOTIFY_SOCKET": str(address)},
                stdout=log,
                stderr=log,
            )

    def wait_until_ready(self) -> Self:
        """Waits for READY=1. Raises CrowError(UNAVAILABLE) with the last words of a process that ended instead."""
        assert self.process is not None
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self.process.poll() is None:
            if "READY=1" in self.notifications():
                return self
            time.sleep(POLL_S)
        self.close()
        raise CrowError(Kind.UNAVAILABLE, "service_failed", f"{self.command} did not start:\n{self.last_words()}")

    def notifications(self) -> list[str]:
        """What the process has told its service manager so far, in order."""
        assert self._manager is not None
        while True:
            try:
                self._notified.append(self._manager.recv(1000, socket.MSG_DONTWAIT).decode())
            except BlockingIOError:
                return list(self._notified)

    def events(self, name: str) -> list[dict[str, Any]]:
        """The log's events of this name."""
        lines = self.log.read_text(encoding="utf-8").splitlines() if self.log.exists() else []
        # A line is whole unless its writer was killed in the middle of it.
        parsed = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
        return [event for event in parsed if event.get("event") == name]

    def run(self, *arguments: str, stdin: str | None = None) -> str:
        """Runs the same command with other arguments and returns what it printed. Raises CrowError when it fails."""
        done = subprocess.run(  # noqa: S603 — our own commands
            [_installed(self.command), *arguments],
            env=self._environ,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=STOP_S,
            check=False,
        )
        if done.returncode:
            words = " ".join((self.command, *arguments))
            raise CrowError(
                Kind.INTERNAL,
                "command_failed",
                f"{words}: exit code {done.returncode}\n{done.stdout[-4000:]}{done.stderr}",
            )
        return done.stdout

    def json(self, *arguments: str) -> Any:
        """What the command printed, as JSON."""
        return json.loads(self.run(*arguments, "--json"))

    def stop(self) -> int:
        """Asks for an orderly stop and returns the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_S)

    def kill(self) -> None:
        """Ends the process at once (kill -9), if it still runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(STOP_S)

    def close(self) -> None:
        """Ends the process, if it still runs, and stops listening to it."""
        self.kill()
        if self._manager is not None:
            self._manager.close()

    def last_words(self) -> str:
        """The end of the log."""
        return "\n".join(self.log.read_text(encoding="utf-8").splitlines()[-15:]) if self.log.exists() else ""

    def __enter__(self) -> Self:
        """Starts the process."""
        return self.start()

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        """Leaves no process behind."""
        self.close()


class ReceiverService(Service):
    """A receiver on free ports; `settings` are environment variables such as CROW_RECEIVER_BATCH__FRAMES."""

    def __init__(self, directory: Path, settings: Mapping[str, str] | None = None) -> None:
        ports = {"CROW_RECEIVER_GRPC__LISTEN": "127.0.0.1:0", "CROW_RECEIVER_REST__LISTEN": "127.0.0.1:0"}
        super().__init__("crow-receiver", directory, ports | dict(settings or {}))

    @property
    def grpc_address(self) -> str:
        """host:port for daemons."""
        return f"127.0.0.1:{self.events('receiver ready')[-1]['grpc_port']}"

    @property
    def rest_url(self) -> str:
        """The base of the HTTP routes."""
        return f"http://127.0.0.1:{self.events('receiver ready')[-1]['rest_port']}"

    def consume(self, queue: str) -> list[dict[str, Any]]:
        """Takes every message that is ready, acknowledges it and returns the bodies, as a consumer does."""
        bodies: list[dict[str, Any]] = []
        while True:
            pulled = self.json("queue", "pull", queue, "--limit", "100")
            if pulled:
                self.run("queue", "ack", queue, *(message["leaseId"] for message in pulled))
                bodies += [message["body"] for message in pulled]
            if len(pulled) < 100:
                return bodies


class DaemonService(Service):
    """A daemon that delivers to the given receiver."""

    def __init__(self, directory: Path, receiver: str, settings: Mapping[str, str] | None = None) -> None:
        super().__init__("crow-daemon", directory, {"CROW_DAEMON_UPLINK__RECEIVER": receiver} | dict(settings or {}))

    def add_rtsp(self, camera_id: str, url: str, username: str = "", password: str = "", *options: str) -> None:
        """Registers a live camera, the password through standard input. Every sample of it is sent, unless asked."""
        credentials = ("--username", username, "--password-stdin") if username else ()
        gate = () if "--gate" in options else ("--gate", "off")
        self.run("camera", "add", camera_id, "--url", url, *credentials, *gate, *options, stdin=password or None)


def _installed(command: str) -> str:
    return str(Path(sys.executable).with_name(command))
