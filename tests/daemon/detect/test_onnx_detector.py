"""The person detector with real models, small as they are: found where they are, whatever the export looks like."""

import hashlib
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import detector_models as models
import numpy as np
import pytest
from conftest import ManualClock
from structlog.testing import capture_logs

from crow_daemon.capture.encoder import Bgr
from crow_daemon.detect import outputs
from crow_daemon.detect.config import DetectorConfig, Provider
from crow_daemon.detect.on_demand import RETRY_S, OnDemandDetector
from crow_daemon.detect.onnx_detector import OnnxDetector
from crow_daemon.detect.port import DETECTOR_FAILED
from crow_shared.errors import CrowError, Kind

Builder = Callable[[Path], Path]
STYLES = {
    "yolox-raw": partial(models.yolox, decoded=False),
    "yolox-decoded": partial(models.yolox, decoded=True),
    "rt-detr": models.rt_detr,
    "rt-detr-logits": models.rt_detr_logits,
}
every_style = pytest.mark.parametrize("build", STYLES.values(), ids=STYLES.keys())


@pytest.fixture(params=STYLES.values(), ids=STYLES.keys())
def detector(request: pytest.FixtureRequest, tmp_path: Path) -> OnnxDetector:
    build: Builder = request.param
    return OnnxDetector(DetectorConfig(str(build(tmp_path / "model.onnx"))))


def picture(*squares: tuple[int, int, int], size: tuple[int, int] = (192, 192), level: int = 250) -> Bgr:
    """Bright squares (left, top, side) on a dark ground."""
    pixels = np.full((size[1], size[0], 3), 40, np.uint8)
    for left, top, side in squares:
        pixels[top : top + side, left : left + side] = level
    return pixels


def test_nobody_is_found_in_the_dark(detector: OnnxDetector) -> None:
    assert detector.find(picture()) == ()


def test_a_body_is_found_where_it_is(detector: OnnxDetector) -> None:
    people = detector.find(picture((64, 128, 32)))
    covered = np.zeros((12, 12), bool)
    for person in people:
        assert person.confidence > 0.9
        sides = (person.region.left, person.region.top, person.region.right, person.region.bottom)
        left, top, right, bottom = (round(12 * share) for share in sides)
        covered[top:bottom, left:right] = True
    assert np.argwhere(covered).tolist() == [[8, 4], [8, 5], [9, 4], [9, 5]]


@pytest.mark.parametrize("size", [(192, 108), (108, 192), (97, 61)])
def test_a_picture_of_another_shape_than_the_models_has_its_people_in_the_right_place(
    detector: OnnxDetector, size: tuple[int, int]
) -> None:
    width, height = size
    left, top, side = width // 2, height // 2, min(size) // 2
    people = detector.find(picture((left, top, side), size=size))
    assert people
    assert min(person.region.left for person in people) == pytest.approx(left / width, abs=0.16)
    assert min(person.region.top for person in people) == pytest.approx(top / height, abs=0.16)
    assert max(person.region.right for person in people) == pytest.approx((left + side) / width, abs=0.16)
    assert max(person.region.bottom for person in people) == pytest.approx((top + side) / height, abs=0.16)


def test_less_sure_finds_are_given_out_to_be_hidden_but_do_not_count_as_seen(tmp_path: Path) -> None:
    config = DetectorConfig(str(models.rt_detr(tmp_path / "m.onnx")), confidence=0.6)
    (found,) = {round(person.confidence, 1) for person in OnnxDetector(config).find(picture((64, 64, 64), level=199))}
    assert 0.3 <= found < 0.6


def test_other_classes_are_no_people(tmp_path: Path) -> None:
    model = models.yolox(tmp_path / "cats.onnx", decoded=True, person_class=15)
    assert OnnxDetector(DetectorConfig(str(model))).find(picture((64, 128, 32))) == ()


def test_of_boxes_over_one_person_the_best_is_kept() -> None:
    rows = np.zeros((1, 4, 6), np.float32)
    rows[0, :, :4] = [(50, 50, 20, 40), (52, 51, 22, 40), (55, 50, 20, 38), (80, 50, 20, 40)]
    rows[0, :, 4], rows[0, :, 5] = (0.7, 0.9, 0.8, 0.6), 1.0
    boxes, scores = outputs.yolox(rows, 96, 96, decoded=True, least=0.3)
    assert scores.tolist() == pytest.approx([0.9, 0.6])
    assert boxes[0].tolist() == [41, 31, 63, 71]


