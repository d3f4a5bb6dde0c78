"""An evaluation as a picture (SVG): people counted against people said, and what became of each word."""

from collections.abc import Iterator
from xml.sax.saxutils import escape

from crow_receiver.evaluation.report import Report, percent
from crow_receiver.evaluation.scores import Detection

_WIDTH = 760
_MARGIN = 16
_CELL = 34  # pixels, of the matrix and of the rows
_MATRIX_LEFT = 130
_LABELS, _BARS = 210, 380
_BAR_ROW, _BAR = 22, 14
_RIGHT, _MISSED, _MADE_UP = "#1f6feb", "#d0d7de", "#cf222e"
_STYLE = "text{font:12px sans-serif;fill:#24292f}.title{font-weight:bold}.light{fill:#fff}.note{fill:#57606a}"


def picture(report: Report) -> str:
    """The SVG document."""
    parts: list[str] = []
    y = 28
    engines = ", ".join(filter(None, (value for one in report.engines for value in (one["engine"], one["model"]))))
    title = f"{engines} on {report.dataset.description.name}: {report.labelled} labelled frames"
    parts.append(_text(_MARGIN, y, title, "title"))
    y += 26
    if report.scores.confusion:
        y = _matrix(parts, report.scores.confusion, y)
    words = {str(name): found.words for name, found in report.scores.traits.items()}
    if report.scores.actions:
        words["actions"] = report.scores.actions.words
    if report.scores.presence:
        words = {"presence": {"somebody": report.scores.presence}} | words
    for name, found in words.items():
        y = _bars(parts, name, found, y)
    parts.append(_text(_MARGIN, y + 14, "blue: right, grey: missed, red: made up", "note"))
    size = f'viewBox="0 0 {_WIDTH} {y + 30}" width="{_WIDTH}" height="{y + 30}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img"><style>{_STYLE}</style>'
    return "\n".join([head, f'<rect width="{_WIDTH}" height="{y + 30}" fill="#fff"/>', *parts, "</svg>", ""])


def _matrix(parts: list[str], confusion: list[list[int]], top: int) -> int:
    """Rows are what was labelled, columns what was said; the darker, the larger the share of its row."""
    names = [*map(str, range(len(confusion) - 1)), f"{len(confusion) - 1}+"]
    parts.append(_text(_MARGIN, top + 14, "people: rows labelled, columns said"))
    y = top + 26
    for column, name in enumerate(names):
        parts.append(_text(_MATRIX_LEFT + column * _CELL + _CELL // 2, y + 12, name, anchor="middle"))
    y += 20
    for name, row in zip(names, confusion, strict=True):
        parts.append(_text(_MATRIX_LEFT - 10, y + _CELL // 2 + 4, name, anchor="end"))
        for column, count in enumerate(row):
            parts += _cell(_MATRIX_LEFT + column * _CELL, y, count, sum(row))
        y += _CELL
    return y + 24


def _cell(x: int, y: int, count: int, of: int) -> Iterator[str]:
    share = count / of if of else 0.0
    yield (
        f'<rect x="{x}" y="{y}" width="{_CELL - 2}" height="{_CELL - 2}" fill="{_RIGHT}" '
        f'fill-opacity="{share:.2f}" stroke="#d0d7de"/>'
    )
    if count:
        yield _text(x + _CELL // 2 - 1, y + _CELL // 2 + 3, str(count), "light" if share > 0.5 else "", "middle")


def _bars(parts: list[str], title: str, words: dict[str, Detection], top: int) -> int:
    parts.append(_text(_MARGIN, top + 12, title, "title"))
    y = top + 20
    longest = max((found.right + found.missed + found.made_up for found in words.values()), default=0)
    for word, found in words.items():
        parts.append(_text(_LABELS - 8, y + 11, word, anchor="end"))
        x = float(_LABELS)
        for count, colour in ((found.right, _RIGHT), (found.missed, _MISSED), (found.made_up, _MADE_UP)):
            width = _BARS * count / longest if longest else 0.0
            parts.append(f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{_BAR}" fill="{colour}"/>')
            x += width
        parts.append(_text(round(x) + 6, y + 11, f"F1 {percent(found.f1)}", "note"))
        y += _BAR_ROW
    return y + 14


def _text(x: int, y: int, words: str, style: str = "", anchor: str = "start") -> str:
    return f'<text x="{x}" y="{y}" class="{style}" text-anchor="{anchor}">{escape(words)}</text>'
