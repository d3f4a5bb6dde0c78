"""What a run says otherwise than was said before, as sums and as the frames that differ most."""

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from textwrap import shorten
from typing import Any

from crow_receiver.store.reanalyses import Pair
from crow_receiver.vision.schema import Action, Analysis, Scene
from crow_shared.cli import iso

MOST_SHOWN = 5  # of the frames that differ most
MOST_CHARS = 160  # of a description in the summary


@dataclass(slots=True)
class Counted:
    """A number before and now, over the frames in which both are known."""

    equal: int = 0
    more: int = 0
    fewer: int = 0
    difference: int = 0  # now less before, summed

    def add(self, before: int, now: int) -> None:
        """One more frame."""
        self.equal += now == before
        self.more += now > before
        self.fewer += now < before
        self.difference += now - before

    @property
    def frames(self) -> int:
        """The frames compared."""
        return self.equal + self.more + self.fewer

    @property
    def mean_difference(self) -> float | None:
        """Now less before, a frame; None without frames."""
        return self.difference / self.frames if self.frames else None

    def as_json(self) -> dict[str, Any]:
        """The same in plain JSON values."""
        counts = {"equal": self.equal, "more": self.more, "fewer": self.fewer}
        return counts | {"mean_difference": self.mean_difference}


@dataclass(slots=True)
class Side:
    """One side of the comparison: what the first answers said, or the run's."""

    words: int = 0  # role, zone, activity and movement of people, actions of interactions
    unknown: int = 0  # of these
    queues: int = 0  # frames in which the length of the queue was told
    duration_ms: int = 0  # summed

    def add(self, analysis: Analysis) -> None:
        """One more frame."""
        words = list(_words(analysis.scene))
        self.words += len(words)
        self.unknown += words.count("unknown")
        self.queues += analysis.scene.queue_length is not None
        self.duration_ms += analysis.provenance.duration_ms

    def as_json(self, frames: int) -> dict[str, Any]:
        """The same in plain JSON values."""
        rate = self.unknown / self.words if self.words else None
        mean_ms = self.duration_ms / frames if frames else None
        return {"words": self.words, "unknown_rate": rate, "queues_told": self.queues, "mean_duration_ms": mean_ms}


@dataclass(slots=True)
class Difference:
    """The sums over a run's frames; what is compared are frames that were described both times."""

    compared: int = 0
    newly_described: int = 0  # they had failed before
    failed: int = 0  # in the run
    people: Counted = field(default_factory=Counted)
    queue: Counted = field(default_factory=Counted)
    gained: Counter[Action] = field(default_factory=Counter)
    lost: Counter[Action] = field(default_factory=Counter)
    before: Side = field(default_factory=Side)
    now: Side = field(default_factory=Side)
    most_different: list[Pair] = field(default_factory=list)  # the most different first; none that is equal

    @classmethod
    def of(cls, pairs: Iterable[Pair]) -> "Difference":
        """The difference, in one pass."""
        made = cls()
        ranked: list[tuple[int, int, Pair]] = []
        for number, pair in enumerate(pairs):
            changes = made._add(pair)
            if changes:
                push = heapq.heappush if len(ranked) < MOST_SHOWN else heapq.heappushpop
                push(ranked, (changes, -number, pair))
        made.most_different = [pair for *_, pair in sorted(ranked, reverse=True)]
        return made

    def _add(self, pair: Pair) -> int:
        """Counts a frame; by how much its two answers differ."""
        if pair.now is None:
            self.failed += 1
            return 0
        if pair.before is None:
            self.newly_described += 1
            return 0
        self.compared += 1
        self.before.add(pair.before)
        self.now.add(pair.now)
        before, now = pair.before.scene, pair.now.scene
        self.people.add(len(before.people), len(now.people))
        gained, lost = _actions(now) - _actions(before), _actions(before) - _actions(now)
        self.gained += gained
        self.lost += lost
        changes = abs(len(now.people) - len(before.people)) + gained.total() + lost.total()
        if before.queue_length is not None and now.queue_length is not None:
            self.queue.add(before.queue_length, now.queue_length)
            changes += abs(now.queue_length - before.queue_length)
        return changes

    def as_json(self) -> dict[str, Any]:
        """The sums in plain JSON values."""
        return {
            "compared": self.compared,
            "newly_described": self.newly_described,
            "failed": self.failed,
            "people": self.people.as_json(),
            "queue": self.queue.as_json(),
            "actions": {
                action: {"gained": self.gained[action], "lost": self.lost[action]}
                for action in Action
                if self.gained[action] or self.lost[action]
            },
            "before": self.before.as_json(self.compared),
            "now": self.now.as_json(self.compared),
        }


def pair_as_json(pair: Pair) -> dict[str, Any]:
    """One frame with all that was said of it, in plain JSON values."""
    return {
        "session_id": pair.session_id,
        "frame_index": pair.frame_index,
        "capture_us": pair.capture_us,
        "before": pair.before.model_dump(mode="json") if pair.before else None,
        "now": pair.now.model_dump(mode="json") if pair.now else None,
        "failure": pair.failure,
    }


def summary(difference: Difference) -> Iterator[str]:
    """The difference as lines of text."""
    others = [(difference.newly_described, "failed before and are described now"), (difference.failed, "failed now")]
    told = "".join(f"; {count} {what}" for count, what in others if count)
    yield f"frames     {difference.compared} compared{told}"
    if not difference.compared:
        return
    before, now = (side.as_json(difference.compared) for side in (difference.before, difference.now))
    yield f"people     {_counted_line(difference.people)}"
    for action, counts in difference.as_json()["actions"].items():
        yield f"actions    {action}: {counts['gained']} gained, {counts['lost']} lost"
    queues = f"told in {before['queues_told']} frames before, in {now['queues_told']} now"
    yield f"queue      {queues}" + (f"; {_counted_line(difference.queue)}" if difference.queue.frames else "")
    rates = (_percent(before["unknown_rate"]), _percent(now["unknown_rate"]))
    yield f"unknown    {rates[0]} of the words for people and actions before, {rates[1]} now"
    yield f"a frame    {before['mean_duration_ms']:.0f} ms before, {now['mean_duration_ms']:.0f} ms now (mean)"
    if difference.most_different:
        yield "most different:"
    for pair in difference.most_different:
        assert pair.before is not None
        assert pair.now is not None
        yield f"  frame {pair.frame_index} of {pair.session_id}, {iso(pair.capture_us)}"
        yield f"    before: {_scene_line(pair.before.scene)}"
        yield f"    now:    {_scene_line(pair.now.scene)}"


def _counted_line(counted: Counted) -> str:
    shares = f"equal in {counted.equal}, more in {counted.more}, fewer in {counted.fewer}"
    return f"{shares}; mean difference {counted.mean_difference:+.2f}"


def _scene_line(scene: Scene) -> str:
    actions = "".join(f", {action} {count}" for action, count in sorted(_actions(scene).items()))
    queue = "" if scene.queue_length is None else f", queue {scene.queue_length}"
    return f"[people {len(scene.people)}{actions}{queue}] {shorten(scene.description, MOST_CHARS, placeholder=' …')}"


def _actions(scene: Scene) -> Counter[Action]:
    return Counter(interaction.action for interaction in scene.interactions)


def _words(scene: Scene) -> Iterator[str]:
    for person in scene.people:
        yield from (person.role, person.zone, person.activity, person.movement)
    yield from (interaction.action for interaction in scene.interactions)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share * 100:.1f} %"
