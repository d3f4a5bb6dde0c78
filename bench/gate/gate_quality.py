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
from itertools import chain
from pathlib import Path

import cv2
import gates
import numpy as np
from footage import Footage, clips, rendered

from crow_daemon.registry.camera import GateMode

OUT = Path(os.environ.get("BENCH_OUT", "bench/results/gate.json"))
CLIPS = Path(os.environ.get("BENCH_CLIPS", "../shared/clips"))
QUIET_BEFORE_S, QUIET_AFTER_S = 4, 2  # from the last of somebody until a sample is sent in error: ttl, and the pre-roll

GATES: dict[str, Callable[[Footage], gates.Sent]] = {
    "activity": gates.ours(GateMode.ACTIVITY),
    "frame difference": gates.frame_difference,
    "MOG2": gates.mog2,
    "off": gates.ours(GateMode.OFF),
}


@dataclass(frozen=True, slots=True)
class Score:
    """`quiet_sent` counts heartbeats as well: one in 60 samples. Delays are in seconds, None without visits."""

    footage: str
    gate: str
    samples: int
    active_s: int
    recall: float | None  # of active seconds
    visits: int
    visits_seen: int
    delay_median_s: float | None
    delay_max_s: float | None
    quiet_s: int
    quiet_sent: float | None  # share of samples while nothing happens
    saved: float  # share of all samples
    ms_per_sample: float


def main() -> None:
    """Measures, prints, writes."""
    cv2.setNumThreads(1)
    scores: list[Score] = []
    for footage in chain(rendered(), clips(CLIPS)):
        for name, gate in GATES.items():
            began_s = time.process_time()
            sent = gate(footage)
            scores.append(score(footage, name, sent, (time.process_time() - began_s) / len(sent)))
    OUT.parent.mkdir(parents=True, exist_ok=True)
    machine = {"cores": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
    found = {"machine": machine | {"opencv": version("opencv-python-headless")}, "scores": [asdict(s) for s in scores]}
    OUT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(table(scores))


def score(footage: Footage, gate: str, sent: "np.ndarray", cost_s: float) -> Score:
    """What the truth says about what was sent."""
    quiet = np.array(
        [
            not footage.present[max(0, second - QUIET_BEFORE_S) : second + QUIET_AFTER_S].any()
            for second in range(len(sent))
        ]
    )
    quiet[0] = False  # the first sample is always sent
    delays = [delay for begin in footage.first_seen_s if (delay := _delay(begin, footage, sent)) is not None]
    return Score(
        footage.name,
        gate,
        len(sent),
        int(footage.moves.sum()),
        _mean(sent[footage.moves]),
        len(footage.first_seen_s),
        len(delays),
        round(float(np.median(delays)), 2) if delays else None,
        round(max(delays), 2) if delays else None,
        int(quiet.sum()),
        _mean(sent[quiet]),
        round(1 - float(sent.mean()), 4),
        round(cost_s * 1000, 3),
    )


def _delay(begin_s: float, footage: Footage, sent: "np.ndarray") -> float | None:
    """From when somebody is first there until the first sent sample with them; None if they were gone before."""
    for second in range(int(np.ceil(begin_s)), len(sent)):
        if not footage.present[second]:
            return None
        if sent[second]:
            return second - begin_s
    return None


def _mean(sent: "np.ndarray") -> float | None:
    return round(float(sent.mean()), 4) if len(sent) else None


def table(scores: list[Score]) -> str:
    """In Markdown."""
    head = ("footage", "gate", "recall of active seconds", "visits seen", "delay, median", "longest")
    head += ("sent while nothing happens", "saved")
    rows = [
        (
            one.footage,
            one.gate,
            _percent(one.recall),
            f"{one.visits_seen} of {one.visits}",
            _seconds(one.delay_median_s),
            _seconds(one.delay_max_s),
            _percent(one.quiet_sent),
            _percent(one.saved),
        )
        for one in scores
        if one.gate != "off"
    ]
    rule = ("---", "---", *["---:"] * 6)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share * 100:.1f} %"


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} s"


if __name__ == "__main__":
    main()
