"""The difference between two answers: what is counted, and which frames come first."""

from receiver_parts import HOUR_US, SECOND_US

from crow_receiver.reanalysis.difference import MOST_SHOWN, Difference, pair_as_json, summary
from crow_receiver.store.reanalyses import Pair
from crow_receiver.vision.schema import (
    Action,
    Activity,
    Analysis,
    Movement,
    Person,
    ProductInteraction,
    Provenance,
    Role,
    Scene,
)


def said(
    people: int = 0,
    actions: tuple[Action, ...] = (),
    queue: int | None = None,
    zone: str = "Till",
    duration_ms: int = 10,
) -> Analysis:
    person = Person(
        role=Role.STAFF, zone=zone, activity=Activity.PAYING, movement=Movement.UNKNOWN, confidence=0.5
    )  # fmt: skip
    scene = Scene(
        people=[person] * people,
        interactions=[ProductInteraction(action=one, product=None, zone="Till", confidence=0.5) for one in actions],
        queue_length=queue,
        confidence=0.5,
        description=f"{people} people.",
    )
    facts = {"model": None, "model_sha256": None, "prompt_version": None, "limits": []}
    return Analysis(scene=scene, provenance=Provenance(engine="scripted", duration_ms=duration_ms, **facts))


def pair(index: int, before: Analysis | None, now: Analysis | None, failure: str | None = None) -> Pair:
    return Pair("a session", index, HOUR_US + index * SECOND_US, before, now, failure)


PAIRS = [
    pair(0, said(1, queue=2), said(1, queue=2, duration_ms=30)),
    pair(1, said(1), said(3, (Action.PICKUP, Action.PICKUP), duration_ms=30)),
    pair(2, said(2, (Action.TOUCH,), queue=1), said(1, (Action.PICKUP,), queue=3, duration_ms=30)),
    pair(3, None, said(1)),
    pair(4, said(1), None, "picture_corrupt: no picture"),
]


def test_counts_actions_queues_unknowns_and_time_are_compared_where_there_are_two_answers() -> None:
    found = Difference.of(PAIRS)
    told = found.as_json()
    assert (found.compared, found.newly_described, found.failed) == (3, 1, 1)
    assert told["people"] == {"equal": 1, "more": 1, "fewer": 1, "mean_difference": 1 / 3}
    assert told["actions"] == {"touch": {"gained": 0, "lost": 1}, "pickup": {"gained": 3, "lost": 0}}
    assert told["queue"] == {"equal": 1, "more": 1, "fewer": 0, "mean_difference": 1.0}
    assert told["before"] == {"words": 17, "unknown_rate": 4 / 17, "queues_told": 2, "mean_duration_ms": 10}
    assert told["now"] == {"words": 23, "unknown_rate": 5 / 23, "queues_told": 2, "mean_duration_ms": 30}


def test_the_most_different_frames_come_first_and_equal_ones_not_at_all() -> None:
    assert [one.frame_index for one in Difference.of(PAIRS).most_different] == [2, 1]
    many = [pair(index, said(0), said(index % 8)) for index in range(80)]
    shown = [one.frame_index for one in Difference.of(many).most_different]
    assert shown == [7 + 8 * place for place in range(MOST_SHOWN)], "the earlier ones among equals"


def test_the_summary_is_one_screen_with_both_descriptions() -> None:
    many = [pair(index, said(0), said(8, tuple(Action), queue=3)) for index in range(80)]
    lines = list(summary(Difference.of(many)))
    assert len(lines) <= 29
    assert lines[0] == "frames     80 compared"
    assert "    before: [people 0] 0 people." in lines
    assert any(line.startswith("    now:    [people 8, browse 1, ") for line in lines)


def test_a_run_without_frames_says_so() -> None:
    assert list(summary(Difference.of([]))) == ["frames     0 compared"]
    assert list(summary(Difference.of(PAIRS[3:]))) == [
        "frames     0 compared; 1 failed before and are described now; 1 failed now"
    ]


def test_a_frame_in_json_has_all_that_was_said_of_it() -> None:
    told = pair_as_json(PAIRS[4])
    assert (told["now"], told["failure"]) == (None, "picture_corrupt: no picture")
    assert Analysis.model_validate(told["before"]) == PAIRS[4].before
