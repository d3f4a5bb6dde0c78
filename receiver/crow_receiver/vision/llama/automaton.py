"""The answer's grammar as an automaton over bytes: what may come next, and what has to.

It is built from the same tree as the text that other servers get, state by state as answers visit them, and shared by
all answers to the same camera's question: a state never changes. llama.cpp's own grammars are not used, since they end
the process when they are wrong or are told of a token that they refuse, and cost a call into C for each question.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from crow_receiver.vision.grammar import Byte, Character, Choice, Literal, Node, Repeat, Sequence


@dataclass(frozen=True, slots=True, eq=False)
class _Rest:
    """What is still to come: `node`, of which `done` bytes, parts or repetitions are behind us, and `then` the rest."""

    node: Node
    done: int
    then: "_Rest | None"


class State:
    """A place in the answer. `complete` says that the answer may end here."""

    __slots__ = ("_automaton", "_forced", "_next", "_ways", "complete")

    def __init__(self, automaton: "Automaton", ways: frozenset["_Rest | None"]) -> None:
        self._automaton = automaton
        self._ways = [way for way in ways if way is not None]
        self._next: dict[int, State | None] = {}
        self._forced: bytes | None = None
        self.complete = None in ways

    def after(self, text: bytes) -> "State | None":
        """The state that `text` leads to; None where the grammar refuses it."""
        state: State | None = self
        for byte in text:
            if state is None:
                return None
            state = state.after_byte(byte)
        return state

    def forced(self) -> bytes:
        """The text that has to come next, as far as there is no choice; empty where there is one."""
        if self._forced is None:
            text, state = bytearray(), self
            while (byte := state.only_byte()) is not None:
                text.append(byte)
                following = state.after_byte(byte)
                assert following is not None, "the only byte is one that the grammar takes"
                state = following
            self._forced = bytes(text)
        return self._forced

    def after_byte(self, byte: int) -> "State | None":
        """The state that a byte leads to; None where the grammar refuses it."""
        if byte not in self._next:
            self._next[byte] = self._automaton.state_after(self._ways, byte)
        return self._next[byte]

    def only_byte(self) -> int | None:
        """The byte that has to come next, if there is no choice."""
        if self.complete or not all(isinstance(way.node, Literal) for way in self._ways):
            return None
        bytes_next = {self._automaton.literal_byte(way) for way in self._ways}
        return bytes_next.pop() if len(bytes_next) == 1 else None


class Automaton:
    """The states of one grammar."""

    def __init__(self, root: Node) -> None:
        self._rests: dict[tuple[int, int, int], _Rest] = {}
        self._states: dict[frozenset[_Rest | None], State] = {}
        self._texts: dict[int, bytes] = {}
        self._root = root  # the keys of `_rests` are identities of its nodes
        self.start = self._state(self._expanded(self._rest(root, 0, None)))

    def state_after(self, ways: list[_Rest], byte: int) -> State | None:
        """The state that a byte leads to; None where no way takes it."""
        following: set[_Rest | None] = set()
        for way in ways:
            if isinstance(way.node, Literal):
                if self.literal_byte(way) == byte:
                    following.update(self._expanded(self._rest(way.node, way.done + 1, way.then)))
            elif isinstance(way.node, Byte):
                if way.node.first <= byte <= way.node.last:
                    following.update(self._expanded(way.then))
            elif isinstance(way.node, Character) and any(ord(r[0]) <= byte <= ord(r[1]) for r in way.node.ranges):
                following.update(self._expanded(way.then))
        return self._state(following) if following else None

    def literal_byte(self, way: _Rest) -> int:
        """The byte that a way through a literal takes next."""
        return self._text(way.node)[way.done]

    def _text(self, literal: Node) -> bytes:
        assert isinstance(literal, Literal), "only literals have a text"
        text = self._texts.get(id(literal))
        if text is None:
            text = self._texts[id(literal)] = literal.text.encode()
        return text

    def _rest(self, node: Node, done: int, then: _Rest | None) -> _Rest:
        key = (id(node), done, id(then))
        rest = self._rests.get(key)
        if rest is None:
            rest = self._rests[key] = _Rest(node, done, then)
        return rest

    def _state(self, ways: "Iterator[_Rest | None] | set[_Rest | None]") -> State:
        key = frozenset(ways)
        state = self._states.get(key)
        if state is None:
            state = self._states[key] = State(self, key)
        return state

    def _expanded(self, rest: _Rest | None) -> Iterator[_Rest | None]:
        """The ways from here on that take a byte next, and None if the answer may end."""
        if rest is None:
            yield None
            return
        node, done, then = rest.node, rest.done, rest.then
        match node:
            case Literal():
                if done < len(self._text(node)):
                    yield rest
                else:
                    yield from self._expanded(then)
            case Character() | Byte():
                yield rest
            case Sequence(parts):
                if done < len(parts):
                    yield from self._expanded(self._rest(parts[done], 0, self._rest(node, done + 1, then)))
                else:
                    yield from self._expanded(then)
            case Choice(options):
                for option in options:
                    yield from self._expanded(self._rest(option, 0, then))
            case Repeat(part, least, most):
                if done >= least:
                    yield from self._expanded(then)
                if done < most:
                    yield from self._expanded(self._rest(part, 0, self._rest(node, done + 1, then)))


@lru_cache(maxsize=64)  # a few thousand states each, 4 MB of them
def automaton_of(root: Node) -> Automaton:
    """The automaton of a grammar, with the states that earlier answers have visited."""
    return Automaton(root)
