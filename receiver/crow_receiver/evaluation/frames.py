"""The frames of a data set's cameras, as an engine is given them.

Clips are decoded in this process: their checksums have been compared, so they are what whoever labelled them looked at.
Pictures go to the worker as they are.
"""

from collections.abc import Generator
from dataclasses import dataclass

import av
import cv2

from crow_receiver.evaluation.dataset import LABELS_FILE, CameraEntry, DataSet
from crow_receiver.evaluation.labels import Label
from crow_receiver.vision.port import VisionRequest
from crow_shared.errors import CrowError, Kind
from crow_shared.frame import MAX_PICTURE_BYTES, Encoding

START_US = 1_767_225_600_000_000  # of every camera's first frame: 2026-01-01, so that results do not depend on the day
_JPEG_QUALITY = 90  # of frames out of clips


@dataclass(frozen=True, slots=True)
class EvaluationFrame:
    """One frame and what is known about it: nothing, for those of a clip between labelled ones."""

    request: VisionRequest
    time_s: float
    label: Label | None


def frames_of(dataset: DataSet, camera: str, *, labelled_only: bool = False) -> Generator[EvaluationFrame]:
    """The frames of one camera, in order.

    A clip gives one frame for each multiple of its interval, the first picture at that time or after it, as the daemon
    samples; with `labelled_only` those between labelled ones are left out. Raises CrowError: INVALID for a clip that
    ends before its last label or cannot be decoded, TOO_LARGE for a picture that no receiver would take, NOT_FOUND.
    """
    entry = dataset.description.cameras[camera]
    found = _of_clip(dataset, camera, entry) if entry.clip is not None else _of_pictures(dataset, camera)
    for frame in found:
        if not labelled_only or (frame.label is not None and frame.label.labelled):
            yield frame


def _of_pictures(dataset: DataSet, camera: str) -> Generator[EvaluationFrame]:
    for label in dataset.of_camera(camera):
        assert label.file is not None
        path = dataset.folder / label.file
        try:
            coded = path.read_bytes()
        except OSError as error:
            raise CrowError(Kind.NOT_FOUND, "file_missing", f"cannot read {path}: {error.strerror}") from None
        if len(coded) > MAX_PICTURE_BYTES:
            raise CrowError(Kind.TOO_LARGE, "picture_too_large", f"{path} is larger than {MAX_PICTURE_BYTES} bytes")
        yield _frame(dataset, camera, label.time_s, coded, label)


def _of_clip(dataset: DataSet, camera: str, entry: CameraEntry) -> Generator[EvaluationFrame]:
    assert entry.clip is not None
    assert entry.interval_s is not None
    labels = {round(label.time_s / entry.interval_s): label for label in dataset.of_camera(camera)}
    last = max(labels, default=-1)
    clip = dataset.clips / entry.clip
    tick, first_s = 0, None
    try:
        with av.open(str(clip)) as container:
            for picture in container.decode(video=0):
                if tick > last:
                    return
                first_s = first_s if first_s is not None else picture.time or 0.0
                time_s = (picture.time or 0.0) - first_s
                if time_s < tick * entry.interval_s - 1e-6:
                    continue
                coded = _jpeg(picture)
                while tick <= last and tick * entry.interval_s <= time_s + 1e-6:  # a slow clip's picture stands longer
                    yield _frame(dataset, camera, tick * entry.interval_s, coded, labels.get(tick))
                    tick += 1
    except av.FFmpegError as error:
        raise CrowError(Kind.INVALID, "clip_unreadable", f"cannot decode {clip}: {error.strerror}") from None
    if tick <= last:
        missing_s = last * entry.interval_s
        what = f"{LABELS_FILE} has a frame at {missing_s:g} s of camera {camera!r}, but {clip} ends before it"
        raise CrowError(Kind.INVALID, "bad_dataset", what)


def _jpeg(picture: av.VideoFrame) -> bytes:
    _, coded = cv2.imencode(".jpg", picture.to_ndarray(format="bgr24"), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return coded.tobytes()


def _frame(dataset: DataSet, camera: str, time_s: float, coded: bytes, label: Label | None) -> EvaluationFrame:
    entry = dataset.description.cameras[camera]
    request = VisionRequest(
        camera=f"evaluation/{dataset.description.name}/{camera}",
        camera_name=entry.name,
        capture_us=START_US + round(time_s * 1_000_000),
        zones=entry.areas,
        encoding=Encoding.JPEG,
        coded=coded,
    )
    return EvaluationFrame(request, time_s, label)
