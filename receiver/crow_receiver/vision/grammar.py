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
_FOREIGN_DESCRIPTION_CHARS, _FOREIGN_PRODUCT_CHARS = 240, 24  # of up to three bytes each


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
class Byte:
    """One byte from `first` to `last`: a part of a character beyond ASCII."""

    first: int
    last: int

    def longest_bytes(self) -> int:
        """Always one."""
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


Node = Literal | Character | Byte | Sequence | Choice | Repeat


@dataclass(frozen=True, slots=True)
class AnswerGrammar:
    """A grammar, and the length of the longest text that it allows."""

    root: Node
    longest_bytes: int


@lru_cache(maxsize=256)
def answer_grammar(zones: tuple[str, ...], products: tuple[str, ...] = (), *, foreign: bool = False) -> AnswerGrammar:
    """The grammar for a camera with areas of these names, whose interactions are sorted into `products`, if any.

    `foreign`: description and product may be in any language's letters, not only in English ones.
    """
    root = _scene(zones, products, foreign=foreign)
    return AnswerGrammar(root, root.longest_bytes())


def _scene(zones: tuple[str, ...], products: tuple[str, ...], *, foreign: bool) -> Node:
    product = _foreign_text(1, _FOREIGN_PRODUCT_CHARS) if foreign else _text(_VISIBLE, 1, PRODUCT_CHARS)
    description = (
        _foreign_text(LEAST_DESCRIPTION_CHARS, _FOREIGN_DESCRIPTION_CHARS)
        if foreign
        else _text(_CAPITAL, LEAST_DESCRIPTION_CHARS, DESCRIPTION_CHARS)
    )
    category = {"category": Choice((Literal("null"), _one_of(products)))} if products else {}
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
        product=Choice((Literal("null"), product)),
        **category,
        zone=zone,
        confidence=_SHARE,
    )
    return _object(
        people=_list(person, MAX_PEOPLE),
        interactions=_list(interaction, MAX_INTERACTIONS),
        queue_length=Choice((Literal("null"), _DIGIT, Sequence((_POSITIVE_DIGIT, _DIGIT)))),
        confidence=_SHARE,
        description=description,
    )


_DIGIT = Character(("09",))
_POSITIVE_DIGIT = Character(("19",))
_CAPITAL = Character(("AZ",))
_SHARE = Choice((Literal("1.0"), Sequence((Literal("0."), Repeat(_DIGIT, 1, 2)))))
_VISIBLE = Character(("!!", "#[", "]~"))  # without the two that JSON would have to escape
_VISIBLE_OR_SPACE = Character((" !", "#[", "]~"))
_FOLLOWING = Byte(0x80, 0xBF)
# UTF-8 of two and three bytes without control characters and surrogates (RFC 3629, section 4): all living scripts.
_FOREIGN = Choice(
    (
        Sequence((Byte(0xC2, 0xC2), Byte(0xA0, 0xBF))),
        Sequence((Byte(0xC3, 0xDF), _FOLLOWING)),
        Sequence((Byte(0xE0, 0xE0), Byte(0xA0, 0xBF), _FOLLOWING)),
        Sequence((Byte(0xE1, 0xEC), _FOLLOWING, _FOLLOWING)),
        Sequence((Byte(0xED, 0xED), Byte(0x80, 0x9F), _FOLLOWING)),
        Sequence((Byte(0xEE, 0xEF), _FOLLOWING, _FOLLOWING)),
    )
)


def _foreign_text(least_chars: int, most_chars: int) -> Node:
    """A JSON string in the letters of any language."""
    rest = Repeat(Choice((_VISIBLE_OR_SPACE, _FOREIGN)), least_chars - 1, most_chars - 1)
    return Sequence((Literal('"'), Choice((_VISIBLE, _FOREIGN)), rest, Literal('"')))


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
