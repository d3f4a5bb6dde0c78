"""What gates are tried on: a sample a second, and what is known to have happened in each second.

The rendered shop has its truth: five noise-free pictures a second, in even light, whose changes are movement. What the
gate sees are H.264 keyframes of the disturbed picture. Of real clips every picture is looked at: movement is frame
difference, a reference and no truth; presence was noted by hand where the clip is ever empty (MOG2 forgets who stands
still). Such a clip is followed by all its empty pictures from before the first visit, one a second.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from crow_sim.encode import encode
from crow_sim.shop import AISLE, TILL, Light, Renderer, Scene, planned_scene
from crow_sim.shop.lens import Rain

Bgr = NDArray[np.uint8]
Luma = NDArray[np.uint8]

SIZE = (1280, 720)
SMALL = (320, 180)
BUSY_S, EMPTY_S = 300, 300  # of a rendered scene: visits with pauses, then nobody
TRUTH_FPS = 5
MOVED_SHARE = 0.0005  # of the noise-free picture; an arm that reaches for a shelf 6 m away
PRESENT_SHARE = 0.001
PRESENT_BY_HAND_S = {
    "one-by-one-person-detection.mp4": ((6, 20), (23, 45), (51, 70), (75, 87), (93, 120), (124, 136)),
    "vtest.avi": ((0, 80),),
}


@dataclass(frozen=True, slots=True)
class Footage:
    """One sample a second. `moves`: something moves in that second; `present`: somebody is there."""

    name: str
    samples: tuple[Bgr, ...]
    moves: NDArray[np.bool_]
    present: NDArray[np.bool_]
    first_seen_s: tuple[float, ...]  # when each visit begins, to a fraction of a second


DISTURBANCES: dict[str, dict[str, object]] = {
    "steady": {},
    "drifting light": {"light": Light(drift_share=0.2, drift_period_s=120)},
    "light switched": {"light": Light(steps=((100, 0.6), (200, 1.0), (400, 0.5), (500, 1.0)))},
    "one lamp switched": {"light": Light(steps=((100, 0.6), (200, 1.0), (400, 0.6), (500, 1.0)), reach=0.5)},
    "daylight from a side": {"light": Light(drift_share=0.2, drift_period_s=120, reach=0.5)},
    "sensor noise": {"noise_sigma": 10.0, "light": Light(steps=((0, 0.5),))},
    "rain on the lens": {"rain": Rain(drops_per_minute=6, stays_s=20)},
}


def rendered() -> Iterator[Footage]:
    """The shop from two cameras, with each disturbance."""
    for view in (AISLE, TILL):
        for number, (name, changes) in enumerate(DISTURBANCES.items()):
            busy = planned_scene(view, seed=number + 1, seconds=BUSY_S)
            scene = Scene(view, busy.visits, seed=number + 1)
            yield _of_scene(f"{view.name}, {name}", scene, replace(scene, **changes))


def clips(directory: Path) -> Iterator[Footage]:
    """The real clips that lie there."""
    for name in PRESENT_BY_HAND_S:
        if (directory / name).exists():
            yield _of_clip(directory / name)


def _of_scene(name: str, scene: Scene, disturbed: Scene) -> Footage:
    seconds = BUSY_S + EMPTY_S
    with tempfile.TemporaryDirectory() as place:
        clip = Path(place) / "scene.mp4"
        renderer = Renderer(disturbed, *SIZE)
        encode(clip, (renderer.picture(float(second)) for second in range(seconds)), 1.0, "h264", 1.0)
        with av.open(str(clip)) as container:
            samples = tuple(
                frame.to_ndarray(format="bgr24", width=640, height=360) for frame in container.decode(video=0)
            )
    truth = Renderer(replace(scene, noise_sigma=0.0), *SMALL)
    empty = _grey(truth.empty())
    pictures = [_grey(truth.picture(number / TRUTH_FPS)) for number in range(seconds * TRUTH_FPS + 1)]
    moved = np.array([_share(after, before, 10) for before, after in pairwise(pictures)])
    there = np.array([_share(picture, empty, 10) for picture in pictures[:-1]])
    return _footage(name, samples, moved > MOVED_SHARE, there > PRESENT_SHARE, TRUTH_FPS)


def _of_clip(path: Path) -> Footage:
    visits_s = PRESENT_BY_HAND_S[path.name]
    samples, empty, moved, before = [], [], [], None
    with av.open(str(path)) as container:
        fps = round(float(container.streams.video[0].average_rate or 10))
        for number, frame in enumerate(container.decode(video=0)):
            picture = frame.to_ndarray(format="bgr24")
            if number % fps == 0:
                samples.append(picture)
            if number < visits_s[0][0] * fps:
                empty.append(picture)
            small = cv2.GaussianBlur(frame.to_ndarray(format="gray", width=SMALL[0], height=SMALL[1]), (5, 5), 0)
            moved.append(0.0 if before is None else _share(small, before, 12))
            before = small
    count = len(moved) // fps
    # Two pictures of a second have to move: one alone may be a glitch of the coding.
    twice = (np.array(moved[: count * fps]).reshape(count, fps) > 0.001).sum(axis=1) >= 2
    moves = np.zeros((count + len(empty)) * fps, bool)
    moves[: count * fps] = np.repeat(twice, fps)
    there = np.zeros_like(moves)
    for begin_s, end_s in visits_s:
        there[begin_s * fps : end_s * fps] = True
    return _footage(path.stem, (*samples[:count], *empty), moves, there | moves, fps)


def _footage(
    name: str, samples: tuple[Bgr, ...], moved: NDArray[np.bool_], there: NDArray[np.bool_], fps: int
) -> Footage:
    seconds = len(samples)
    moves = moved[: seconds * fps].reshape(seconds, fps).any(axis=1)
    present = there[: seconds * fps].reshape(seconds, fps).any(axis=1)
    begins = [
        number / fps
        for number in range(3 * fps, seconds * fps)
        if there[number] and not there[number - 3 * fps : number].any()
    ]
    return Footage(name, samples, moves, present, tuple(begins))


def _grey(bgr: Bgr) -> Luma:
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)


def _share(one: Luma, other: Luma, levels: int) -> float:
    return _opened((cv2.absdiff(one, other) > levels).astype(np.uint8))


def _opened(changed: Luma) -> float:
    return float(cv2.morphologyEx(changed, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)).mean())
