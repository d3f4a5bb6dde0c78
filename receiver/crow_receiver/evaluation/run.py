"""Giving a data set's frames to an engine, in order, and keeping what it says."""

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace

from crow_receiver.evaluation.dataset import DataSet
from crow_receiver.evaluation.frames import EvaluationFrame, frames_of
from crow_receiver.evaluation.labels import Label
from crow_receiver.vision.asking import said
from crow_receiver.vision.port import Vision
from crow_receiver.vision.schema import Analysis
from crow_shared.errors import CrowError


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one frame: an analysis, or the error in its place. `wall_ms` is all the time that it took."""

    camera: str
    time_s: float
    label: Label | None
    analysis: Analysis | None
    error: CrowError | None
    wall_ms: float


async def run(
    dataset: DataSet,
    vision: Vision,
    progress: Callable[[int], object],
    *,
    labelled_only: bool = False,
    tells_previous: bool = False,
) -> list[Answer]:
    """Has all frames described, one at a time: an engine may compare a camera's frames with those before.

    `progress` hears of each labelled frame; `tells_previous`: the engine hears what was said of the frame before.
    Raises CrowError as `frames_of` does; what the engine fails at is in the answers.
    """
    answers = []
    for camera in dataset.description.cameras:
        last: tuple[str, int] | None = None  # what was said, and of when
        with closing(frames_of(dataset, camera, labelled_only=labelled_only)) as frames:
            for frame in frames:
                if tells_previous and last is not None:
                    before = said(*last, frame.request.capture_us)
                    frame = replace(frame, request=replace(frame.request, previous=before))  # noqa: PLW2901
                answer = await _answer(camera, frame, vision)
                if answer.analysis is not None:
                    last = answer.analysis.scene.description, frame.request.capture_us
                answers.append(answer)
                if frame.label is not None and frame.label.labelled:
                    progress(1)
    return answers


async def _answer(camera: str, frame: EvaluationFrame, vision: Vision) -> Answer:
    analysis, failure = None, None
    began_s = time.perf_counter()
    try:
        analysis = await vision.describe(frame.request)
    except CrowError as error:
        failure = error
    wall_ms = (time.perf_counter() - began_s) * 1000
    return Answer(camera, frame.time_s, frame.label, analysis, failure, wall_ms)
