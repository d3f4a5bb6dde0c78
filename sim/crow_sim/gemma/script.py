"""A model that says what its question tells it to: for tests of equality and for benchmarks.

Random weights answer with noise, which nobody can tell from another noise, and which ends when the grammar ends it. A
scripted model writes JSON of a known text instead, with the compute of its shape: the next token follows from the
last one (its output weights say so), and where there is a choice, from the words of the question that name the choices
(one attention head adds up their values, and all other layers add nothing). So a question is a scene, and two questions
that differ in some words are a scene that changed. Each step has one next token, by far: no tie can flip it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from gguf import GGMLQuantizationType
from gguf.quants import quantize
from numpy.typing import NDArray

from crow_sim.gemma.shapes import TextShape
from crow_sim.gemma.tensors import Matrix, Tensors

OPTIONS = 3
_SPACE = "▁"
_CONSONANTS, _VOWELS = "bdfgklmnprstvz", "aeiou"
_EMBEDDINGS = GGMLQuantizationType.Q8_0
_BLOCK_VALUES, _BLOCK_BYTES, _SCALE_BYTES = 32, 34, 2
_OTHER_WORDS = 0.02  # how much the rest of the vocabulary says
_CHOICE = 1 / 3  # how much the question decides, beside 1 for the last token
_VALUE_GAIN = 8.0  # an attention over thousands of tokens, most of which say nothing, has to stay visible


@dataclass(frozen=True, slots=True)
class Field:
    """A key of the answer, in two tokens, and its values, a token each."""

    key: tuple[str, str]
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Script:
    """What can be said: an object of fields, the last of which is a text of words. A scene has an option for each."""

    fields: tuple[Field, ...]
    description: tuple[str, str]
    words: tuple[tuple[str, ...], ...]

    @property
    def choices(self) -> int:
        """How many options a scene names."""
        return len(self.fields) + len(self.words)

    def question(self, scene: Sequence[int]) -> str:
        """The words that make the model say this scene."""
        return " ".join(_sign(choice, option) for choice, option in enumerate(scene))

    def answer(self, scene: Sequence[int]) -> str:
        """What the model says then."""
        values = [field.values[option] for field, option in zip(self.fields, scene, strict=False)]
        pairs = [f'"{"".join(field.key)}":"{value}"' for field, value in zip(self.fields, values, strict=True)]
        words = [options[option] for options, option in zip(self.words, scene[len(self.fields) :], strict=True)]
        return f'{{{",".join(pairs)},"{"".join(self.description)}":"{" ".join(words)}"}}'

    def pieces(self) -> list[str]:
        """The vocabulary's tokens for it, those first that have to be merged first."""
        chains = [first for first, _ in self._keys()] + [second for _, second in self._keys()]
        chains += [_SPACE + _sign(choice, option) for choice in range(self.choices) for option in range(OPTIONS)]
        starts = [piece[:length] for piece in chains for length in range(2, len(piece) + 1)]
        said = [piece for options in self._said() for piece in options]
        return list(dict.fromkeys([*starts, *said, '"}']))

    def signs(self) -> list[tuple[str, int]]:
        """The question's words as tokens, and the place of each one's value."""
        return [
            (_SPACE + _sign(choice, option), choice * OPTIONS + option)
            for choice in range(self.choices)
            for option in range(OPTIONS)
        ]

    def steps(self) -> list[tuple[str, str, int | None]]:
        """Which token follows which, and the place of the value that it needs, if there is a choice."""
        steps: list[tuple[str, str, int | None]] = []
        before: tuple[str, ...] = ("\n",)
        keys, said = self._keys(), self._said()
        for choice, options in enumerate(said):
            if choice < len(keys):
                first, second = keys[choice]
                steps += [(token, first, None) for token in before] + [(first, second, None)]
                before = (second,)
            for option, piece in enumerate(options):
                steps += [(token, piece, choice * OPTIONS + option) for token in before]
            before = options
        return [*steps, *((token, '"}', None) for token in before)]

    def _keys(self) -> list[tuple[str, str]]:
        """The tokens of each key, with the punctuation before and after it."""
        halves = [*(field.key for field in self.fields), self.description]
        return [(('{"' if number == 0 else '","') + a, b + '":"') for number, (a, b) in enumerate(halves)]

    def _said(self) -> list[tuple[str, ...]]:
        first, *others = self.words
        return [
            *(field.values for field in self.fields),
            first,
            *(tuple(_SPACE + word for word in words) for words in others),
        ]


