"""The body of `crow-interaction-queue`: a batch of described frames of one session.

The consumer takes a message for CCTV when the body has `frameAnalyses`, and reads of each frame `frameIndex` and
`description` alone. Everything beyond its contract is an extra field that it passes over.
"""

from collections.abc import Collection, Sequence
from typing import Annotated, Literal

from pydantic import Field

from crow_receiver.messages.body import Body, Count, EngineNote, TimestampMs
from crow_receiver.messages.coverage import LARGEST, Coverage
from crow_receiver.messages.inputs import AnalysedFrame, SessionFacts, as_ms
from crow_receiver.queue.port import MAX_MESSAGE_BYTES
from crow_receiver.vision.schema import (
    MAX_CROSSED_LINES,
    MAX_DESCRIPTION_CHARS,
    MAX_INTERACTIONS,
    MAX_PEOPLE,
    Action,
    Activity,
    LineCrossings,
    Movement,
    Person,
    ProductInteraction,
    Role,
    Share,
    ShortText,
)
from crow_shared.frame import TimeSource

SCHEMA_VERSION: Literal[1] = 1
_LARGEST_INDEX = 10**9  # stands for an index not yet known where a size is reckoned


class PersonSeen(Body):
    """One person in one frame."""

    role: Role
    zone: ShortText
    activity: Activity
    movement: Movement
    confidence: Share

    @classmethod
    def of(cls, person: Person) -> "PersonSeen":
        """As the engine said it."""
        return cls(**dict(person))


class InteractionSeen(Body):
    """One handling of a product in one frame."""

    action: Action
    product: ShortText | None
    category: ShortText | None
    zone: ShortText
    confidence: Share

    @classmethod
    def of(cls, interaction: ProductInteraction) -> "InteractionSeen":
        """As the engine said it."""
        return cls(**dict(interaction))


class CrossingsSeen(Body):
    """How many crossed one of the camera's lines since the frame before, each way."""

    line: ShortText
    inwards: Count
    outwards: Count

    @classmethod
    def of(cls, crossings: LineCrossings) -> "CrossingsSeen":
        """As the engine said it."""
        return cls(**dict(crossings))


class FrameAnalysis(Body):
    """One frame: its index, timestamp and description are the consumer's contract.

    `engine` is None where the batch's has described it: so it always is in revision 0. `duplicate_of` is the index of
    the session's frame that was described in its place, since both show the same.
    """

    frame_index: Count
    timestamp: TimestampMs
    time_source: TimeSource
    clock_skew_ms: int | None
    masked: bool
    blurred: bool
    description: Annotated[str, Field(min_length=1, max_length=MAX_DESCRIPTION_CHARS)]
    people: Annotated[list[PersonSeen], Field(max_length=MAX_PEOPLE)]
    interactions: Annotated[list[InteractionSeen], Field(max_length=MAX_INTERACTIONS)]
    queue_length: Annotated[int, Field(ge=0, le=99)] | None
    crossings: Annotated[list[CrossingsSeen], Field(max_length=MAX_CROSSED_LINES)] | None
    confidence: Share
    engine: EngineNote | None
    duplicate_of: Count | None

    @classmethod
    def of(cls, frame: AnalysedFrame, batch_engine: EngineNote) -> "FrameAnalysis":
        """The frame's part of the message."""
        scene = frame.analysis.scene
        engine = _engine_of(frame)
        crossings = None if scene.crossings is None else [CrossingsSeen.of(each) for each in scene.crossings]
        return cls(
            frame_index=frame.frame_index,
            timestamp=as_ms(frame.capture_us),
            time_source=frame.time_source,
            clock_skew_ms=None if frame.clock_skew_us is None else round(frame.clock_skew_us / 1000),
            masked=frame.masked,
            blurred=frame.blurred,
            description=scene.description,
            people=[PersonSeen.of(person) for person in scene.people],
            interactions=[InteractionSeen.of(interaction) for interaction in scene.interactions],
            queue_length=scene.queue_length,
            crossings=crossings,
            confidence=scene.confidence,
            engine=None if engine == batch_engine else engine,
            duplicate_of=frame.analysis.provenance.duplicate_of,
        )


