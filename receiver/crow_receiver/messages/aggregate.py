"""Sums over the analyses of a stretch of frames. One pass, so that a session need not lie in memory whole."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from crow_receiver.messages.body import MAX_ENGINES, EngineNote
from crow_receiver.messages.inputs import AnalysedFrame
from crow_receiver.vision.schema import Action, Activity, Movement, Role, Scene


@dataclass(slots=True)
class Aggregate:
    """The sums. A sighting is one person in one frame."""

    frames: int = 0
    people: int = 0
    people_ms: int = 0  # their time, by what each frame stands for
    people_max: int = 0
    roles: Counter[Role] = field(default_factory=Counter)
    activities: Counter[Activity] = field(default_factory=Counter)
    movements: Counter[Movement] = field(default_factory=Counter)
    zone_people: Counter[str] = field(default_factory=Counter)
    zone_people_ms: Counter[str] = field(default_factory=Counter)
    zone_people_max: dict[str, int] = field(default_factory=dict)
    zone_interactions: Counter[str] = field(default_factory=Counter)
    signals: Counter[tuple[Action, str | None]] = field(default_factory=Counter)
    queue_frames: int = 0
    queue_people: int = 0
    queue_max: int = 0
    crossing_frames: int = 0
    inwards: Counter[str] = field(default_factory=Counter)
    outwards: Counter[str] = field(default_factory=Counter)
    engines: list[EngineNote] = field(default_factory=list)

    @classmethod
    def of(cls, frames: Iterable[AnalysedFrame]) -> "Aggregate":
        """The sums over `frames`, in any order."""
        aggregate = cls()
        for frame in frames:
            aggregate._add(frame.analysis.scene, frame.stands_for_ms)
            aggregate._note_engine(EngineNote.of(frame.analysis.provenance))
        return aggregate

    def _add(self, scene: Scene, stands_for_ms: int) -> None:
        self.frames += 1
        self.people += len(scene.people)
        self.people_ms += len(scene.people) * stands_for_ms
        self.people_max = max(self.people_max, len(scene.people))
        self.roles.update(person.role for person in scene.people)
        self.activities.update(person.activity for person in scene.people)
        self.movements.update(person.movement for person in scene.people)
        in_zone = Counter(person.zone for person in scene.people)
        self.zone_people.update(in_zone)
        for zone, count in in_zone.items():
            self.zone_people_ms[zone] += count * stands_for_ms
            self.zone_people_max[zone] = max(self.zone_people_max.get(zone, 0), count)
        self.zone_interactions.update(interaction.zone for interaction in scene.interactions)
        self.signals.update((interaction.action, interaction.product) for interaction in scene.interactions)
        if scene.crossings is not None:
            self.crossing_frames += 1
            for each in scene.crossings:
                self.inwards[each.line] += each.inwards
                self.outwards[each.line] += each.outwards
        if scene.queue_length is not None:
            self.queue_frames += 1
            self.queue_people += scene.queue_length
            self.queue_max = max(self.queue_max, scene.queue_length)

    def _note_engine(self, engine: EngineNote) -> None:
        if engine not in self.engines and len(self.engines) < MAX_ENGINES:
            self.engines.append(engine)
