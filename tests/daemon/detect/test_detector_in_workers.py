"""The detector of the settings, in a capture worker: it decides what is sent, and who is blurred."""

from pathlib import Path
from typing import Any

import cv2
import detector_models as models
import numpy as np
import pytest
from camera_rig import WAIT_S
from pool_rig import PoolRig, running_pool
from structlog.testing import capture_logs

from crow_daemon.capture.outcome import Dropped
from crow_daemon.capture.state import CameraState
from crow_daemon.detect.config import DetectorConfig
from crow_daemon.gate.gate import GateReason
from crow_daemon.registry.camera import Blur, Camera, GateMode, Recording
from crow_daemon.registry.registry import Registry
from crow_sim.encode import encode

START_US = 1_800_000_000_000_000
BODY = slice(64, 128), slice(96, 160)  # rows and columns
NOBODY_S, SOMEBODY_S = range(4), range(4, 8)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A dark shop in which something dim always moves, and somebody bright stands from the fifth second on."""
    pictures = []
    for second in (*NOBODY_S, *SOMEBODY_S):
        picture = np.random.default_rng(second).normal(50, 3, (192, 256, 3)).clip(0, 255).astype(np.uint8)
        picture[150:180, 20 + 20 * second : 50 + 20 * second] = 100
        if second in SOMEBODY_S:
            picture[BODY] = 250
            picture[72:128:16, 96:160] = 215  # who it is: stripes
        pictures.append(picture)
    path = tmp_path / "clip.mp4"
    encode(path, pictures, 1.0)
    return path


async def read(tmp_path: Path, clip: Path, model: Path, **fields: Any) -> PoolRig:
    """The clip through a worker with that detector."""
    registry = Registry(tmp_path / "cameras.db")
    registry.add(Camera("till", "Till", Recording(clip, START_US), jpeg_quality=95, **fields), None)
    rig = PoolRig(registry, detector=DetectorConfig(str(model)))
    async with running_pool(rig):
        await rig.until(lambda: rig.state() is CameraState.FINISHED, f"read within {WAIT_S} s")
    registry.close()
    return rig


async def test_a_worker_sends_those_samples_in_which_the_detector_sees_somebody(tmp_path: Path, clip: Path) -> None:
    model = models.yolox(tmp_path / "m.onnx", decoded=False)
    rig = await read(tmp_path, clip, model, gate=GateMode.PERSON, pre_roll=False)
    sent_s = [(frame.capture_us - START_US) // 1_000_000 for frame in rig.line.of("till")]
    assert sent_s == [0, *SOMEBODY_S]
    assert dict(rig.snapshot().counters.gated) == {GateReason.NO_PERSON: 3}


async def test_a_worker_blurs_whom_the_detector_sees_and_nothing_else(tmp_path: Path, clip: Path) -> None:
    rig = await read(tmp_path, clip, models.rt_detr(tmp_path / "m.onnx"), blur=Blur.PEOPLE)
    frames = rig.line.of("till")
    assert [frame.blurred for frame in frames] == [True] * 8
    pictures = [cv2.imdecode(np.frombuffer(frame.payload, np.uint8), cv2.IMREAD_GRAYSCALE) for frame in frames]
    for picture in pictures[4:]:
        assert picture is not None
        rows = picture[BODY][:, 16:-16].astype(np.float32).mean(axis=1)
        stripes = rows[24:56:16] - (rows[20:52:16] + rows[28:60:16]) / 2
        assert np.abs(stripes).max() < 2, "who it is cannot be told"
        edge = np.abs(np.diff(picture[165, :].astype(int))).max()
        assert edge > 30, "the rest is sharp"


async def test_without_its_model_nothing_is_sent_that_was_to_be_blurred(tmp_path: Path, clip: Path) -> None:
    rig = await read(tmp_path, clip, tmp_path / "none.onnx", blur=Blur.PEOPLE)
    assert rig.line.of("till") == []
    assert dict(rig.snapshot().counters.dropped) == {Dropped.DETECT_ERROR: 8}


async def test_without_its_model_what_moves_is_sent_in_place_of_people_and_the_log_says_so(
    tmp_path: Path, clip: Path
) -> None:
    with capture_logs() as logs:
        rig = await read(tmp_path, clip, tmp_path / "none.onnx", gate=GateMode.PERSON)
    assert len(rig.line.of("till")) == 8
    (said,) = [entry for entry in logs if "activity stands in" in entry["event"]]
    assert (said["log_level"], said["camera"]) == ("warning", "till")
    assert "none.onnx" in said["reason"]
