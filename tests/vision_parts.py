"""Drawn pictures, requests, and a small real Gemma-3."""

import hashlib
import os
from pathlib import Path

import cv2
import numpy as np

from crow_receiver.vision.classic.engine import ClassicEngine
from crow_receiver.vision.decode import decode
from crow_receiver.vision.llama.options import LlamaSettings
from crow_receiver.vision.port import VisionRequest
from crow_receiver.vision.schema import Scene
from crow_receiver.vision.worker.protocol import WorkerConfig
from crow_receiver.vision.zones import THIRDS
from crow_shared.frame import Encoding
from crow_shared.zones import Zone, ZoneKind

START_US = 1_800_000_000_000_000
SECOND_US = 1_000_000
ZONES = tuple(
    Zone(name, ZoneKind.AREA, third.points)
    for name, third in zip(("Snacks", "Drinks", "Checkout"), THIRDS, strict=True)
)
Box = tuple[int, int, int, int]  # left, top, width, height in a picture of 640 x 360


def coded(picture: np.ndarray, *parameters: int) -> bytes:
    done, data = cv2.imencode(".jpg", picture, parameters)
    assert done
    return data.tobytes()


def shop_picture(*people: Box, shade: int = 120) -> bytes:
    """An empty shop with some texture and noise, and boxes for people."""
    picture = np.full((360, 640, 3), shade, np.uint8)
    picture[:, ::40] = shade // 2
    noise = np.random.default_rng(len(people)).integers(-6, 7, picture.shape)
    picture = np.clip(picture + noise, 0, 255).astype(np.uint8)
    for left, top, width, height in people:
        cv2.rectangle(picture, (left, top), (left + width, top + height), (30, 60, 210), -1)
    return coded(picture)


def request(
    coded: bytes,
    second: float = 0,
    camera: str = "acme/shop/till",
    zones: tuple[Zone, ...] = ZONES,
    encoding: Encoding = Encoding.JPEG,
) -> VisionRequest:
    return VisionRequest(camera, "Till", START_US + int(second * SECOND_US), zones, encoding, coded)


def look(engine: ClassicEngine, asked: VisionRequest) -> Scene:
    """What the classic engine says of a frame, decoded as the worker does."""
    engine.begin(1, asked, decode(asked.encoding, asked.coded, engine.least_side))
    (finished,) = engine.step(0)
    assert isinstance(finished.scene, Scene)
    return finished.scene


def llama_config(model: Path, mmproj: Path) -> WorkerConfig:
    return WorkerConfig(
        engine="llama",
        model="small",
        model_path=str(model),
        model_sha256=hashlib.sha256(model.read_bytes()).hexdigest(),
        mmproj_path=str(mmproj),
        mmproj_sha256=hashlib.sha256(mmproj.read_bytes()).hexdigest(),
        llama=LlamaSettings(threads=1, slots=4),
    )


def gone(pid: int) -> bool:
    """Whether a process has ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return state == "Z"
