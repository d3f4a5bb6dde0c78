"""XML that strangers in the network sent.

Document types, and with them entities, are refused; size, depth and number of elements are bounded. Elements are found
by their local names: devices disagree about namespaces more than about anything else.
"""

from dataclasses import dataclass, field
from typing import Any
from xml.parsers import expat

from crow_shared.errors import CrowError, Kind

MAX_BYTES = 512 << 10
MAX_ELEMENTS = 20_000
MAX_DEPTH = 64


@dataclass(slots=True)
class Element:
    """One element; `name` without its namespace, `text` what stands directly in it, stripped."""

    name: str
    attributes: dict[str, str] = field(default_factory=dict)
    text: str = ""
    children: list["Element"] = field(default_factory=list)

    def all(self, name: str) -> list["Element"]:
        """The elements of that name below this one, at any depth, in the document's order."""
        found: list[Element] = []
        for child in self.children:
            if child.name == name:
                found.append(child)
            found += child.all(name)
        return found

    def first(self, *path: str) -> "Element | None":
        """The first element that is reached by these names, each at any depth below the one before."""
        if not path:
            return self
        for candidate in self.all(path[0]):
            found = candidate.first(*path[1:])
            if found is not None:
                return found
        return None

    def text_of(self, *path: str) -> str:
        """The text of `first`; empty where it is missing."""
        found = self.first(*path)
        return "" if found is None else found.text


def parse(document: bytes) -> Element:
    """The root element. Raises CrowError(CORRUPT) `bad_xml` for what is no XML, or more than we read."""
    if len(document) > MAX_BYTES:
        raise _bad(f"it has over {MAX_BYTES} bytes")
    builder = _Builder()
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = _refuse_doctype
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.characters
    try:
        parser.Parse(document, True)
    except (expat.ExpatError, ValueError):
        raise _bad("it is not well-formed") from None
    assert builder.root is not None, "a well-formed document has a root"
    return builder.root


class _Builder:
    def __init__(self) -> None:
        self.root: Element | None = None
        self._open: list[Element] = []
        self._elements = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._elements += 1
        if self._elements > MAX_ELEMENTS or len(self._open) >= MAX_DEPTH:
            raise _bad("it has too many elements, or too many within one another")
        element = Element(_local(name), {_local(key): value for key, value in attributes.items()})
        if self._open:
            self._open[-1].children.append(element)
        else:
            self.root = element
        self._open.append(element)

    def end(self, _name: str) -> None:
        element = self._open.pop()
        element.text = element.text.strip()

    def characters(self, text: str) -> None:
        self._open[-1].text += text


def _refuse_doctype(*_: Any) -> None:
    raise _bad("it declares a document type")


def _local(name: str) -> str:
    return name.rpartition(" ")[2]


def _bad(why: str) -> CrowError:
    return CrowError(Kind.CORRUPT, "bad_xml", f"the answer is no XML that is read here: {why}")
