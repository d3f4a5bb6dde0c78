"""Continuous batching: frames that begin and end at any time, and go on together in between.

Invariants
1. A frame's answer does not depend on what else is under way, but for ties: kernels add up in another order when the
   batch has another shape (docs/VISION.md has how far that reaches).
2. A frame that ends, in whichever way, gives its slot back at once; nobody waits for another frame's end.
3. At most one picture is encoded between two steps of the others.
4. When numbers are no numbers or an evaluation fails while several frames are under way, nobody knows which one did it:
   the memory is wiped, and each of them begins again, alone. The one that does it again fails.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from crow_receiver.vision.llama.answer import Answer
from crow_receiver.vision.llama.evaluator import Evaluator, Part
from crow_receiver.vision.llama.model import Embeddings
from crow_receiver.vision.pixels import Pixels
from crow_receiver.vision.usage import Usage
from crow_shared.errors import CrowError, Kind


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of a frame: its answer, or why there is none."""

    key: int
    answer: Answer | CrowError
    usage: Usage


@dataclass(slots=True)
class _Frame:
    """A frame under way: first it has a picture, then embeddings, then an answer that is being written."""

    key: int
    slot: int
    new_answer: Callable[[], Answer]
    answer: Answer
    picture: Pixels | None
    usage: Usage
    embeddings: Embeddings | None = None
    seen: bool = False
    asked: bool = False  # the question is evaluated
    alone: bool = False

    def begin_again(self) -> None:
        self.answer = self.new_answer()
        self.seen = self.asked = False
        self.alone = True


