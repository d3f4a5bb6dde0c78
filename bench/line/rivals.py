"""One measurement of each way to bring frames to the receiving end."""

import statistics
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pictures
from fill_spool import fill
from party import Party, Sent


@dataclass(frozen=True, slots=True)
class Load:
    """What is sent: `frames` in all, by `senders` that share them and the cameras evenly."""

    pictures: Path
    frames: int
    cameras: int
    senders: int
    window: int

    @property
    def frames_each(self) -> int:
        """Frames of one sender."""
        return self.frames // self.senders

    @property
    def cameras_each(self) -> int:
        """Cameras of one sender."""
        return self.cameras // self.senders


@dataclass(frozen=True, slots=True)
class Result:
    """What one measurement showed; CPU is user and system time, latency from send to durable answer."""

    frames_per_s: float
    mb_per_s: float
    sender_cpu_ms: float
    receiver_cpu_ms: float
    latency_p50_ms: float
    latency_p99_ms: float
    sender_rss_mb: float
    receiver_rss_mb: float


def crow(load: Load, place: Path) -> Result:
    """crow-daemon with a full spool → gRPC → crow-receiver without analysis, acknowledged after the commit."""
    payloads = pictures.load(load.pictures)
    for sender in range(load.senders):
        first_camera = sender * load.cameras_each
        fill(place / f"daemon{sender}" / "spool", payloads, load.frames_each, load.cameras_each, first_camera)
    settings = {
        "CROW_RECEIVER_STATE_DIR": str(place / "receiver"),
        "CROW_RECEIVER_GRPC__LISTEN": "127.0.0.1:0",
        "CROW_RECEIVER_REST__LISTEN": "127.0.0.1:0",
        "CROW_RECEIVER_GRPC__WINDOW_FRAMES": str(load.window),
    }
    with Party("quiet_receiver.py", environ=settings) as receiver:
        port = receiver.heard()["port"]

        def daemon(sender: int) -> Party:
            environ = {
                "CROW_DAEMON_STATE_DIR": str(place / f"daemon{sender}"),
                "CROW_DAEMON_DAEMON_ID": f"daemon{sender}",
                "CROW_DAEMON_UPLINK__RECEIVER": f"127.0.0.1:{port}",
            }
            return Party("measured_daemon.py", load.frames_each, environ=environ)

        return _measured(load, receiver, daemon)


def raw(load: Load, _: Path) -> Result:
    """A socket with the same bytes, answered every 16 frames, nothing kept."""
    with Party("raw_server.py") as server:
        return _measured(load, server, _raw_sender(load, server))


def raw_durable(load: Load, place: Path) -> Result:
    """The same, appended to a file, with one fdatasync before each answer: the floor for durable frames."""
    with Party("raw_server.py", str(place)) as server:
        return _measured(load, server, _raw_sender(load, server))


def http(load: Load, place: Path) -> Result:
    """Multipart POST to a FastAPI route that stores the same rows and answers after the commit."""
    with Party("http_server.py", str(place / "receiver")) as server:
        port = server.heard()["port"]

        def sender(number: int) -> Party:
            places = (load.frames_each, load.window // load.senders, load.cameras_each, number * load.cameras_each)
            return Party("http_sender.py", port, str(load.pictures), *places)

        return _measured(load, server, sender)


RIVALS: dict[str, Callable[[Load, Path], Result]] = {
    "crow": crow,
    "raw socket": raw,
    "raw + fdatasync": raw_durable,
    "HTTP multipart": http,
}


def measured(rival: str, load: Load, state_directory: Path | None) -> Result:
    """Runs one measurement in a directory of its own, which is gone after it."""
    with tempfile.TemporaryDirectory(dir=state_directory) as place:
        return RIVALS[rival](load, Path(place))


def median(results: Sequence[Result]) -> Result:
    """The median of each figure."""
    return Result(*(statistics.median(getattr(result, field) for result in results) for field in Result.__slots__))


def _raw_sender(load: Load, server: Party) -> Callable[[int], Party]:
    port = server.heard()["port"]
    return lambda _: Party("raw_sender.py", port, str(load.pictures), load.frames_each, load.window)


def _measured(load: Load, receiver: Party, sender: Callable[[int], Party]) -> Result:
    with ExitStack() as running:
        senders = [running.enter_context(sender(number)) for number in range(load.senders)]
        for party in senders:
            party.heard()
        before_s = receiver.cpu_s
        for party in senders:
            party.go()
        sent = [Sent(**party.heard()) for party in senders]
        receiver_cpu_s = receiver.cpu_s - before_s
    frames = sum(one.frames for one in sent)
    spent_s = max(one.end_s for one in sent) - min(one.begin_s for one in sent)
    sizes = [len(picture) for picture in pictures.load(load.pictures)]
    latencies = statistics.quantiles([latency for one in sent for latency in one.latencies_ms], n=100)
    return Result(
        frames_per_s=frames / spent_s,
        mb_per_s=frames * statistics.mean(sizes) / spent_s / 1e6,
        sender_cpu_ms=sum(one.cpu_s for one in sent) / frames * 1000,
        receiver_cpu_ms=receiver_cpu_s / frames * 1000,
        latency_p50_ms=latencies[49],
        latency_p99_ms=latencies[98],
        sender_rss_mb=sum(one.peak_rss_bytes for one in sent) / 1e6,
        receiver_rss_mb=receiver.peak_rss_bytes / 1e6,
    )
