"""What an answer will probably say next, looked up in the same camera's answer before it: "prompt look-up decoding".

Guessed tokens are evaluated together with the one before them and kept as far as the model says the same, so a guess
never changes an answer; it costs a row of the batch when wrong and saves a step when right. How many are guessed
follows from how many in a row were right: none after a wrong one, until a right one has been seen without being used.

Method: Saxena, "Prompt Lookup Decoding" (2023), with the answer before in place of the prompt.
"""

from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

MOST_GUESSED = 16
_CAMERAS = 1024


@dataclass(frozen=True, slots=True)
class Earlier:
    """An answer that was given; `streak` is how many guesses in a row were right when it ended."""

    tokens: tuple[int, ...]
    streak: int


NOTHING_EARLIER = Earlier((), 0)


class Lookup:
    """Guesses for one answer, from an earlier one and from its own beginning."""

    def __init__(self, earlier: Earlier) -> None:
        self._earlier = earlier.tokens
        self._places: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for index in range(2, len(earlier.tokens)):
            self._places[earlier.tokens[index - 2], earlier.tokens[index - 1]].append(index)
        self._own_places: dict[tuple[int, ...], int] = {}
        self._answer: list[int] = []
        self._ahead = 0  # by how much the place in the earlier answer lies beyond the one in this answer
        self._source: Sequence[int] = self._earlier
        self._place = 0
        self.streak = earlier.streak

    def guess(self, most: int) -> Sequence[int]:
        """The tokens that come next if all goes on as it did, at most so many."""
        return self._source[self._place : self._place + max(0, min(most, self.streak, MOST_GUESSED))]

    def wrote(self, token: int, *, chosen: bool) -> None:
        """Notes the answer's next token; `chosen` by the model rather than forced by the grammar."""
        right = self._place < len(self._source) and self._source[self._place] == token
        if chosen:
            self.streak = self.streak + 1 if right else 0
        if len(self._answer) >= 2:
            self._own_places[self._answer[-2], self._answer[-1]] = len(self._answer)
        self._answer.append(token)
        if right:
            self._place += 1
        else:
            self._look_up()

    def done(self) -> Earlier:
        """What the next answer of this camera can be guessed from."""
        return Earlier(tuple(self._answer), self.streak)

    def _look_up(self) -> None:
        """Finds the last two tokens again: in the earlier answer, nearest to where it should be, else in this one."""
        self._source, self._place = (), 0
        pair = tuple(self._answer[-2:])
        if len(pair) < 2:
            return
        if places := self._places.get(pair):
            expected = len(self._answer) + self._ahead
            self._source, self._place = self._earlier, min(places, key=lambda index: abs(index - expected))
            self._ahead = self._place - len(self._answer)
        elif (own := self._own_places.get(pair)) is not None:
            self._source, self._place = self._answer, own


class EarlierAnswers:
    """The last answer of each camera; those of cameras that were quiet longest are forgotten."""

    def __init__(self) -> None:
        self._answers: OrderedDict[str, Earlier] = OrderedDict()

    def of(self, camera: str) -> Earlier:
        """What the camera's last answer was."""
        return self._answers.get(camera, NOTHING_EARLIER)

    def keep(self, camera: str, answer: Earlier) -> None:
        """Remembers a camera's answer in place of the one before."""
        self._answers[camera] = answer
        self._answers.move_to_end(camera)
        if len(self._answers) > _CAMERAS:
            self._answers.popitem(last=False)
