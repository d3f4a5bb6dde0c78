"""The body of `crow-pattern-queue`: what a camera saw in a minute or in a session, as sums.

Person-seconds are sampled: one person in one analysed frame stands for one sample interval, or for more while this
receiver asked for fewer frames, in the proportion in which the daemon left samples out (`degraded`). Samples that the
gate held back, that were lost or whose analysis failed add nothing, so it is a lower bound; `coverage` says how many
they are. No count here is one of distinct visitors. They are null where the sample interval is not known.
"""

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field

from crow_receiver.messages.aggregate import Aggregate
from crow_receiver.messages.body import MAX_ENGINES, Body, Count, EngineNote, TimestampMs
from crow_receiver.messages.coverage import Coverage
from crow_receiver.messages.inputs import AnalysedFrame, SessionFacts, as_ms
from crow_receiver.vision.schema import Action, Activity, Movement, Role, ShortText

SCHEMA_VERSION: Literal[1] = 1
MINUTE_US = 60_000_000
MAX_ZONES = 32
MAX_LINES = 32  # a camera has no more; one whose lines are renamed within a session is told of the busiest
MAX_PRODUCT_SIGNALS = 64

Amount = Annotated[float, Field(ge=0)]


class FrameCounts(Body):
    """Frames of the window by what became of them."""

    analysed: Count
    failed: Count


class PeopleFigures(Body):
    """People per analysed frame, and their sampled time. An engine tells of 8 people in a frame at most."""

    mean: Amount
    max: Count
    person_seconds: Amount | None


class ZoneFigures(Body):
    """One named zone; mean and maximum are over all analysed frames of the window."""

    zone: ShortText
    mean: Amount
    max: Count
    person_seconds: Amount | None
    interactions: Count


class OtherZones(Body):
    """The zones beyond MAX_ZONES, those with the least time, together."""

    zones: Count
    person_seconds: Amount | None
    interactions: Count


class ProductSignal(Body):
    """How often a product (null: the engine cannot tell which) was handled in a way, in frames that show it."""

    action: Action
    product: ShortText | None
    count: Annotated[int, Field(ge=1)]


class QueueFigures(Body):
    """People who wait at a till, over the frames in which the engine could tell."""

    frames: Count
    mean: Amount
    max: Count


class LineFigures(Body):
    """How many were seen to cross one of the camera's lines, each way."""

    line: ShortText
    inwards: Count
    outwards: Count


class CrossingFigures(Body):
    """The lines that were crossed, over the frames in which the engine could tell."""

    frames: Count
    lines: Annotated[list[LineFigures], Field(max_length=MAX_LINES)]


class PatternWindow(Body):
    """The whole body; the highest revision replaces the others of its session, and for a window of its minute."""

    message_id: str
    schema_version: Literal[1]
    kind: Literal["window", "session"]
    revision: Count
    organization_id: str
    site_id: str
    camera_id: str
    camera_name: str
    session_id: str
    window_start: TimestampMs
    window_end: TimestampMs
    sample_interval_ms: Annotated[int, Field(ge=1)] | None
    frames: FrameCounts
    coverage: Coverage
    people: PeopleFigures | None
    zones: Annotated[list[ZoneFigures], Field(max_length=MAX_ZONES)]
    other_zones: OtherZones | None
    roles: dict[Role, Count]
    activities: dict[Activity, Count]
    movements: dict[Movement, Count]
    interactions: Annotated[list[ProductSignal], Field(max_length=MAX_PRODUCT_SIGNALS)]
    other_interactions: Count
    queue: QueueFigures | None
    crossings: CrossingFigures | None
    engines: Annotated[list[EngineNote], Field(max_length=MAX_ENGINES)]
    batches: Count | None
    minutes: Count | None


def pattern_window(
    facts: SessionFacts,
    minute_start_us: int,
    frames: Iterable[AnalysedFrame],
    failed: int,
    coverage: Coverage,
    revision: int = 0,
) -> PatternWindow:
    """One minute of capture time: the analysed frames in it, how many more failed, and the samples behind them."""
    assert minute_start_us % MINUTE_US == 0, "a window starts with a minute"
    start_ms = as_ms(minute_start_us)
    return _window(
        facts,
        message_id=f"{facts.session_id}:window:{start_ms}:{revision}",
        kind="window",
        revision=revision,
        start_ms=start_ms,
        end_ms=as_ms(minute_start_us + MINUTE_US),
        aggregate=Aggregate.of(frames),
        failed=failed,
        coverage=coverage,
    )


