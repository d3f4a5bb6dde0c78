"""Texts of a grammar, and the grammar in llama.cpp's own form (GBNF), as a second opinion."""

from hypothesis import strategies as st

from crow_receiver.vision.grammar import Character, Choice, Literal, Node, Repeat, Sequence


@st.composite
def texts(draw: st.DrawFn, node: Node) -> str:
    """Any text of the grammar."""
    match node:
        case Literal(text):
            return text
        case Character(ranges):
            return draw(st.one_of([st.characters(min_codepoint=ord(r[0]), max_codepoint=ord(r[1])) for r in ranges]))
        case Sequence(parts):
            return "".join(draw(texts(part)) for part in parts)
        case Choice(options):
            return draw(texts(draw(st.sampled_from(options))))
        case Repeat(part, least, most):
            count = draw(st.sampled_from((least, most, min(most, least + 2))))
            return "".join(draw(texts(part)) for _ in range(count))


def longest(node: Node) -> str:
    """The longest text of the grammar, in bytes."""
    match node:
        case Literal(text):
            return text
        case Character(ranges):
            return ranges[0][0]
        case Sequence(parts):
            return "".join(map(longest, parts))
        case Choice(options):
            return max(map(longest, options), key=lambda text: len(text.encode()))
        case Repeat(part, _, most):
            return longest(part) * most


def gbnf(node: Node) -> str:
    """The grammar in llama.cpp's form."""
    match node:
        case Literal(text):
            return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
        case Character(ranges):
            return "[" + "".join(f"\\x{ord(ends[0]):02x}-\\x{ord(ends[1]):02x}" for ends in ranges) + "]"
        case Sequence(parts):
            return " ".join(map(gbnf, parts))
        case Choice(options):
            return "(" + " | ".join(map(gbnf, options)) + ")"
        case Repeat(part, least, most):
            return f"({gbnf(part)}){{{least},{most}}}"
