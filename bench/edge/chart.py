"""The results of `bench_edge.py` as a chart: one bar per subject, on a logarithmic scale. Written as plain SVG."""

from math import log10
from pathlib import Path
from statistics import median
from typing import Any
from xml.sax.saxutils import escape

import report

_WIDTH, _LABELS, _RIGHT = 860, 300, 150  # pixels; the bars lie between the labels and the figures
_ROW, _BAR, _HEAD = 22, 14, 34
_LEAST, _MOST = 0.1, 2000.0  # CPU seconds per camera and hour
_COLOURS = {"ours": "#1f6feb", "rival": "#8c959f", "floor": "#d0d7de"}
_KEY = "blue: ours, dark grey: what else there is, light grey: floors"
_TITLES = {
    "h264": "H.264, 1080p25, 4 Mbit/s, a keyframe a second",
    "h265": "H.265, 1080p25, 4 Mbit/s, a keyframe a second",
    "h265-2s": "H.265, 1080p25, 4 Mbit/s, a keyframe every two seconds",
}


def write(found: dict[str, Any], path: Path) -> None:
    """Draws the results."""
    parts: list[str] = []
    y = 24
    for stream, title in _TITLES.items():
        subjects = [subject for subject in found["subjects"] if subject["stream"] == stream]
        y += _HEAD
        parts.append(f'<text x="10" y="{y - 12}" class="title">{escape(title)}</text>')
        for subject in sorted(subjects, key=_cost):
            parts += _row(found, subject, y)
            y += _ROW
    style = "text{font:12px sans-serif;fill:#24292f}.title{font-weight:bold}"
    size = f'viewBox="0 0 {_WIDTH} {y + 10}" width="{_WIDTH}" height="{y + 10}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img"><style>{style}</style>'
    caption = f"CPU seconds (user + system) per camera and hour, on a logarithmic scale; {_KEY}"
    parts.insert(0, f'<text x="10" y="20">{escape(caption)}</text>')
    parts[1:1] = [line for cost in (1, 10, 100, 1000) for line in _grid_line(cost, y)]
    ground = f'<rect width="{_WIDTH}" height="{y + 10}" fill="#fff"/>'
    path.write_text("\n".join([head, ground, *parts, "</svg>", ""]), encoding="utf-8")


def _grid_line(cost: int, bottom: int) -> list[str]:
    x = _LABELS + _length(cost)
    return [
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="40" y2="{bottom}" stroke="#d0d7de" stroke-dasharray="2 3"/>',
        f'<text x="{x:.1f}" y="38" text-anchor="middle">{cost}</text>',
    ]


def _length(cost: float) -> float:
    return max(2.0, (_WIDTH - _LABELS - _RIGHT) * log10(cost / _LEAST) / log10(_MOST / _LEAST))


def _row(found: dict[str, Any], subject: dict[str, Any], y: int) -> list[str]:
    cost = _cost(subject)
    kind = "floor" if subject["is_floor"] else "ours" if subject["name"].startswith("crow") else "rival"
    width = _length(cost)
    every = f", every {subject['interval_s']:g} s" if subject["interval_s"] else ""
    less = "" if subject["name"] == report.BASELINE else f" ({report.figure(report.times_less(found, subject))} x less)"
    figure = f"{report.figure(cost)}{less}"
    return [
        f'<text x="{_LABELS - 8}" y="{y + 11}" text-anchor="end">{escape(subject["name"] + every)}</text>',
        f'<rect x="{_LABELS}" y="{y}" width="{width:.1f}" height="{_BAR}" fill="{_COLOURS[kind]}"/>',
        f'<text x="{_LABELS + width + 6:.1f}" y="{y + 11}">{figure}</text>',
    ]


def _cost(subject: dict[str, Any]) -> float:
    return median(one["cpu_s_per_camera_h"] for one in subject["rounds"])
