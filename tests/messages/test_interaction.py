import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import ValidationError
from messages.analyses import (
    CLASSIC,
    COVERAGE,
    FACTS,
    LLAMA,
    STANDING_IN,
    START_US,
    analysed_frames,
    frame,
    handling,
    largest_frame,
    person,
    schema,
    validator,
)

from crow_receiver.messages.envelope import queue_message
from crow_receiver.messages.inputs import AnalysedFrame
from crow_receiver.messages.interaction import InteractionBatch, batch_has_room, interaction_batch
from crow_receiver.queue.port import INTERACTION_QUEUE, MAX_MESSAGE_BYTES
from crow_receiver.vision.schema import LineCrossings, PassedOver
from crow_shared.frame import MAX_MESSAGE_BYTES as GRPC_MAX_BYTES

VALID = validator("interaction-batch-1")
CONTRACT = [
    "organizationId",
    "sourceType",
    "sessionId",
    "cameraId",
    "batchIndex",
    "frameAnalyses",
    "batchStartTimestamp",
    "batchEndTimestamp",
]


def body(**changes: Any) -> dict[str, Any]:
    frames = [frame(0, people=[person()], interactions=[handling()], queue_length=1), frame(1)]
    built = interaction_batch(FACTS, 3, frames, COVERAGE, late=False).to_json()
    return {**json.loads(built), **changes}


def test_the_interaction_service_reads_the_batch_as_its_contract_says() -> None:
    message = queue_message(interaction_batch(FACTS, 3, [frame(0), frame(1)], COVERAGE, late=False))
    received = json.loads(message.body)

    assert isinstance(received["frameAnalyses"], list), "the consumer takes it for CCTV by this alone"
    prompt = [(analysis["frameIndex"], analysis["description"]) for analysis in received["frameAnalyses"]]
    assert prompt == [(0, "Two people stand at the till."), (1, "Two people stand at the till.")]
    assert [analysis["timestamp"] for analysis in received["frameAnalyses"]] == [
        START_US // 1000,
        START_US // 1000 + 1000,
    ]
    assert received["organizationId"] == "org-1"
    assert received["sourceType"] == "cctv"
    assert received["sessionId"] == "s-1"
    assert received["cameraId"] == "cam-1"
    assert received["batchIndex"] == 3
    assert received["batchStartTimestamp"] == START_US // 1000
    assert received["batchEndTimestamp"] == START_US // 1000 + 1000


def test_the_body_is_not_nested_and_the_cloudevents_attributes_are_headers() -> None:
    message = queue_message(interaction_batch(FACTS, 3, [frame(0)], COVERAGE, late=False))
    assert message.queue == INTERACTION_QUEUE
    assert message.message_id == "s-1:interaction:3"
    assert message.headers == {
        "ce-specversion": "1.0",
        "ce-id": "s-1:interaction:3",
        "ce-type": "crow.cctv.interaction-batch.v1",
        "ce-source": "/organizations/org-1/sites/site-1/cameras/cam-1",
        "ce-time": "2023-11-14T22:14:00.000+00:00",
        "content-type": "application/json",
    }


def test_the_extra_fields_of_a_frame_are_what_the_engine_said() -> None:
    analysis = body()["frameAnalyses"][0]
    assert analysis["people"] == [
        {"role": "customer", "zone": "Till", "activity": "standing", "movement": "still", "confidence": 0.5}
    ]
    assert analysis["interactions"] == [
        {"action": "pickup", "product": "shoe", "category": None, "zone": "Shelf", "confidence": 0.5}
    ]
    assert analysis["queueLength"] == 1
    assert body()["engine"]["limits"] == CLASSIC.limits


def test_a_frame_says_by_whose_clock_it_was_taken_and_what_was_done_to_it() -> None:
    crossings = [LineCrossings(line="Door", inwards=1, outwards=0)]
    told = json.loads(interaction_batch(FACTS, 0, [frame(0, crossings=crossings)], COVERAGE, late=False).to_json())
    analysis = told["frameAnalyses"][0]
    assert (analysis["timeSource"], analysis["clockSkewMs"]) == ("camera", -1235)
    assert (analysis["masked"], analysis["blurred"]) == (True, False)
    assert analysis["crossings"] == [{"line": "Door", "inwards": 1, "outwards": 0}]


def test_frames_are_told_in_the_order_of_capture() -> None:
    batch = interaction_batch(FACTS, 0, [frame(2), frame(0), frame(1)], COVERAGE, late=False)
    assert [analysis.frame_index for analysis in batch.frame_analyses] == [0, 1, 2]
    assert batch.batch_start_timestamp < batch.batch_end_timestamp


