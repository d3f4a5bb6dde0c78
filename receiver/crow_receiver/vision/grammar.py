"""The grammar that an answer has to follow: the JSON of a `Scene`, without whitespace, and never endless.

It is built from the schema's own enumerations and bounds, so every text of the grammar is a valid `Scene`. The length
of the longest one is known: a model that may write that many bytes always comes to an end.
"""

import json
from dataclasses import dataclass
from functools import lru_cache

from crow_receiver.vision.schema import MAX_INTERACTIONS, MAX_PEOPLE, Action, Activity, Movement, Role
from crow_shared.zones import ELSEWHERE_ZONE, UNKNOWN_ZONE

LEAST_DESCRIPTION_CHARS, DESCRIPTION_CHARS = 20, 320
PRODUCT_CHARS = 40


@dataclass(frozen=True, slots=True)
class Literal:
    """Exactly this text."""

    text: str

    def longest_bytes(self) -> int:
        """The length in UTF-8."""
        return len(self.text.encode())


@dataclass(frozen=True, slots=True)
class Character:
    """One ASCII character of ranges that are given as pairs of first and last."""

    ranges: tuple[str, ...]

    def longest_bytes(self) -> int:
        """Always one byte."""
        return 1


@dataclass(frozen=True, slots=True)
class Sequence:
    """One part after the other."""

    parts: "tuple[Node, ...]"

    def longest_bytes(self) -> int:
        """All parts together."""
        return sum(part.longest_bytes() for part in self.parts)


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several."""

    options: "tuple[Node, ...]"

    def longest_bytes(self) -> int:
        """The longest option."""
        return max(option.longest_bytes() for option in self.options)


@dataclass(frozen=True, slots=True)
class Repeat:
    """The same part `least` to `most` times."""

    part: "Node"
    least: int
    most: int

    def longest_bytes(self) -> int:
        """The part, `most` times."""
        return self.part.longest_bytes() * self.most


Node = Literal | Character | Sequence | Choice | Repeat


@dataclass(frozen=True, slots=True)
class AnswerGrammar:
    """A grammar, and the length of the longest text that it allows."""

    root: Node
    longest_bytes: int


@lru_cache(maxsize=256)
def answer_grammar(zones: tuple[str, ...]) -> AnswerGrammar:
    """The grammar for a camera with areas of these names."""
    root = _scene(zones)
    return AnswerGrammar(root, root.longest_bytes())


def _scene(zones: tuple[str, ...]) -> Node:
    zone = _one_of(tuple(dict.fromkeys((*zones, ELSEWHERE_ZONE, UNKNOWN_ZONE))))
    person = _object(
        role=_one_of(tuple(Role)),
        zone=zone,
        activity=_one_of(tuple(Activity)),
        movement=_one_of(tuple(Movement)),
        confidence=_SHARE,
    )
    interaction = _object(
        action=_one_of(tuple(Action)),
        product=Choice((Literal("null"), _text(_VISIBLE, 1, PRODUCT_CHARS))),
        zone=zone,
        confidence=_SHARE,
    )
    return _object(
        people=_list(person, MAX_PEOPLE),
        interactions=_list(interaction, MAX_INTERACTIONS),
        queue_length=Choice((Literal("null"), _DIGIT, Sequence((_POSITIVE_DIGIT, _DIGIT)))),
        confidence=_SHARE,
        description=_text(_CAPITAL, LEAST_DESCRIPTION_CHARS, DESCRIPTION_CHARS),
    )


_DIGIT = Character(("09",))
_POSITIVE_DIGIT = Character(("19",))
_CAPITAL = Character(("AZ",))
_SHARE = Choice((Literal("1.0"), Sequence((Literal("0."), Repeat(_DIGIT, 1, 2)))))
_VISIBLE = Character(("!!", "#[", "]~"))  # without the two that JSON would have to escape
_VISIBLE_OR_SPACE = Character((" !", "#[", "]~"))


def _text(first: Node, least_chars: int, most_chars: int) -> Node:
    """A JSON string of ASCII, so that each character is one byte."""
    rest = Repeat(_VISIBLE_OR_SPACE, least_chars - 1, most_chars - 1)
    return Sequence((Literal('"'), first, rest, Literal('"')))


def _one_of(names: tuple[str, ...]) -> Node:
    return Choice(tuple(Literal(json.dumps(name, ensure_ascii=False)) for name in names))


def _list(item: Node, most: int) -> Node:
    more = Repeat(Sequence((Literal(","), item)), 0, most - 1)
    return Choice((Literal("[]"), Sequence((Literal("["), item, more, Literal("]")))))


def _object(**fields: Node) -> Node:
    parts: list[Node] = []
    for name, node in fields.items():
        parts += [Literal(f'{"," if parts else "{"}"{name}":'), node]
    return Sequence((*parts, Literal("}")))
