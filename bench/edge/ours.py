"""Ours: one daemon for all cameras, with spool and uplink; the receiver that takes its frames is not counted."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from party import Party
from subject import Produced, Running, Subject

from crow_daemon.registry.camera import Camera, CaptureMode, GateMode, ReaderChoice, RtspAddress
from crow_daemon.registry.registry import Registry
from crow_daemon.registry.url import CameraUrl
from crow_sim.line import DaemonService

USUAL_CAMERAS = 16
_KEYFRAME = {"mode": CaptureMode.KEYFRAME, "gate": GateMode.OFF}
_DECODE = {"mode": CaptureMode.DECODE, "gate": GateMode.OFF}
_GATE = {"gate": GateMode.ACTIVITY}
_DIRECT = {"reader": ReaderChoice.DIRECT}
_PYAV = {"reader": ReaderChoice.PYAV}


def keyframe_direct(stream: str, cameras: int, interval_s: float) -> Subject:
    """The camera's own keyframes, read without libav."""
    return _crow("keyframe, direct", stream, cameras, interval_s, _KEYFRAME | _DIRECT)


def keyframe_pyav(stream: str, cameras: int, interval_s: float) -> Subject:
    """The camera's own keyframes, read with libav."""
    return _crow("keyframe, pyav", stream, cameras, interval_s, _KEYFRAME | _PYAV)


def decode(stream: str, cameras: int, interval_s: float) -> Subject:
    """Every sample decoded and coded as a JPEG."""
    return _crow("decode", stream, cameras, interval_s, _DECODE)


def decode_and_gate(stream: str, cameras: int, interval_s: float) -> Subject:
    """Every sample decoded and judged; what is worth it is coded as a JPEG."""
    return _crow("decode + gate", stream, cameras, interval_s, _DECODE | _GATE)


def gate_on_substream(stream: str, sub_stream: str, cameras: int, interval_s: float) -> Subject:
    """Every sample judged by the substream; what is worth it is the main stream's own keyframe."""
    return _crow("keyframe, gate on substream", stream, cameras, interval_s, _KEYFRAME | _GATE, sub_stream)


def _crow(
    name: str, stream: str, cameras: int, interval_s: float, fields: dict[str, Any], sub_stream: str = ""
) -> Subject:
    if cameras != USUAL_CAMERAS:
        name = f"{name}, {cameras} cameras"
    told = " ".join(f"{key}={value}" for key, value in fields.items())
    return Subject(
        f"crow {name}",
        stream,
        cameras,
        interval_s,
        f"crow-daemon run, cameras with {told} sample_interval_ms={round(interval_s * 1000)}",
        partial(_daemon, fields, interval_s),
        sub_stream,
        gated=fields["gate"] is not GateMode.OFF,
    )


@contextmanager
def _daemon(
    fields: dict[str, Any], interval_s: float, urls: Sequence[str], sub_urls: Sequence[str]
) -> Iterator[Running]:
    with TemporaryDirectory() as place:
        directory = Path(place)
        (directory / "daemon").mkdir()
        registry = Registry(directory / "daemon" / "cameras.db")
        for number, url in enumerate(urls):
            sub_url = CameraUrl.parse(sub_urls[number]) if sub_urls else None
            address = RtspAddress(CameraUrl.parse(url), sub_url=sub_url)
            registry.add(Camera(f"cam{number}", f"Camera {number}", address, round(interval_s * 1000), **fields))
        registry.close()
        settings = {
            "CROW_RECEIVER_STATE_DIR": str(directory / "receiver"),
            "CROW_RECEIVER_GRPC__LISTEN": "127.0.0.1:0",
            "CROW_RECEIVER_REST__LISTEN": "127.0.0.1:0",
            "CROW_RECEIVER_OVERLOAD__DEGRADE_AFTER_S": "0",  # nothing is analysed, and that is all right
        }
        with Party("quiet_receiver.py", environ=settings) as receiver:
            port = receiver.heard()["port"]
            with DaemonService(directory / "daemon", f"127.0.0.1:{port}") as daemon:
                assert daemon.process is not None
                yield Running([daemon.process.pid], lambda: _stored(directory / "receiver"))
                daemon.stop()


def _stored(receiver: Path) -> Produced:
    """What has arrived and is stored."""
    db = sqlite3.connect(f"file:{receiver / 'receiver.db'}?mode=ro", uri=True)
    try:
        frames, size_bytes = db.execute("select count(*), coalesce(sum(length), 0) from frame").fetchone()
    finally:
        db.close()
    return Produced(frames, size_bytes)