def session_summary(
    facts: SessionFacts,
    ended_us: int,
    frames: Iterable[AnalysedFrame],
    failed: int,
    coverage: Coverage,
    *,
    batches: int,
    minutes: int,
    revision: int = 0,
) -> PatternWindow:
    """A whole session; `batches` and `minutes` are the numbers of messages that it gave before this one."""
    return _window(
        facts,
        message_id=f"{facts.session_id}:session:{revision}",
        kind="session",
        revision=revision,
        start_ms=as_ms(facts.started_us),
        end_ms=as_ms(ended_us),
        aggregate=Aggregate.of(frames),
        failed=failed,
        coverage=coverage,
        batches=batches,
        minutes=minutes,
    )


def _window(
    facts: SessionFacts,
    *,
    message_id: str,
    kind: Literal["window", "session"],
    revision: int,
    start_ms: int,
    end_ms: int,
    aggregate: Aggregate,
    failed: int,
    coverage: Coverage,
    batches: int | None = None,
    minutes: int | None = None,
) -> PatternWindow:
    zones = sorted(
        aggregate.zone_people.keys() | aggregate.zone_interactions.keys(),
        key=lambda name: (-aggregate.zone_people[name], -aggregate.zone_interactions[name], name),
    )
    signals = sorted(aggregate.signals.items(), key=_signal_order)
    return PatternWindow(
        message_id=message_id,
        schema_version=SCHEMA_VERSION,
        kind=kind,
        revision=revision,
        organization_id=facts.camera.organization_id,
        site_id=facts.camera.site_id,
        camera_id=facts.camera.camera_id,
        camera_name=facts.camera_name,
        session_id=facts.session_id,
        window_start=start_ms,
        window_end=end_ms,
        sample_interval_ms=facts.sample_interval_ms or None,
        frames=FrameCounts(analysed=aggregate.frames, failed=failed),
        coverage=coverage,
        people=_people(aggregate, facts.sample_interval_ms),
        zones=[_zone(aggregate, name, facts.sample_interval_ms) for name in zones[:MAX_ZONES]],
        other_zones=_other_zones(aggregate, zones[MAX_ZONES:], facts.sample_interval_ms),
        roles={role: aggregate.roles[role] for role in Role},
        activities={activity: aggregate.activities[activity] for activity in Activity},
        movements={movement: aggregate.movements[movement] for movement in Movement},
        interactions=[
            ProductSignal(action=action, product=product, count=count)
            for (action, product), count in signals[:MAX_PRODUCT_SIGNALS]
        ],
        other_interactions=sum(count for _, count in signals[MAX_PRODUCT_SIGNALS:]),
        queue=_queue(aggregate),
        crossings=_crossings(aggregate),
        engines=aggregate.engines,
        batches=batches,
        minutes=minutes,
    )


def _signal_order(signal: tuple[tuple[Action, str | None], int]) -> tuple[int, str, bool, str]:
    """The most frequent first, and always the same order among equals."""
    (action, product), count = signal
    return (-count, action, product is not None, product or "")


def _people(aggregate: Aggregate, sample_interval_ms: int) -> PeopleFigures | None:
    if not aggregate.frames:
        return None
    return PeopleFigures(
        mean=_mean(aggregate.people, aggregate.frames),
        max=aggregate.people_max,
        person_seconds=_seconds(aggregate.people_ms, sample_interval_ms),
    )


def _zone(aggregate: Aggregate, name: str, sample_interval_ms: int) -> ZoneFigures:
    return ZoneFigures(
        zone=name,
        mean=_mean(aggregate.zone_people[name], aggregate.frames),
        max=aggregate.zone_people_max.get(name, 0),
        person_seconds=_seconds(aggregate.zone_people_ms[name], sample_interval_ms),
        interactions=aggregate.zone_interactions[name],
    )


def _other_zones(aggregate: Aggregate, names: list[str], sample_interval_ms: int) -> OtherZones | None:
    if not names:
        return None
    return OtherZones(
        zones=len(names),
        person_seconds=_seconds(sum(aggregate.zone_people_ms[name] for name in names), sample_interval_ms),
        interactions=sum(aggregate.zone_interactions[name] for name in names),
    )


def _queue(aggregate: Aggregate) -> QueueFigures | None:
    if not aggregate.queue_frames:
        return None
    mean = _mean(aggregate.queue_people, aggregate.queue_frames)
    return QueueFigures(frames=aggregate.queue_frames, mean=mean, max=aggregate.queue_max)


def _crossings(aggregate: Aggregate) -> CrossingFigures | None:
    if not aggregate.crossing_frames:
        return None
    both = aggregate.inwards + aggregate.outwards
    names = sorted(both, key=lambda name: (-both[name], name))[:MAX_LINES]
    lines = [
        LineFigures(line=name, inwards=aggregate.inwards[name], outwards=aggregate.outwards[name]) for name in names
    ]
    return CrossingFigures(frames=aggregate.crossing_frames, lines=lines)


def _mean(total: int, frames: int) -> float:
    return round(total / frames, 3)


def _seconds(time_ms: int, sample_interval_ms: int) -> float | None:
    return time_ms / 1000 if sample_interval_ms else None
