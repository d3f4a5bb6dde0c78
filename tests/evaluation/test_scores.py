"""Promise: each figure is what docs/EVALUATION.md says it is."""

import pytest
from evaluation_parts import person, scene

from crow_receiver.evaluation.labels import InteractionLabel, Label, Labelled, PersonLabel
from crow_receiver.evaluation.scores import Detection, Scores, score
from crow_receiver.vision.schema import Action, Activity, Scene


def counted(count: int) -> Label:
    return Label(camera="c", time_s=0, people_count=count)


def doing(*activities: str | None) -> Label:
    people = [PersonLabel(activity=Activity(name) if name else None) for name in activities]
    return Label(camera="c", time_s=0, people=people)


def handling(*actions: str) -> Label:
    interactions = [InteractionLabel(action=Action(action)) for action in actions]
    return Label(camera="c", time_s=0, interactions=interactions)


def crowd(count: int) -> Scene:
    return scene([person()] * count)


def words(scores: Scores, name: Labelled) -> dict[str, Detection]:
    return scores.traits[name].words


def test_counts_are_exact_within_one_and_wrong_by_a_mean() -> None:
    pairs = [(counted(labelled), crowd(said)) for labelled, said in ((2, 2), (2, 1), (0, 5), (1, 1), (3, 1))]
    people = score(pairs).people
    assert people is not None
    assert (people.frames, people.unanswered) == (5, 0)
    assert (people.exact, people.within_one) == (0.4, 0.6)
    assert (people.mean_absolute_error, people.mean_error) == (1.6, 0.4)


def test_the_confusion_matrix_has_labels_as_rows_and_answers_as_columns() -> None:
    confusion = score([(counted(2), crowd(1)), (counted(2), crowd(1)), (counted(0), crowd(0))]).confusion
    assert confusion is not None
    assert (len(confusion), len(confusion[0])) == (9, 9)
    assert (confusion[2][1], confusion[0][0]) == (2, 1)
    assert sum(map(sum, confusion)) == 3


def test_more_people_than_an_answer_can_hold_count_as_the_most_that_it_can() -> None:
    scores = score([(counted(12), crowd(8))])
    assert scores.people is not None
    assert scores.people.exact == 1
    assert scores.confusion is not None
    assert scores.confusion[8][8] == 1


def test_presence_is_told_missed_or_made_up() -> None:
    pairs = [(counted(2), crowd(1)), (counted(1), crowd(0)), (counted(0), crowd(1)), (counted(0), crowd(0))]
    presence = score(pairs).presence
    assert presence == Detection(right=1, missed=1, made_up=1)
    assert (presence.precision, presence.recall, presence.f1) == (0.5, 0.5, 0.5)


def test_activities_are_compared_as_counts_within_a_frame_not_across_frames() -> None:
    walks, pays = scene([person("walking")]), scene([person("paying")])
    swapped = score([(doing("paying"), walks), (doing("walking"), pays)])
    assert words(swapped, Labelled.ACTIVITY) == {"paying": Detection(0, 1, 1), "walking": Detection(0, 1, 1)}
    both = scene([person("paying"), person("walking"), person("walking")])
    together = score([(doing("walking", "paying"), both)])
    assert words(together, Labelled.ACTIVITY) == {"paying": Detection(1, 0, 0), "walking": Detection(1, 0, 1)}
    assert together.traits[Labelled.ACTIVITY].macro_f1 == pytest.approx((1 + 2 / 3) / 2)


def test_unknown_is_a_miss_and_never_made_up() -> None:
    found = score([(doing("walking"), scene([person("unknown"), person("unknown")]))]).traits[Labelled.ACTIVITY]
    assert found.words == {"walking": Detection(0, 1, 0)}
    assert (found.told, found.unknown, found.unknown_rate) == (2, 2, 1.0)


def test_a_frame_in_which_one_persons_activity_is_not_labelled_is_not_scored_by_activity() -> None:
    said = scene([person("walking"), person("paying")])
    assert Labelled.ACTIVITY not in score([(doing("walking", None), said)]).traits
    both = score([(doing("walking", None), said), (doing("paying"), said)])
    assert both.traits[Labelled.ACTIVITY].frames == 1


def test_in_an_empty_frame_every_activity_is_made_up() -> None:
    assert words(score([(doing(), scene([person("walking")]))]), Labelled.ACTIVITY) == {"walking": Detection(0, 0, 1)}


def test_zones_and_movement_are_scored_like_activities() -> None:
    label = Label.model_validate_json('{"camera":"c","time_s":0,"people":[{"zone":"Till","movement":"left"}]}')
    scores = score([(label, scene([person(zone="Till", movement="right")]))])
    assert words(scores, Labelled.ZONE) == {"Till": Detection(1, 0, 0)}
    assert words(scores, Labelled.MOVEMENT) == {"left": Detection(0, 1, 0), "right": Detection(0, 0, 1)}
    assert Labelled.ROLE not in scores.traits


def test_interactions_are_hallucinated_where_nobody_handles_anything() -> None:
    pairs = [
        (handling(), scene([], ["pickup", "touch"])),
        (handling(), scene([], ["unknown"])),
        (handling(), scene()),
        (handling("pickup"), scene([], ["touch"])),
    ]
    scores = score(pairs)
    made_up = scores.hallucinated
    assert made_up is not None
    assert (made_up.frames, made_up.frames_with_any, made_up.told) == (3, 1, 2)
    assert scores.actions is not None
    assert scores.actions.words == {"pickup": Detection(0, 1, 1), "touch": Detection(0, 0, 2)}
    assert scores.actions.unknown_rate == 1 / 4


def test_where_interactions_are_not_labelled_none_is_hallucinated() -> None:
    scores = score([(counted(0), scene([], ["pickup"]))])
    assert scores.hallucinated is None
    assert scores.actions is None


def test_a_queue_that_the_engine_cannot_tell_is_unanswered_and_no_error() -> None:
    label = Label(camera="c", time_s=0, queue_length=2)
    queue = score([(label, scene(queue_length=None)), (label, scene(queue_length=3))]).queue
    assert queue is not None
    assert (queue.frames, queue.unanswered, queue.exact, queue.within_one) == (2, 1, 0.0, 1.0)
    silent = score([(label, scene())]).queue
    assert silent is not None
    assert (silent.exact, silent.mean_absolute_error) == (None, None)


def test_a_figure_without_anything_to_divide_by_is_none_and_not_zero() -> None:
    nothing = Detection(0, 0, 0)
    assert (nothing.precision, nothing.recall, nothing.f1) == (None, None, None)
    assert Detection(0, 3, 0).precision is None
    assert Detection(0, 3, 0).f1 == 0


def test_without_labels_there_are_no_scores() -> None:
    empty = score([])
    assert (empty.people, empty.confusion, empty.presence, empty.traits, empty.queue) == (None, None, None, {}, None)
