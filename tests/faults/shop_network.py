"""A network namespace for the receiver, joined to the daemon's by a cable that can be cut, silenced and throttled."""

import os
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from crow_sim.line import ReceiverService

PORT = 7443


class Cable:
    """A veth pair from here into a namespace of its own, in which `receiver` runs programs. Skips without rights."""

    def __init__(self, name: str = "crow") -> None:
        for tool in ("ip", "tc", "nft"):
            if shutil.which(tool) is None:
                pytest.skip(f"{tool} is not installed (iproute2, nftables)")
        number = os.getpid() % 16384
        subnet = f"10.{200 + number // 4096}.{number // 16 % 256}"
        first = number % 16 * 4
        self._namespace, self._here, self._there = f"{name}-{number}", f"{name}{number}h", f"{name}{number}t"
        self._address_here = f"{subnet}.{first + 1}"
        self.address = f"{subnet}.{first + 2}"

    def receiver(self, directory: Path, settings: dict[str, str]) -> ReceiverService:
        """A receiver at the far end."""
        service = ReceiverService(directory, settings | {"CROW_RECEIVER_GRPC__LISTEN": f"{self.address}:{PORT}"})
        service.program = ("ip", "netns", "exec", self._namespace, *service.program)
        return service

    @property
    def receiver_address(self) -> str:
        """host:port of that receiver's gRPC."""
        return f"{self.address}:{PORT}"

    def unplug(self) -> None:
        """The link goes down at this end."""
        _run("ip", "link", "set", self._here, "down")

    def plug(self) -> None:
        """The link comes up again."""
        _run("ip", "link", "set", self._here, "up")

    def silence_receiver(self) -> None:
        """Half-open: the receiver hears the daemon, and nothing that it says arrives."""
        self._nft("add table inet crow")
        self._nft("add chain inet crow out { type filter hook output priority 0; policy drop; }")

    def swallow_all(self) -> None:
        """A dead link that neither end is told of: every packet vanishes."""
        self.silence_receiver()
        self._nft("add chain inet crow in { type filter hook input priority 0; policy drop; }")

    def let_all_pass(self) -> None:
        """Ends what `silence_receiver` and `swallow_all` began."""
        self._nft("delete table inet crow")

    def throttle(self, kbit_s: int) -> None:
        """At most so much from the daemon to the receiver."""
        _run("tc", "qdisc", "add", "dev", self._here, "root", "tbf", "rate", f"{kbit_s}kbit", "burst", "16kb",
             "latency", "300ms")  # fmt: skip

    def unthrottle(self) -> None:
        """Ends `throttle`."""
        _run("tc", "qdisc", "del", "dev", self._here, "root")

    def _nft(self, rule: str) -> None:
        self._inside("nft", rule)

    def _inside(self, *command: str) -> None:
        _run("ip", "netns", "exec", self._namespace, *command)

    def __enter__(self) -> Self:
        """Lays the cable."""
        made = subprocess.run(["ip", "netns", "add", self._namespace], capture_output=True, text=True, check=False)
        if made.returncode:
            pytest.skip(f"no network namespaces here: {made.stderr.strip()}")
        pair = subprocess.run(
            ["ip", "link", "add", self._here, "type", "veth", "peer", "name", self._there, "netns", self._namespace],
            capture_output=True,
            text=True,
            check=False,
        )
        if pair.returncode:
            self.__exit__()
            pytest.skip(f"no veth pairs here: {pair.stderr.strip()}")
        _run("ip", "address", "add", f"{self._address_here}/30", "dev", self._here)
        _run("ip", "link", "set", self._here, "up")
        self._inside("ip", "address", "add", f"{self.address}/30", "dev", self._there)
        self._inside("ip", "link", "set", self._there, "up")
        self._inside("ip", "link", "set", "lo", "up")
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        """Takes it away, and the namespace with it."""
        subprocess.run(["ip", "link", "del", self._here], capture_output=True, check=False)
        subprocess.run(["ip", "netns", "del", self._namespace], capture_output=True, check=False)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not done.returncode, f"{' '.join(command)}: {done.stderr}"