class Batch:
    """The frames under way, `slots` at most."""

    def __init__(self, evaluator: Evaluator, encode: Callable[[Pixels], Embeddings], slots: int, pictures: int) -> None:
        """`pictures` is how many of them are evaluated together, at most."""
        self._evaluator = evaluator
        self._encode = encode
        self._pictures = pictures
        self._free = list(reversed(range(slots)))
        self._frames: dict[int, _Frame] = {}

    def begin(self, key: int, picture: Pixels, new_answer: Callable[[], Answer], usage: Usage) -> None:
        """Takes a frame in. `new_answer` makes its answer, once more where it has to begin again."""
        assert key not in self._frames, "a frame is begun once"
        if not self._free:
            raise CrowError(Kind.EXHAUSTED, "no_slot", f"{len(self._frames)} frames are under way, and that is all")
        answer = new_answer()
        self._frames[key] = _Frame(key, self._free.pop(), new_answer, answer, picture, usage)

    def abort(self, key: int) -> None:
        """Forgets a frame, if it is still under way."""
        frame = self._frames.get(key)
        if frame is not None:
            self._end(frame)

    def step(self) -> list[Ended]:
        """Encodes a picture, if one waits, and lets all answers go on by a step; the frames that ended."""
        alone = [frame for frame in self._frames.values() if frame.alone]
        group = alone[:1] or list(self._frames.values())
        ended = self._encode_one(group)
        group = [frame for frame in group if frame.key in self._frames]
        try:
            self._show_pictures(group)
            ended += self._read(group)
        except CrowError as error:
            ended += self._suspect(error)
        return ended

    def _encode_one(self, group: list[_Frame]) -> list[Ended]:
        frame = next((frame for frame in group if frame.picture is not None), None)
        if frame is None or frame.picture is None:
            return []
        started_s = time.perf_counter()
        try:
            frame.embeddings = self._encode(frame.picture)
        except CrowError as error:
            return [self._failed(frame, error)]
        frame.picture = None
        frame.usage = replace(frame.usage, encode_ms=_ms_since(started_s))
        return []

    def _show_pictures(self, group: list[_Frame]) -> None:
        """Evaluates encoded pictures, once there are as many as go together or no other is about to be encoded."""
        ready = [frame for frame in group if frame.embeddings is not None and not frame.seen][: self._pictures]
        if not ready or (len(ready) < self._pictures and any(frame.picture is not None for frame in group)):
            return
        started_s = time.perf_counter()
        for frame in ready:
            self._evaluator.begin(frame.slot)
            frame.seen = True
        pictures = [frame.embeddings for frame in ready if frame.embeddings is not None]
        self._evaluator.see([frame.slot for frame in ready], pictures)
        share_ms = _ms_since(started_s) / len(ready)
        for frame in ready:
            frame.usage = replace(frame.usage, prefill_ms=frame.usage.prefill_ms + share_ms)

    def _read(self, group: list[_Frame]) -> list[Ended]:
        """Evaluates what is pending: short pieces first, so that a long question holds up no answer."""
        frames = sorted((frame for frame in group if frame.seen), key=lambda frame: len(frame.answer.pending))
        if not frames:
            return []
        started_s = time.perf_counter()
        parts, guesses = self._parts(frames)
        rows = self._evaluator.read(parts)
        ended: list[Ended] = []
        doubt: CrowError | None = None
        row_ms = _ms_since(started_s) / sum(len(part.tokens) for part in parts)
        for frame, part, guessed, logits in zip(frames, parts, guesses, rows, strict=False):
            self._book(frame, len(part.tokens) * row_ms)
            if not part.logits:
                frame.answer.pending = frame.answer.pending[len(part.tokens) :]
                continue
            frame.asked = True
            try:
                right = frame.answer.go_on(guessed, logits)
            except CrowError as error:
                if error.code == "model_nan":
                    doubt = error
                else:
                    ended.append(self._failed(frame, error))
                continue
            if right < len(guessed):
                self._evaluator.shorten(frame.slot, len(guessed) - right)
            usage = frame.usage
            frame.usage = replace(usage, drafted=usage.drafted + len(guessed), accepted=usage.accepted + right)
            if frame.answer.complete:
                ended.append(self._finished(frame))
        return ended if doubt is None else [*ended, *self._suspect(doubt)]

    def _parts(self, frames: list[_Frame]) -> tuple[list[Part], list[list[int]]]:
        """What of each frame goes into the next batch, as far as there is room, with the guesses at its end."""
        parts: list[Part] = []
        guesses: list[list[int]] = []
        room = self._evaluator.batch_tokens
        most_guesses = self._evaluator.most_logits // len(frames) - 1
        for frame in frames:
            pending = frame.answer.pending[:room]
            if not pending:
                break
            whole = len(pending) == len(frame.answer.pending)
            guessed = frame.answer.guess(min(most_guesses, room - len(pending))) if whole else []
            parts.append(Part(frame.slot, [*pending, *guessed], 1 + len(guessed) if whole else 0))
            guesses.append(guessed)
            room -= len(pending) + len(guessed)
        return parts, guesses

    def _suspect(self, error: CrowError) -> list[Ended]:
        """Starts from a clean memory after a failure that may have reached every frame that was in it."""
        self._evaluator.forget_all()
        inside = [frame for frame in self._frames.values() if frame.seen]
        if len(inside) == 1:
            return [self._failed(inside[0], error)]
        for frame in inside:
            frame.begin_again()
        return []

    def _book(self, frame: _Frame, spent_ms: float) -> None:
        usage = frame.usage
        if frame.asked:
            frame.usage = replace(usage, decode_ms=usage.decode_ms + spent_ms)
        else:
            frame.usage = replace(usage, prefill_ms=usage.prefill_ms + spent_ms)

    def _finished(self, frame: _Frame) -> Ended:
        self._end(frame)
        return Ended(frame.key, frame.answer, replace(frame.usage, answer_tokens=frame.answer.tokens))

    def _failed(self, frame: _Frame, error: CrowError) -> Ended:
        self._end(frame)
        return Ended(frame.key, error, replace(frame.usage, answer_tokens=frame.answer.tokens))

    def _end(self, frame: _Frame) -> None:
        del self._frames[frame.key]
        if frame.seen:
            self._evaluator.end(frame.slot)
        self._free.append(frame.slot)


def _ms_since(started_s: float) -> float:
    return (time.perf_counter() - started_s) * 1000