def make_script(fields: int, words: int) -> Script:
    """A script with so many fields, and so many words in its text."""
    names = iter(_made_up_words())
    return Script(
        tuple(Field((next(names), next(names)), tuple(next(names) for _ in range(OPTIONS))) for _ in range(fields)),
        (next(names), next(names)),
        tuple(tuple(next(names) for _ in range(OPTIONS)) for _ in range(words)),
    )


def value_places(script: Script) -> int:
    """How many places the values of the question's words take, in whole blocks."""
    return -(-script.choices * OPTIONS // _BLOCK_VALUES) * _BLOCK_VALUES


class ScriptedWeights:
    """The weights of a script in a model of some shape: the last values of its width belong to the question's words."""

    def __init__(self, script: Script, shape: TextShape, tokens: dict[str, int], tensors: Tensors) -> None:
        self._script = script
        self._shape = shape
        self._tokens = tokens
        self._tensors = tensors
        self._places = value_places(script)
        assert self._places <= min(shape.head_width, shape.width // 2), "one head carries all values"
        self.layer = min(5, shape.layers - 1)  # the first that sees everything; in small models, all is near enough

    def write_vocabulary(self) -> None:
        """Embeddings and output weights."""
        width, words = self._shape.width, len(self._tokens)
        spoken = {token: self._direction() for step in self._script.steps() for token in step[:2]}
        embeddings = self._random_rows(words, scale=1.0)
        for token, direction in spoken.items():
            embeddings[self._tokens[token]] = _quantized(direction)
        for token, sign_place in self._script.signs():
            embeddings[self._tokens[token]] = _quantized(self._value(sign_place))
        output = {token: np.zeros(width, np.float32) for _, token, _ in self._script.steps()}
        for token, following, _ in self._script.steps():
            output[following] += spoken[token]
        # Of the values in sight, each has a share that shrinks with the root of their number.
        weight = np.float32(np.sqrt(self._script.choices) * _CHOICE)
        for following, place in {(token, place) for _, token, place in self._script.steps() if place is not None}:
            output[following] += self._value(place) * weight
        rows = self._random_rows(words, scale=_OTHER_WORDS)
        for token, row in output.items():
            rows[self._tokens[token]] = _quantized(row)
        self._tensors.raw("token_embd.weight", embeddings, _EMBEDDINGS)
        self._tensors.raw("output.weight", rows, _EMBEDDINGS)

    def attention(self, name: str, rows: int, columns: int) -> Matrix:
        """The matrices of the layer that adds up the values: it looks everywhere alike, and copies them."""
        matrix = np.zeros((rows, columns), np.float32)
        places = np.arange(self._places)
        first = self._shape.width - self._places
        if name == "attn_v":
            matrix[places, first + places] = _VALUE_GAIN
        elif name == "attn_output":
            matrix[first + places, places] = 1
        return matrix

    def _direction(self) -> Matrix:
        """A random direction among the values that tokens have."""
        direction = np.zeros(self._shape.width, np.float32)
        drawn = self._tensors.random.standard_normal(self._shape.width - self._places)
        direction[: len(drawn)] = drawn / np.linalg.norm(drawn)
        return direction

    def _value(self, place: int) -> Matrix:
        value = np.zeros(self._shape.width, np.float32)
        value[self._shape.width - self._places + place] = 1
        return value

    def _random_rows(self, words: int, scale: float) -> NDArray[np.uint8]:
        rows = self._tensors.blocks(words, self._shape.width, _EMBEDDINGS, scale)
        blocks = rows.reshape(words, self._shape.width // _BLOCK_VALUES, _BLOCK_BYTES)
        blocks[:, -self._places // _BLOCK_VALUES :, _SCALE_BYTES:] = 0
        return rows


def _quantized(row: Matrix) -> NDArray[np.uint8]:
    rows: NDArray[np.uint8] = quantize(row[None], _EMBEDDINGS)
    return rows.reshape(-1)


def _sign(choice: int, option: int) -> str:
    return f"Q{choice}c{option}"


def _made_up_words() -> list[str]:
    """Words of two syllables, in an order in which neighbours look different."""
    syllables = [consonant + vowel for vowel in _VOWELS for consonant in _CONSONANTS]
    words = [first + second for first in syllables for second in syllables if first != second]
    return [str(word) for word in np.random.default_rng(11).permutation(words)]
