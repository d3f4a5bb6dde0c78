import json
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from messages.analyses import (
    CLASSIC,
    COVERAGE,
    FACTS,
    LLAMA,
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
from crow_receiver.messages.pattern import PatternWindow, pattern_window, session_summary
from crow_receiver.queue.port import MAX_MESSAGE_BYTES, PATTERN_QUEUE
from crow_receiver.vision.schema import Action, Activity, LineCrossings, Role

VALID = validator("pattern-window-1")


def test_a_window_sums_people_zones_and_product_signals_of_its_minute() -> None:
    frames = [
        frame(
            0,
            people=[person("Till"), person("Till", Role.STAFF, Activity.WORKING), person("Shelf")],
            interactions=[handling(), handling(Action.PUTBACK, None)],
            queue_length=2,
        ),
        frame(1, people=[person("Till")], interactions=[handling()], queue_length=1),
        frame(2),
    ]
    window = pattern_window(FACTS, START_US, frames, 1, COVERAGE)
    told = json.loads(window.to_json())
    VALID.validate(told)
    assert told["frames"] == {"analysed": 3, "failed": 1}
    assert told["people"] == {"mean": 1.333, "max": 3, "personSeconds": 4.0}
    assert told["zones"] == [
        {"zone": "Till", "mean": 1.0, "max": 2, "personSeconds": 3.0, "interactions": 0},
        {"zone": "Shelf", "mean": 0.333, "max": 1, "personSeconds": 1.0, "interactions": 3},
    ]
    assert told["roles"] == {"customer": 3, "staff": 1, "unknown": 0}
    assert told["activities"]["standing"] == 3
    assert told["activities"]["working"] == 1
    assert told["movements"]["still"] == 4
    assert told["interactions"] == [
        {"action": "pickup", "product": "shoe", "count": 2},
        {"action": "putback", "product": None, "count": 1},
    ]
    assert told["queue"] == {"frames": 2, "mean": 1.5, "max": 2}
    assert told["crossings"] is None
    assert [engine["name"] for engine in told["engines"]] == ["classic"]
    assert (told["windowStart"], told["windowEnd"]) == (START_US // 1000, START_US // 1000 + 60_000)
    assert (told["batches"], told["minutes"]) == (None, None)


def test_crossings_are_summed_by_line_over_the_frames_in_which_the_engine_could_tell() -> None:
    frames = [
        frame(0, crossings=[LineCrossings(line="Door", inwards=2, outwards=0)]),
        frame(1, crossings=[]),
        frame(2),
        frame(3, crossings=[LineCrossings(line=name, inwards=1, outwards=1) for name in ("Back", "Door")]),
    ]
    told = json.loads(pattern_window(FACTS, START_US, frames, 0, COVERAGE).to_json())
    VALID.validate(told)
    assert told["crossings"] == {
        "frames": 3,
        "lines": [{"line": "Door", "inwards": 3, "outwards": 1}, {"line": "Back", "inwards": 1, "outwards": 1}],
    }


def test_person_seconds_follow_the_sample_interval_and_are_null_where_it_is_unknown() -> None:
    frames = [frame(0, people=[person()], stands_for_ms=5000)]
    slow = pattern_window(replace(FACTS, sample_interval_ms=5000), START_US, frames, 0, COVERAGE)
    unknown = pattern_window(replace(FACTS, sample_interval_ms=0), START_US, frames, 0, COVERAGE)
    assert slow.people.person_seconds == slow.zones[0].person_seconds == 5.0
    assert unknown.people.person_seconds is unknown.zones[0].person_seconds is unknown.sample_interval_ms is None
    VALID.validate(json.loads(unknown.to_json()))


def test_what_nobody_could_tell_is_null_and_not_nought() -> None:
    blind = pattern_window(FACTS, START_US, [], 60, COVERAGE)
    assert blind.people is None
    assert blind.queue is None
    assert pattern_window(FACTS, START_US, [frame(0)], 0, COVERAGE).people.mean == 0
    VALID.validate(json.loads(blind.to_json()))


def test_ids_are_made_of_session_kind_start_and_revision() -> None:
    window = queue_message(pattern_window(FACTS, START_US, [], 0, COVERAGE, revision=2))
    summary = queue_message(session_summary(FACTS, START_US + 5, [], 0, COVERAGE, batches=1, minutes=1, revision=1))
    assert window.message_id == window.headers["ce-id"] == f"s-1:window:{START_US // 1000}:2"
    assert summary.message_id == summary.headers["ce-id"] == "s-1:session:1"
    assert window.queue == summary.queue == PATTERN_QUEUE


def test_a_session_summary_covers_the_session_and_counts_what_it_gave() -> None:
    summary = session_summary(FACTS, START_US + 90_000_000, [frame(0), frame(80)], 2, COVERAGE, batches=4, minutes=2)
    told = json.loads(summary.to_json())
    VALID.validate(told)
    assert (told["kind"], told["batches"], told["minutes"], told["revision"]) == ("session", 4, 2, 0)
    assert told["windowEnd"] - told["windowStart"] == 90_000


def test_each_engine_is_named_once_however_many_frames_it_described() -> None:
    frames = [
        frame(0),
        frame(1, provenance=LLAMA),
        frame(2, provenance=CLASSIC.model_copy(update={"duration_ms": 1})),
    ]
    assert [engine.name for engine in pattern_window(FACTS, START_US, frames, 0, COVERAGE).engines] == [
        "classic",
        "llama",
    ]


def test_an_hour_of_the_largest_frames_fits_into_one_message_and_what_found_no_room_is_counted() -> None:
    frames = [largest_frame(index, distinct=True) for index in range(3600)]
    summary = session_summary(FACTS, START_US, frames, 0, COVERAGE, batches=1, minutes=60)
    assert len(summary.to_json()) <= MAX_MESSAGE_BYTES
    assert summary.other_interactions + sum(signal.count for signal in summary.interactions) == 3600 * 8
    seconds = sum(zone.person_seconds for zone in summary.zones) + summary.other_zones.person_seconds
    assert seconds == summary.people.person_seconds == 3600 * 8
    assert summary.other_zones.zones + len(summary.zones) == 3600 * 8 + 1


@settings(max_examples=50, deadline=None)
@given(st.lists(analysed_frames(), max_size=10), st.integers(0, 60), st.sampled_from([0, 1, 1000]))
def test_every_window_is_of_the_published_schema_and_reads_back_the_same(
    frames: list[AnalysedFrame], failed: int, interval_ms: int
) -> None:
    facts = replace(FACTS, sample_interval_ms=interval_ms)
    for body in (
        pattern_window(facts, START_US, frames, failed, COVERAGE),
        session_summary(facts, START_US, frames, failed, COVERAGE, batches=0, minutes=0),
    ):
        VALID.validate(json.loads(body.to_json()))
        assert PatternWindow.model_validate_json(body.to_json()) == body


@settings(max_examples=20, deadline=None)
@given(st.lists(analysed_frames(st.just(CLASSIC)), max_size=6), st.randoms())
def test_the_figures_do_not_depend_on_the_order_of_frames(frames: list[AnalysedFrame], random: Random) -> None:
    shuffled = list(frames)
    random.shuffle(shuffled)
    assert (
        pattern_window(FACTS, START_US, frames, 0, COVERAGE).to_json()
        == pattern_window(FACTS, START_US, shuffled, 0, COVERAGE).to_json()
    )


@pytest.mark.parametrize("name", schema("pattern-window-1")["required"])
def test_a_window_without_a_required_field_is_of_neither_schema_nor_model(name: str) -> None:
    damaged = json.loads(pattern_window(FACTS, START_US, [frame(0)], 0, COVERAGE).to_json())
    del damaged[name]
    assert not VALID.is_valid(damaged)
    with pytest.raises(ValueError, match=name):
        PatternWindow.model_validate(damaged)


def test_schema_and_model_have_the_same_fields() -> None:
    published = schema("pattern-window-1")
    model = PatternWindow.model_json_schema(by_alias=True)
    assert set(published["properties"]) == set(published["required"]) == set(model["properties"])
    assert set(published["required"]) == set(model["required"])
    parts = {
        "frames": "FrameCounts",
        "people": "PeopleFigures",
        "otherZones": "OtherZones",
        "queue": "QueueFigures",
        "crossings": "CrossingFigures",
    }
    for field, name in parts.items():
        assert set(published["properties"][field]["required"]) == set(model["$defs"][name]["required"])
    for field, name in {"zones": "ZoneFigures", "interactions": "ProductSignal"}.items():
        assert set(published["properties"][field]["items"]["required"]) == set(model["$defs"][name]["required"])
    lines = published["properties"]["crossings"]["properties"]["lines"]["items"]
    assert set(lines["required"]) == set(model["$defs"]["LineFigures"]["required"])
    for field, enum in {"roles": "Role", "activities": "Activity", "movements": "Movement"}.items():
        assert published["properties"][field]["required"] == model["$defs"][enum]["enum"]
    assert set(published["$defs"]["coverage"]["required"]) == set(model["$defs"]["Coverage"]["required"])
    for part in ("engine", "coverage", "byReason"):
        assert schema("interaction-batch-1")["$defs"][part] == published["$defs"][part]