class InteractionBatch(Body):
    """The whole body; the highest revision replaces the others of its session and batch index.

    Revision 0 is told as the frames are described, the others when an operator has had them described again. `late`
    marks one whose session had been closed before. `coverage` is what is known as it is made; its `as_of` says when.
    """

    message_id: str
    schema_version: Literal[1]
    organization_id: str
    site_id: str
    source_type: Literal["cctv"]
    session_id: str
    camera_id: str
    camera_name: str
    batch_index: Count
    revision: Count
    batch_start_timestamp: TimestampMs
    batch_end_timestamp: TimestampMs
    late: bool
    engine: EngineNote
    coverage: Coverage
    frame_analyses: Annotated[list[FrameAnalysis], Field(min_length=1)]


def interaction_batch(
    facts: SessionFacts,
    batch_index: int,
    frames: Sequence[AnalysedFrame],
    coverage: Coverage,
    *,
    late: bool,
    revision: int = 0,
) -> InteractionBatch:
    """The batch of these frames (at least one), in the order of their capture; in revision 0 all are of one engine."""
    ordered = sorted(frames, key=lambda frame: (frame.capture_us, frame.frame_index))
    engine = _engine_of(ordered[0])
    told = [FrameAnalysis.of(frame, engine) for frame in ordered]
    assert revision or all(frame.engine is None for frame in told), "batch_has_room keeps frames of two engines apart"
    return InteractionBatch(
        message_id=batch_message_id(facts.session_id, batch_index, revision),
        schema_version=SCHEMA_VERSION,
        organization_id=facts.camera.organization_id,
        site_id=facts.camera.site_id,
        source_type="cctv",
        session_id=facts.session_id,
        camera_id=facts.camera.camera_id,
        camera_name=facts.camera_name,
        batch_index=batch_index,
        revision=revision,
        batch_start_timestamp=as_ms(ordered[0].capture_us),
        batch_end_timestamp=as_ms(ordered[-1].capture_us),
        late=late,
        engine=engine,
        coverage=coverage,
        frame_analyses=told,
    )


def batch_message_id(session_id: str, batch_index: int, revision: int = 0) -> str:
    """What the message of a batch is called: always the same, whenever it is made."""
    return f"{session_id}:interaction:{batch_index}" + (f":{revision}" if revision else "")


def with_frames(body: bytes, kept: Collection[int]) -> bytes | None:
    """A batch's body with those of its frames alone whose index is kept; None when none is."""
    batch = InteractionBatch.model_validate_json(body)
    frames = [frame for frame in batch.frame_analyses if frame.frame_index in kept]
    if not frames:
        return None
    span = {"batch_start_timestamp": frames[0].timestamp, "batch_end_timestamp": frames[-1].timestamp}
    return batch.model_copy(update={"frame_analyses": frames, **span}).to_json()


def batch_has_room(facts: SessionFacts, frames: Sequence[AnalysedFrame], candidate: AnalysedFrame) -> bool:
    """Whether `candidate` may join the open batch of `frames`; if not, the batch has to be closed first.

    It may not when the message would pass MAX_MESSAGE_BYTES, or when another engine made its analysis. An empty batch
    has room for any frame: the schema of analyses bounds one to a fraction of the limit.
    """
    if not frames:
        return True
    if _engine_of(frames[0]) != _engine_of(candidate):
        return False
    batch = interaction_batch(facts, _LARGEST_INDEX, [*frames, candidate], LARGEST, late=False)
    return len(batch.to_json()) <= MAX_MESSAGE_BYTES


def _engine_of(frame: AnalysedFrame) -> EngineNote:
    return EngineNote.of(frame.analysis.provenance)
