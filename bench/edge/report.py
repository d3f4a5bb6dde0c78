"""The results of `bench_edge.py` as a table, also in the document that tells of them."""

from pathlib import Path
from statistics import median
from typing import Any

BASELINE = "ffmpeg -vf fps=1"
_BEGIN, _END = "<!-- measured: written by make bench-edge -->", "<!-- end -->"


def table(found: dict[str, Any]) -> str:
    """The results in Markdown."""
    lines = [
        "| stream | what runs | every | CPU-s per camera and hour | spread | less than `fps=1` | cameras per core "
        "| MB per camera | frames per s | KB per frame |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for subject in found["subjects"]:
        costs = _values(subject, "cpu_s_per_camera_h")
        frames, size = (median(_values(subject, key)) for key in ("frames_per_camera_s", "bytes_per_frame"))
        pictures = ("", "") if subject["is_floor"] else (f"{frames:.2f}", f"{size / 1000:.0f}")
        cells = (
            subject["stream"],
            subject["name"],
            f"{subject['interval_s']:g} s" if subject["interval_s"] else "",
            figure(median(costs)),
            f"{figure(min(costs))} to {figure(max(costs))}",
            f"{figure(times_less(found, subject))} x",
            f"{3600 / median(costs):,.0f}",
            f"{median(_values(subject, 'pss_mb_per_camera')):.1f}",
            *pictures,
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def write_into(document: Path, found: dict[str, Any]) -> None:
    """Puts the table in the place of the one that is between the document's marks."""
    before, _, rest = document.read_text(encoding="utf-8").partition(_BEGIN)
    _, _, after = rest.partition(_END)
    document.write_text(f"{before}{_BEGIN}\n{table(found)}{_END}{after}", encoding="utf-8")


def times_less(found: dict[str, Any], subject: dict[str, Any]) -> float:
    """How many times less than `fps=1` on the same stream: the median over the rounds."""
    baseline = next(s for s in found["subjects"] if (s["name"], s["stream"]) == (BASELINE, subject["stream"]))
    pairs = zip(_values(baseline, "cpu_s_per_camera_h"), _values(subject, "cpu_s_per_camera_h"), strict=True)
    return median(theirs / ours for theirs, ours in pairs)


def _values(subject: dict[str, Any], key: str) -> list[float]:
    return [one[key] for one in subject["rounds"]]


def figure(value: float) -> str:
    """A measured value with the digits that mean something."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
