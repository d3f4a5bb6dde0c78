"""What an engine's answers are worth: compared with labels, field by field.

docs/EVALUATION.md says for people how each figure is to be read. Answers have no boxes, so it is not known which person
of an answer is which of the label; what people do is compared frame by frame as a count of each word. `unknown` is no
claim: it is never counted as made up, and what it stands for is missed.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from crow_receiver.evaluation.labels import TRAITS, Label, Labelled
from crow_receiver.vision.schema import MAX_PEOPLE, Action, Scene
from crow_shared.zones import UNKNOWN_ZONE

Pair = tuple[Label, Scene]


@dataclass(frozen=True, slots=True)
class Detection:
    """How often something was told rightly, missed, and made up."""

    right: int
    missed: int
    made_up: int

    @property
    def precision(self) -> float | None:
        """The share of what was told that is so; None where nothing was told."""
        return _share(self.right, self.right + self.made_up)

    @property
    def recall(self) -> float | None:
        """The share of what is so that was told; None where nothing is."""
        return _share(self.right, self.right + self.missed)

    @property
    def f1(self) -> float | None:
        """The harmonic mean of precision and recall (van Rijsbergen, 1979); None where there was nothing to tell."""
        return _share(2 * self.right, 2 * self.right + self.missed + self.made_up)


@dataclass(frozen=True, slots=True)
class CountScore:
    """A number of people: of those waiting, or of all.

    Shares are of the frames in which the engine gave a number; errors are said less labelled.
    """

    frames: int
    unanswered: int
    exact: float | None
    within_one: float | None
    mean_absolute_error: float | None
    mean_error: float | None


@dataclass(frozen=True, slots=True)
class WordScore:
    """One field whose values are words, over `frames`; `words` are those that a label or an answer has."""

    frames: int
    told: int
    unknown: int
    words: dict[str, Detection]

    @property
    def macro_f1(self) -> float | None:
        """The mean of the words' F1: each word counts the same, however rare."""
        scores = [score.f1 for score in self.words.values() if score.f1 is not None]
        return fmean(scores) if scores else None

    @property
    def unknown_rate(self) -> float | None:
        """The share of `unknown` in what the engine told."""
        return _share(self.unknown, self.told)


@dataclass(frozen=True, slots=True)
class Hallucination:
    """Interactions told in frames where nobody handles anything."""

    frames: int
    frames_with_any: int
    told: int


@dataclass(frozen=True, slots=True)
class Scores:
    """All that can be scored; None for what no described frame has a label of.

    `confusion[labelled][said]` counts frames by number of people; both are at most `MAX_PEOPLE`, as in an answer.
    """

    people: CountScore | None
    confusion: list[list[int]] | None
    presence: Detection | None
    traits: dict[Labelled, WordScore]
    actions: WordScore | None
    hallucinated: Hallucination | None
    queue: CountScore | None


def score(pairs: Sequence[Pair]) -> Scores:
    """Scores the answers to labelled frames."""
    counts = [(min(label.count, MAX_PEOPLE), len(said.people)) for label, said in pairs if label.count is not None]
    queues = [(label.queue_length, said.queue_length) for label, said in pairs if label.queue_length is not None]
    traits = {name: _words(pairs, _labelled_trait(name), _said_trait(name)) for name in TRAITS}
    return Scores(
        people=_counts(counts),
        confusion=_confusion(counts) if counts else None,
        presence=_presence(counts) if counts else None,
        traits={name: found for name, found in traits.items() if found is not None},
        actions=_words(pairs, _labelled_actions, lambda said: [one.action for one in said.interactions]),
        hallucinated=_hallucinated(pairs),
        queue=_counts(queues),
    )


def _counts(counts: Sequence[tuple[int, int | None]]) -> CountScore | None:
    if not counts:
        return None
    errors = [said - labelled for labelled, said in counts if said is not None]
    return CountScore(
        frames=len(counts),
        unanswered=len(counts) - len(errors),
        exact=_share(sum(error == 0 for error in errors), len(errors)),
        within_one=_share(sum(abs(error) <= 1 for error in errors), len(errors)),
        mean_absolute_error=fmean(map(abs, errors)) if errors else None,
        mean_error=fmean(errors) if errors else None,
    )


def _confusion(counts: Iterable[tuple[int, int]]) -> list[list[int]]:
    matrix = [[0] * (MAX_PEOPLE + 1) for _ in range(MAX_PEOPLE + 1)]
    for labelled, said in counts:
        matrix[labelled][said] += 1
    return matrix


def _presence(counts: Iterable[tuple[int, int]]) -> Detection:
    found = Counter((labelled > 0, said > 0) for labelled, said in counts)
    return Detection(right=found[True, True], missed=found[True, False], made_up=found[False, True])


def _words(
    pairs: Sequence[Pair], labelled_of: Callable[[Label], list[str] | None], said_of: Callable[[Scene], list[str]]
) -> WordScore | None:
    frames, right, missed, made_up, unknown = 0, Counter[str](), Counter[str](), Counter[str](), 0
    for label, scene in pairs:
        labelled = labelled_of(label)
        if labelled is None:
            continue
        frames += 1
        there, said = Counter(labelled), Counter(said_of(scene))
        unknown += said.pop(UNKNOWN_ZONE, 0)
        right += there & said
        missed += there - said
        made_up += said - there
    if not frames:
        return None
    words = sorted(right.keys() | missed.keys() | made_up.keys())
    told = right.total() + made_up.total() + unknown
    return WordScore(
        frames, told, unknown, {word: Detection(right[word], missed[word], made_up[word]) for word in words}
    )


def _hallucinated(pairs: Sequence[Pair]) -> Hallucination | None:
    told = [
        sum(one.action is not Action.UNKNOWN for one in said.interactions)
        for label, said in pairs
        if label.interactions == []
    ]
    return Hallucination(len(told), sum(count > 0 for count in told), sum(told)) if told else None


def _labelled_trait(name: Labelled) -> Callable[[Label], list[str] | None]:
    return lambda label: label.traits(name)


def _said_trait(name: Labelled) -> Callable[[Scene], list[str]]:
    return lambda scene: [getattr(person, name) for person in scene.people]


def _labelled_actions(label: Label) -> list[str] | None:
    return None if label.interactions is None else [one.action for one in label.interactions]


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
