"""Guesses at what an answer will say: as long as they were right before, and none where they were wrong."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from crow_receiver.vision.llama.draft import MOST_GUESSED, NOTHING_EARLIER, Earlier, EarlierAnswers, Lookup

ANSWER = tuple(range(100, 160))


def written(tokens: Sequence[int], earlier: Earlier) -> tuple[Lookup, int, int]:
    """The look-up after an answer, and how many tokens were guessed on the way and how many of them were right."""
    lookup, guessed, right, place = Lookup(earlier), 0, 0, 0
    while place < len(tokens):
        guess = lookup.guess(MOST_GUESSED)
        same = 0
        while same < len(guess) and place + same < len(tokens) and guess[same] == tokens[place + same]:
            same += 1
        guessed, right = guessed + len(guess), right + same
        for token in tokens[place : place + same + 1]:
            lookup.wrote(token, chosen=True)
        place += same + 1
    return lookup, guessed, right


def test_the_first_answer_is_not_guessed() -> None:
    assert written(ANSWER, NOTHING_EARLIER)[1] == 0


def test_an_answer_that_repeats_is_guessed_whole_from_its_first_token_on() -> None:
    second = written(ANSWER, written(ANSWER, NOTHING_EARLIER)[0].done())[0].done()
    lookup, guessed, right = written(ANSWER, second)
    assert (guessed, right) == (right, guessed)
    assert right > len(ANSWER) * 0.9
    assert list(Lookup(lookup.done()).guess(3)) == list(ANSWER[:3])


def test_after_a_wrong_guess_nothing_is_guessed_until_the_answer_is_found_again() -> None:
    lookup = Lookup(Earlier(ANSWER, streak=8))
    assert len(lookup.guess(MOST_GUESSED)) == 8
    lookup.wrote(1, chosen=True)
    assert not lookup.guess(MOST_GUESSED)
    for token in ANSWER[5:8]:
        lookup.wrote(token, chosen=True)
    assert list(lookup.guess(MOST_GUESSED)) == list(ANSWER[8:9]), "one right guess was seen: one is offered"
    for token in ANSWER[8:10]:
        lookup.wrote(token, chosen=True)
    assert list(lookup.guess(MOST_GUESSED)) == list(ANSWER[10:13])
    assert list(lookup.guess(2)) == list(ANSWER[10:12])


def test_forced_text_finds_the_place_again_and_earns_no_trust() -> None:
    lookup = Lookup(Earlier(ANSWER, streak=8))
    lookup.wrote(1, chosen=True)
    for token in ANSWER[5:9]:
        lookup.wrote(token, chosen=False)
    assert not lookup.guess(MOST_GUESSED)
    lookup.wrote(ANSWER[9], chosen=True)
    assert list(lookup.guess(MOST_GUESSED)) == [ANSWER[10]]


def test_of_several_places_the_nearest_is_taken() -> None:
    repeating = (1, 2, 11, 1, 2, 12, 1, 2, 13, 1, 2, 14)
    lookup = Lookup(Earlier(repeating, streak=0))
    for token in (9, 9, 9, 9, 9, 9, 1, 2):
        lookup.wrote(token, chosen=True)
    lookup.streak = 1
    assert list(lookup.guess(1)) == [13]


def test_an_answer_that_repeats_itself_is_guessed_from_its_own_beginning() -> None:
    lookup = Lookup(NOTHING_EARLIER)
    for token in (5, 6, 7, 8, 5, 6, 7):
        lookup.wrote(token, chosen=True)
    assert list(lookup.guess(1)) == [8]


@given(st.lists(st.integers(0, 3), max_size=40), st.lists(st.integers(0, 3), max_size=40), st.integers(0, 99))
def test_whatever_is_written_guesses_stay_within_their_bounds(
    earlier: list[int], tokens: list[int], streak: int
) -> None:
    lookup = Lookup(Earlier(tuple(earlier), streak))
    for token in tokens:
        for most in (-1, 0, 3, 99):
            assert len(lookup.guess(most)) <= max(0, min(most, MOST_GUESSED))
        lookup.wrote(token, chosen=True)
    assert lookup.done().tokens == tuple(tokens)


def test_each_camera_has_its_own_answer_and_those_that_were_quiet_longest_are_forgotten() -> None:
    answers = EarlierAnswers()
    for camera in range(1100):
        answers.keep(str(camera), Earlier((camera,), 1))
        answers.keep("always", Earlier((1, 2), 3))
    assert answers.of("always").tokens == (1, 2)
    assert answers.of("1099").tokens == (1099,)
    assert answers.of("0") == NOTHING_EARLIER
