"""What an evaluation found: as JSON for machines, as lines for people."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import median, quantiles
from typing import Any

from crow_receiver.evaluation.dataset import DataSet
from crow_receiver.evaluation.run import Answer
from crow_receiver.evaluation.scores import CountScore, Detection, Scores, WordScore, score

REPORT_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds per frame, over all frames that were described, labelled or not."""

    median_ms: float
    p95_ms: float
    largest_ms: float


@dataclass(frozen=True, slots=True)
class Report:
    """The scores of one engine on one data set, and how it counts people at each camera.

    `failed` counts labelled frames that it gave no analysis for.
    """

    dataset: DataSet
    answers: Sequence[Answer]
    scores: Scores
    people_of_camera: dict[str, CountScore]
    timing: Timing | None
    labelled: int
    failed: int

    @property
    def engines(self) -> list[dict[str, Any]]:
        """Which engines answered, with what; more than one where an engine stood in for another."""
        found: list[dict[str, Any]] = []
        for answer in self.answers:
            if answer.analysis is not None:
                said = answer.analysis.provenance.model_dump(mode="json", exclude={"duration_ms", "usage"})
                if said not in found:
                    found.append(said)
        return found

    def as_json(self) -> dict[str, Any]:
        """Everything, with the answers to all frames that the labels name."""
        described = self.dataset.description
        return {
            "format": REPORT_FORMAT,
            "dataset": {
                "name": described.name,
                "labels_sha256": self.dataset.labels_sha256,
                "labelled": sorted(described.labelled),
                "frames_labelled": self.labelled,
                "frames_shown": len(self.answers),
            },
            "engines": self.engines,
            "failed": self.failed,
            "timing": asdict(self.timing) if self.timing else None,
            "scores": _scores_as_json(self.scores),
            "people_of_camera": {camera: asdict(people) for camera, people in self.people_of_camera.items()},
            "frames": [_frame_as_json(answer) for answer in self.answers if answer.label is not None],
        }


def report_of(dataset: DataSet, answers: Sequence[Answer]) -> Report:
    """Scores what was answered to frames that have a label."""
    labelled = [answer for answer in answers if answer.label is not None and answer.label.labelled]
    pairs = [
        (answer.label, answer.analysis.scene)
        for answer in labelled
        if answer.label is not None and answer.analysis is not None
    ]
    counted = {
        camera: score([pair for pair in pairs if pair[0].camera == camera]).people
        for camera in dataset.description.cameras
    }
    times_ms = [answer.wall_ms for answer in answers if answer.analysis is not None]
    return Report(
        dataset,
        answers,
        score(pairs),
        {camera: people for camera, people in counted.items() if people is not None},
        _timing(times_ms),
        len(labelled),
        len(labelled) - len(pairs),
    )


def summary(report: Report) -> Iterator[str]:
    """The report as lines of text."""
    described, scores = report.dataset.description, report.scores
    for engine in report.engines:
        words = (engine["engine"], engine["model"], engine["prompt_version"])
        yield f"engine     {', '.join(word for word in words if word)}"
    yield f"data set   {described.name}: {report.labelled} frames labelled, {len(report.answers)} shown"
    if report.failed:
        yield f"failed     {report.failed} of the labelled frames; nothing below knows of them"
    if report.timing:
        yield f"a frame    {report.timing.median_ms:.0f} ms (median), {report.timing.p95_ms:.0f} ms (95th percentile)"
    if scores.people:
        yield f"people     {_count_line(scores.people)}"
        for camera, people in report.people_of_camera.items():
            yield f"{'':<11}  {camera}: {_count_line(people)}"
    if scores.presence:
        yield f"presence   {_detection_line(scores.presence)}"
    for name, trait in scores.traits.items():
        yield from _word_lines(f"{name:<10} ", trait)
    if scores.actions:
        yield from _word_lines("actions    ", scores.actions)
    if scores.hallucinated:
        made_up = scores.hallucinated
        yield (
            f"made up    {made_up.told} interactions, in {made_up.frames_with_any} of {made_up.frames} frames in which "
            "nobody handles anything"
        )
    if scores.queue:
        yield f"queue      {_count_line(scores.queue)}"


def _count_line(counted: CountScore) -> str:
    unanswered = f", {counted.unanswered} unanswered" if counted.unanswered else ""
    if counted.mean_absolute_error is None:
        return f"{counted.frames} frames{unanswered}"
    return (
        f"{counted.frames} frames{unanswered}: exact {percent(counted.exact)}, "
        f"within one {percent(counted.within_one)}, "
        f"mean absolute error {counted.mean_absolute_error:.2f}, mean error {counted.mean_error:+.2f}"
    )


def _word_lines(title: str, words: WordScore) -> Iterator[str]:
    macro = "-" if words.macro_f1 is None else f"{words.macro_f1:.3f}"
    unknown = f"unknown {percent(words.unknown_rate)} of {words.told} told"
    yield f"{title}{words.frames} frames: macro F1 {macro}, {unknown}"
    for word, found in words.words.items():
        yield f"{'':<11}  {word}: {_detection_line(found)}"


def _detection_line(found: Detection) -> str:
    figures = f"precision {percent(found.precision)}, recall {percent(found.recall)}, F1 {percent(found.f1)}"
    return f"{figures} ({found.right} right, {found.missed} missed, {found.made_up} made up)"


def percent(share: float | None) -> str:
    """A share for people; a dash where there is none."""
    return "-" if share is None else f"{share * 100:.1f} %"


def _timing(times_ms: Sequence[float]) -> Timing | None:
    if not times_ms:
        return None
    p95_ms = quantiles(times_ms, n=20, method="inclusive")[-1] if len(times_ms) > 1 else times_ms[0]
    return Timing(round(median(times_ms), 2), round(p95_ms, 2), round(max(times_ms), 2))


def _scores_as_json(scores: Scores) -> dict[str, Any]:
    return {
        "people": asdict(scores.people) if scores.people else None,
        "confusion": scores.confusion,
        "presence": _detection_as_json(scores.presence) if scores.presence else None,
        **{name: _words_as_json(found) for name, found in scores.traits.items()},
        "actions": _words_as_json(scores.actions) if scores.actions else None,
        "hallucinated": asdict(scores.hallucinated) if scores.hallucinated else None,
        "queue": asdict(scores.queue) if scores.queue else None,
    }


def _words_as_json(words: WordScore) -> dict[str, Any]:
    return {
        "frames": words.frames,
        "told": words.told,
        "unknown": words.unknown,
        "unknown_rate": words.unknown_rate,
        "macro_f1": words.macro_f1,
        "words": {word: _detection_as_json(found) for word, found in words.words.items()},
    }


def _detection_as_json(found: Detection) -> dict[str, Any]:
    return asdict(found) | {"precision": found.precision, "recall": found.recall, "f1": found.f1}


def _frame_as_json(answer: Answer) -> dict[str, Any]:
    assert answer.label is not None
    return {
        "camera": answer.camera,
        "time_s": answer.time_s,
        "label": answer.label.model_dump(mode="json", exclude_none=True, exclude={"camera", "time_s", "file"}),
        "answer": answer.analysis.scene.model_dump(mode="json") if answer.analysis else None,
        "error": answer.error.code if answer.error else None,
        "wall_ms": round(answer.wall_ms, 2),
    }
