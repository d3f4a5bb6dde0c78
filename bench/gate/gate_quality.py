"""How good gates are: what of the movement they send, how soon, and what they send while nothing happens.

On the rendered shop, whose truth is known, undisturbed and disturbed, and on real clips against a reference that looks
at every pixel of every picture. One sample a second. Run: `make bench-gate`; prints a table and writes the results.
"""

import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import chain, groupby
from pathlib import Path

import cv2
import gates
import numpy as np
from footage import Footage, clips, rendered

OUT = Path(os.environ.get("BENCH_OUT", "bench/results/gate.json"))
CLIPS = Path(os.environ.get("BENCH_CLIPS", "../shared/clips"))
QUIET_BEFORE_S, QUIET_AFTER_S = 4, 2  # from the last of somebody until a sample is sent in error: ttl, and the pre-roll

GATES: dict[str, Callable[[Footage], gates.Sent]] = {
    "activity": gates.activity,
    "frame difference": gates.frame_difference,
    "MOG2": gates.mog2,
}


@dataclass(frozen=True, slots=True)
class Score:
    """Of one gate on some footage. `quiet_s`: samples while nothing happens; heartbeats count as sent in them."""

    footage: str
    gate: str
    samples: int
    sent: int
    active_s: int
    active_sent: int
    quiet_s: int
    quiet_sent: int
    delays_s: tuple[float, ...]  # of the visits that were seen
    visits: int


def main() -> None:
    """Measures, prints, writes."""
    cv2.setNumThreads(1)
    scores: list[Score] = []
    costs_ms: list[float] = []
    for footage in chain(rendered(), clips(CLIPS)):
        scores += [score(footage, name, gate(footage)) for name, gate in GATES.items()]
        costs_ms.append(cost_ms(footage))
    OUT.parent.mkdir(parents=True, exist_ok=True)
    found = {
        "machine": {"cores": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()},
        "opencv": version("opencv-python-headless"),
        "gate_and_alerts_cpu_ms_per_sample": round(float(np.median(costs_ms)), 2),
        "scores": [asdict(one) for one in scores],
    }
    OUT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(table(scores))
    print(f"\nCPU per sample of gate and alerts: {found['gate_and_alerts_cpu_ms_per_sample']} ms")


def score(footage: Footage, gate: str, sent: gates.Sent) -> Score:
    """What the truth says about what was sent."""
    quiet = np.array(
        [
            not footage.present[max(0, second - QUIET_BEFORE_S) : second + QUIET_AFTER_S].any()
            for second in range(len(sent))
        ]
    )
    quiet[0] = False  # the first sample is always sent
    delays = (_delay_s(begin_s, footage, sent) for begin_s in footage.first_seen_s)
    return Score(
        footage.name,
        gate,
        len(sent),
        int(sent.sum()),
        int(footage.moves.sum()),
        int(sent[footage.moves].sum()),
        int(quiet.sum()),
        int(sent[quiet].sum()),
        tuple(round(delay_s, 2) for delay_s in delays if delay_s is not None),
        len(footage.first_seen_s),
    )


def cost_ms(footage: Footage) -> float:
    """CPU time of our gate and alerts for a sample that is decoded and scaled already."""
    lumas = gates.lumas(footage)
    began_s = time.process_time()
    gates.judge_alone(lumas)
    return (time.process_time() - began_s) / len(lumas) * 1000


def table(scores: list[Score]) -> str:
    """In Markdown, the rendered shop's two cameras together."""

    def place(one: Score) -> tuple[int, str]:
        name = one.footage.split(", ")[-1]
        return [other.footage.split(", ")[-1] for other in scores].index(name), name

    head = ["footage", "visits seen", "longest delay", "saved"]
    head += [f"{what}: {gate}" for what in ("recall", "quiet sent") for gate in GATES]
    rows = []
    for (_, name), group in groupby(sorted(scores, key=place), key=place):
        members = list(group)
        found = {gate: _together([one for one in members if one.gate == gate]) for gate in GATES}
        ours = found["activity"]
        rows.append(
            [
                name,
                f"{len(ours.delays_s)} of {ours.visits}" if ours.visits else "",
                f"{max(ours.delays_s):.1f} s" if ours.delays_s else "",
                _percent(ours.samples - ours.sent, ours.samples),
                *(_percent(one.active_sent, one.active_s) for one in found.values()),
                *(_percent(one.quiet_sent, one.quiet_s) for one in found.values()),
            ]
        )
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))


def _together(scores: list[Score]) -> Score:
    return Score(
        scores[0].footage,
        scores[0].gate,
        sum(one.samples for one in scores),
        sum(one.sent for one in scores),
        sum(one.active_s for one in scores),
        sum(one.active_sent for one in scores),
        sum(one.quiet_s for one in scores),
        sum(one.quiet_sent for one in scores),
        tuple(delay_s for one in scores for delay_s in one.delays_s),
        sum(one.visits for one in scores),
    )


def _delay_s(begin_s: float, footage: Footage, sent: gates.Sent) -> float | None:
    """From when somebody is first there until the first sent sample with them; None if they were gone before."""
    for second in range(int(np.ceil(begin_s)), len(sent)):
        if not footage.present[second]:
            return None
        if sent[second]:
            return second - begin_s
    return None


def _percent(part: int, whole: int) -> str:
    return f"{part / whole * 100:.1f} %" if whole else ""


if __name__ == "__main__":
    main()
