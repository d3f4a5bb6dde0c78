"""One answer while it is written: greedily, within the grammar, with forced text put in and guesses checked."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from crow_receiver.vision.llama.automaton import State
from crow_receiver.vision.llama.draft import NOTHING_EARLIER, Earlier, Lookup
from crow_shared.errors import CrowError, Kind

_SHORTLIST = 256  # tokens that are asked about when the likeliest is refused, before all are

LogitsRow = NDArray[np.float32]


class Vocabulary(Protocol):
    """What an answer needs of the model's tokens."""

    def piece(self, token: int) -> bytes:
        """The text of a token; empty for one that is no text."""
        ...

    def tokens(self, text: str) -> list[int]:
        """The tokens of a text."""
        ...


class Answer:
    """An answer in the making.

    `pending` are the tokens to be evaluated next, of which the last one's logits say how it goes on; at first those of
    the question. `text` is what is written. Without `earlier`, nothing is guessed.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        question: Sequence[int],
        start: State,
        earlier: Earlier | None,
        *,
        most_tokens: int,
        forced_text: bool,
    ) -> None:
        self._vocabulary = vocabulary
        self._state = start
        self._lookup = Lookup(earlier or NOTHING_EARLIER)
        self._guesses = earlier is not None
        self._most_tokens = most_tokens
        self._forced_text = forced_text
        self.pending = list(question)
        self.text = bytearray()
        self.tokens = 0
        if forced_text:
            self.pending += self._force()

    @property
    def complete(self) -> bool:
        """Whether the grammar allows it to end here, which ours does in one place only."""
        return self._state.complete

    def guess(self, most: int) -> list[int]:
        """Tokens that will probably follow the pending ones."""
        return list(self._lookup.guess(min(most if self._guesses else 0, self._most_tokens - self.tokens - 1)))

    def go_on(self, guessed: Sequence[int], logits: NDArray[np.float32]) -> int:
        """Writes on, after the pending tokens and those `guessed` were evaluated, up to what has to be evaluated next.

        `logits` has a row for the last pending token and one for each guess. Returns how many of the guesses were
        right; what follows them has to be forgotten. Raises CrowError(INTERNAL): "model_nan" for logits that are no
        numbers, "answer_truncated", "grammar_dead_end".
        """
        self.pending = []
        right = 0
        while not self.pending:
            token = likeliest_allowed(logits[right], self._state, self._vocabulary)
            for following in (token, *self._write(token)):
                if not self.pending and right < len(guessed) and guessed[right] == following:
                    right += 1
                else:
                    self.pending.append(following)
            if self.complete:
                break
        return right

    def done(self) -> Earlier:
        """What the camera's next answer can be guessed from."""
        return self._lookup.done()

    def _write(self, token: int) -> list[int]:
        """Writes a token that the model chose, and returns those that the grammar forces after it."""
        self._append(token, chosen=True)
        return self._force() if self._forced_text else []

    def _force(self) -> list[int]:
        """Writes what has to come next, but for its last token, unless the answer ends with it.

        How the text goes on after that token decides where it ends, so the model has to choose it.
        """
        forced = self._state.forced()
        if not forced:
            return []
        try:
            tokens = self._vocabulary.tokens(forced.decode())
        except UnicodeDecodeError:  # the choice was within a character
            return []
        if b"".join(map(self._vocabulary.piece, tokens)) != forced:
            return []
        end = self._state.after(forced)
        if end is None or not end.complete:
            tokens = tokens[:-1]
        for token in tokens:
            self._append(token, chosen=False)
        return tokens

    def _append(self, token: int, *, chosen: bool) -> None:
        if self.tokens == self._most_tokens:
            raise CrowError(
                Kind.INTERNAL, "answer_truncated", f"the answer did not end within {self._most_tokens} tokens"
            )
        piece = self._vocabulary.piece(token)
        state = self._state.after(piece)
        assert state is not None, "only what the grammar allows is written"
        self._state = state
        self.text += piece
        self.tokens += 1
        self._lookup.wrote(token, chosen=chosen)


def likeliest_allowed(logits: LogitsRow, state: State, vocabulary: Vocabulary) -> int:
    """The likeliest token that the grammar allows: the very likeliest as a rule, so that is asked about first.

    Raises CrowError(INTERNAL): "model_nan" for logits that are no numbers, "grammar_dead_end" when none is allowed.
    """
    best = int(logits.argmax())  # the place of a NaN, if there is one
    if not np.isfinite(logits[best]):
        raise CrowError(Kind.INTERNAL, "model_nan", "the model's numbers are no numbers")
    if _allowed(best, state, vocabulary):
        return best
    for in_order in (_shortlist, _all):
        for token in map(int, in_order(logits)):
            if _allowed(token, state, vocabulary):
                return token
    raise CrowError(Kind.INTERNAL, "grammar_dead_end", "the grammar allows none of the model's tokens")


def _allowed(token: int, state: State, vocabulary: Vocabulary) -> bool:
    piece = vocabulary.piece(token)
    return bool(piece) and state.after(piece) is not None


def _shortlist(logits: LogitsRow) -> NDArray[np.intp]:
    likely = np.argpartition(logits, -_SHORTLIST)[-_SHORTLIST:] if len(logits) > _SHORTLIST else _all(logits)
    return likely[np.lexsort((likely, -logits[likely]))]


def _all(logits: LogitsRow) -> NDArray[np.intp]:
    return np.argsort(-logits, kind="stable")
