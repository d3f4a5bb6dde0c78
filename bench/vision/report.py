"""The results as tables."""

from pathlib import Path
from statistics import median
from typing import Any

_BASE = "chat handler"
_INTERVALS_S = (1, 5, 10)


def table(found: dict[str, Any]) -> str:
    """One run's results, in Markdown."""
    kinds = found["settings"]["kinds"].split(",")
    lines = [
        "| engine | scene | s per frame | to the handler | CPU-s per frame | to the handler |"
        " encode / prefill / decode, s |"
        " guessed, right | MB | cameras at 1 / 5 / 10 s |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for kind in kinds:
        base = found["engines"].get(_BASE, {}).get(kind)
        for name, by_kind in found["engines"].items():
            lines.append(_row(name, kind, by_kind[kind], base))
    return "\n".join([*lines, "", _floor(found)])


def write_into(document: Path, name: str, found: dict[str, Any]) -> None:
    """Puts the table between the document's marks for that run, where it has them."""
    begin, end = f"<!-- measured: {name} -->", "<!-- end -->"
    text = document.read_text(encoding="utf-8") if document.exists() else ""
    if begin not in text:
        return
    before, rest = text.split(begin, 1)
    document.write_text(before + f"{begin}\n{table(found)}\n" + end + rest.split(end, 1)[1], encoding="utf-8")


def _row(name: str, kind: str, rounds: list[dict[str, Any]], base: list[dict[str, Any]] | None) -> str:
    wall_s, cpu_s = (median(done[key] for done in rounds) for key in ("wall_s", "cpu_s"))
    faster, cheaper = (_ratio(base, rounds, key) for key in ("wall_s", "cpu_s"))
    split = " / ".join(
        f"{median(done['split_s'][part] for done in rounds):.2f}" if rounds[0]["split_s"] else "-"
        for part in ("encode", "prefill", "decode")
    )
    guessed, right = (median(done[key] for done in rounds) for key in ("guessed", "right"))
    memory = max(done.get("gpu_memory_bytes") or done["memory_bytes"] for done in rounds) >> 20
    cameras = " / ".join(f"{interval / wall_s:.1f}" for interval in _INTERVALS_S)
    guesses = f"{guessed:.0f}, {right:.0f}" if guessed else "-"
    times = f"{wall_s:.2f} | {faster} | {cpu_s:.2f} | {cheaper}"
    return f"| {name} | {kind} | {times} | {split} | {guesses} | {memory} | {cameras} |"


def _ratio(base: list[dict[str, Any]] | None, rounds: list[dict[str, Any]], key: str) -> str:
    if not base:
        return "-"
    return f"{median(other[key] / done[key] for other, done in zip(base, rounds, strict=True)):.1f}"


def _floor(found: dict[str, Any]) -> str:
    floor, machine = found["floor"], found["machine"]
    where = f"{machine['gpu']}, whose memory the MB are," if machine["gpu"] else machine["cpu"]
    step, picture = f"{floor['weights_bytes'] / 1e9:.2f} GB of weights a step", ""
    if floor["read_bytes_per_s"]:
        step += f" at {floor['read_bytes_per_s'] / 1e9:.1f} GB/s, {floor['step_s'] * 1000:.0f} ms"
    if floor["float_operations_per_s"]:
        picture = (
            f", {floor['tower_operations'] / floor['float_operations_per_s']:.2f} s at the "
            f"{floor['float_operations_per_s'] / 1e9:.0f} GFLOP/s that a matrix product reaches on the CPU"
        )
    return (
        f"On {where} ({machine['cores']} cores), load {machine['load']:.1f} meanwhile. The least that is possible: "
        f"{step}; {floor['token_operations'] / 1e9:.1f} GFLOP a token; "
        f"{floor['tower_operations'] / 1e12:.3f} TFLOP a picture{picture}."
    )