def test_a_detector_for_the_gpu_runs_on_the_cpu_of_a_machine_without_one_and_says_so(tmp_path: Path) -> None:
    model = models.rt_detr(tmp_path / "m.onnx")
    for asked in (Provider.CUDA, Provider.TENSORRT):
        with capture_logs() as logs:
            detector = OnnxDetector(DetectorConfig(str(model), provider=asked))
        if detector.provider is asked:
            pytest.skip("this machine has one")
        assert detector.provider is Provider.CPU
        (said,) = [entry for entry in logs if entry["log_level"] == "warning"]
        assert (said["asked"], said["runs_on"]) == (asked, Provider.CPU)
        assert detector.find(picture((64, 128, 32)))
    with capture_logs() as logs:
        OnnxDetector(DetectorConfig(str(model), provider=Provider.CPU))
    assert [entry["log_level"] for entry in logs] == ["info"]


def failing(config: DetectorConfig) -> CrowError:
    with pytest.raises(CrowError) as raised:
        OnnxDetector(config)
    return raised.value


def test_a_file_with_another_checksum_is_refused(tmp_path: Path) -> None:
    model = models.rt_detr(tmp_path / "m.onnx")
    right = hashlib.sha256(model.read_bytes()).hexdigest()
    OnnxDetector(DetectorConfig(str(model), sha256=right.upper()))
    error = failing(DetectorConfig(str(model), sha256="0" * 64))
    assert (error.kind, error.code) == (Kind.CORRUPT, "detector_changed")


def test_what_is_no_person_detector_is_refused_with_what_it_is(tmp_path: Path) -> None:
    error = failing(DetectorConfig(str(models.no_detector(tmp_path / "m.onnx"))))
    assert (error.kind, error.code) == (Kind.UNSUPPORTED, "detector_unusable")
    assert "mean [1, 1, 1, 1]" in error.message


@pytest.mark.parametrize("content", [b"", b"no model at all", b"\x08\x08" * 500])
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    assert failing(DetectorConfig(str(tmp_path / "m.onnx"))).code == "detector_unusable"


def test_a_missing_file_is_told_by_its_path(tmp_path: Path) -> None:
    error = failing(DetectorConfig(str(tmp_path / "none.onnx")))
    assert (error.kind, error.code) == (Kind.NOT_FOUND, "detector_missing")
    assert "none.onnx" in error.message


def test_a_detector_is_loaded_once_for_all_cameras_of_a_process(tmp_path: Path) -> None:
    detector = OnDemandDetector(DetectorConfig(str(models.rt_detr(tmp_path / "m.onnx"))))
    found: list[int] = []
    looks = [
        threading.Thread(target=lambda: found.append(len(detector.find(picture((64, 128, 32)))))) for _ in range(4)
    ]
    with capture_logs() as logs:
        for look in looks:
            look.start()
        for look in looks:
            look.join()
    assert len(set(found)) == 1
    assert len(found) == 4
    assert len([entry for entry in logs if entry["event"] == "person detector is ready"]) == 1


def test_a_detector_that_does_not_load_fails_every_look_with_the_reason(tmp_path: Path) -> None:
    detector = OnDemandDetector(DetectorConfig(str(tmp_path / "none.onnx")))
    for _ in range(2):
        with pytest.raises(CrowError, match=r"none\.onnx") as raised:
            detector.find(picture())
        assert raised.value.code == DETECTOR_FAILED


def test_a_detector_that_did_not_load_is_tried_again_after_a_while(tmp_path: Path, clock: ManualClock) -> None:
    file = tmp_path / "m.onnx"
    detector = OnDemandDetector(DetectorConfig(str(file)), clock.monotonic_s)
    with pytest.raises(CrowError):
        detector.find(picture())
    models.rt_detr(file)
    with pytest.raises(CrowError):
        detector.find(picture())
    clock.advance(RETRY_S)
    detector.find(picture())


def test_onnxruntime_is_loaded_only_with_a_detector() -> None:
    program = (
        "import sys, crow_daemon.app, crow_daemon.capture.pipeline, crow_daemon.detect.on_demand;"
        "sys.exit('onnxruntime' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