@settings(max_examples=50, deadline=None)
@given(st.lists(analysed_frames(st.just(LLAMA)), min_size=1, max_size=10), st.booleans())
def test_every_batch_is_of_the_published_schema_and_reads_back_the_same(
    frames: list[AnalysedFrame], late: bool
) -> None:
    batch = interaction_batch(FACTS, 0, frames, COVERAGE, late=late)
    VALID.validate(json.loads(batch.to_json()))
    assert InteractionBatch.model_validate_json(batch.to_json()) == batch


@pytest.mark.parametrize("name", schema("interaction-batch-1")["required"])
def test_a_batch_without_a_required_field_is_of_neither_schema_nor_model(name: str) -> None:
    damaged = body()
    del damaged[name]
    assert not VALID.is_valid(damaged)
    with pytest.raises(ValueError, match=name):
        InteractionBatch.model_validate(damaged)


@pytest.mark.parametrize("place", ["", "frameAnalyses", "people", "interactions", "engine"])
def test_a_field_beyond_the_schema_is_refused_by_schema_and_model(place: str) -> None:
    damaged = copy.deepcopy(body())
    first = damaged["frameAnalyses"][0]
    parts = {"": damaged, "frameAnalyses": first, "engine": damaged["engine"]}
    target = parts.get(place) or first[place][0]
    target["emotion"] = "happy"
    with pytest.raises(ValidationError):
        VALID.validate(damaged)
    with pytest.raises(ValueError, match="emotion"):
        InteractionBatch.model_validate(damaged)


def test_schema_and_model_have_the_same_fields_and_all_of_the_contract_is_required() -> None:
    published = schema("interaction-batch-1")
    model = InteractionBatch.model_json_schema(by_alias=True)
    assert set(published["properties"]) == set(model["properties"])
    assert set(published["required"]) == set(model["required"]) >= set(CONTRACT)
    for theirs, ours in (
        ("frameAnalysis", "FrameAnalysis"),
        ("person", "PersonSeen"),
        ("interaction", "InteractionSeen"),
        ("crossings", "CrossingsSeen"),
        ("engine", "EngineNote"),
    ):
        assert set(published["$defs"][theirs]["properties"]) == set(model["$defs"][ours]["properties"])
        assert set(published["$defs"][theirs]["required"]) == set(model["$defs"][ours]["required"])
    frame_fields = published["$defs"]["frameAnalysis"]["properties"]
    assert frame_fields["timeSource"]["enum"] == model["$defs"]["TimeSource"]["enum"]
    enums = {"role": "Role", "activity": "Activity", "movement": "Movement"}
    for field, name in enums.items():
        assert published["$defs"]["person"]["properties"][field]["enum"] == model["$defs"][name]["enum"]
    assert published["$defs"]["interaction"]["properties"]["action"]["enum"] == model["$defs"]["Action"]["enum"]


def test_the_largest_frame_that_an_engine_can_give_fits_into_a_message_alone() -> None:
    size = len(interaction_batch(FACTS, 10**9, [largest_frame(0)], COVERAGE, late=False).to_json())
    assert 40_000 < size < MAX_MESSAGE_BYTES < GRPC_MAX_BYTES


def test_a_batch_is_closed_before_the_frame_that_would_pass_the_limit() -> None:
    frames = []
    while batch_has_room(FACTS, frames, largest_frame(len(frames))):
        frames.append(largest_frame(len(frames)))
    sizes = [
        len(interaction_batch(FACTS, 0, some, COVERAGE, late=False).to_json())
        for some in (frames, [*frames, largest_frame(len(frames))])
    ]
    assert len(frames) > 1
    assert sizes[0] <= MAX_MESSAGE_BYTES < sizes[1]


def test_ten_ordinary_frames_have_room_in_one_batch() -> None:
    people = [person() for _ in range(8)]
    frames = [frame(index, people=people, interactions=[handling()] * 8, description="x" * 600) for index in range(10)]
    assert all(batch_has_room(FACTS, frames[:index], frames[index]) for index in range(10))


def test_frames_of_two_engines_are_kept_in_batches_of_their_own() -> None:
    assert not batch_has_room(FACTS, [frame(0)], frame(1, provenance=LLAMA))
    assert batch_has_room(FACTS, [frame(0)], frame(1, provenance=CLASSIC.model_copy(update={"duration_ms": 99})))


def test_an_engine_that_stands_in_for_another_says_so_and_the_reason_parts_no_batch() -> None:
    later = STANDING_IN.model_copy(update={"passed_over": [PassedOver(engine="openai", reason="no server at 12:01")]})
    told = interaction_batch(FACTS, 0, [frame(0, provenance=STANDING_IN)], COVERAGE, late=False)
    assert (told.engine.name, told.engine.instead_of) == ("classic", ["openai"])
    assert batch_has_room(FACTS, [frame(0, provenance=STANDING_IN)], frame(1, provenance=later))
    assert not batch_has_room(FACTS, [frame(0, provenance=STANDING_IN)], frame(1, provenance=CLASSIC))
