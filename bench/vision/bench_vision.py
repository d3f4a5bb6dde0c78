"""Frames a second of our batched engine, beside llama-cpp-python's chat handler and llama-server.

All have the same model files, pictures, prompts, grammar and threads, and take turns, round after round, so that
whatever else the machine does meets them alike; every answer is compared with the known one. Ratios are medians over
the rounds. Run: `make bench-vision`; the environment may set what `Settings` lists, each as BENCH_ and its name in
capitals. With BENCH_GPU_LAYERS=-1 and libraries built for it, the same runs on a GPU (`bench/vision/on_gpu.sh`), where
memory does not hold all at once: then each has all its rounds alone, and one that does not fit is left out.
"""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import floors
import report
from llama_server import llama_server
from party import Party, Round
from workload import KINDS, model_files, stream, tower_shape

from crow_sim.gemma.shapes import TRUE_TEXT

ROOT = Path(__file__).resolve().parents[2]
ONE_AT_A_TIME = {"chat handler", "crow N = 1"}
_Q8_0_BYTES = 34 / 32  # for a value


@dataclass(frozen=True, slots=True)
class Settings:
    """The knobs."""

    text: str = "1b"  # 1b, 4b or 12b
    tower: str = "small"  # or siglip, siglip:448
    rounds: int = 2  # counted ones, after one of warming up
    cameras: int = 8  # a round has a frame of each
    alone_frames: int = 2  # of a round, for those that take one frame at a time: each takes the same
    slots: str = "1,4,8"
    threads: int = len(os.sched_getaffinity(0))
    gpu_layers: int = 0
    kinds: str = ",".join(KINDS)
    context: int = 2048
    batch: int = 512
    kv_type: str = "f16"
    together: int = 1  # 0: not in turns, but each alone, with all its rounds
    gpu_read_gbs: float = 0  # what the GPU's memory can be read with by its data sheet, in GB/s
    only: str = ""  # part of a name: measure those alone
    place: str = "build/bench-vision"
    out: str = "bench/results/vision.json"
    publish: int = 1  # 0: leave the table in docs/ as it is

    @classmethod
    def from_environment(cls) -> "Settings":
        """The defaults, changed by what the environment says."""
        given = {name: os.environ.get(f"BENCH_{name.upper()}") for name in cls.__slots__}
        return cls(**{name: type(getattr(cls(), name))(value) for name, value in given.items() if value})

    @property
    def name(self) -> str:
        """What the results of this run go by."""
        return f"{self.text} {self.tower} {'gpu' if self.gpu_layers else f'{self.threads} threads'}"


def main() -> None:
    """Measures and reports."""
    settings = Settings.from_environment()
    model, mmproj = model_files(Path(settings.place), settings.text, settings.tower)
    planned = [one for one in plan(settings, str(model), str(mmproj)) if settings.only in one[0]]
    found: dict[str, object] = {"settings": asdict(settings), "floor": floor(settings, model, mmproj)}
    measured: dict[str, dict[str, list[dict[str, object]]]] = {}
    for group in [planned] if settings.together else [[one] for one in planned]:
        try:
            measured |= of_group(settings, group)
        except RuntimeError as error:
            if settings.together:
                raise SystemExit(str(error)) from None
            print(f"without {group[0][0]}: {error}", file=sys.stderr)
        found |= {"machine": machine(settings), "engines": measured}
        keep(settings, found)
    if not measured:
        raise SystemExit("nothing could be measured")
    print(report.table(found))
    if settings.publish:
        report.write_into(ROOT / "docs" / "VISION.md", settings.name, found)


def keep(settings: Settings, results: dict[str, object]) -> None:
    """Puts what has been measured so far into the file of results."""
    out = ROOT / settings.out
    everything = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
    out.write_text(json.dumps(everything | {settings.name: results}, indent=1) + "\n", encoding="utf-8")


def of_group(
    settings: Settings, group: list[tuple[str, str, list[str]]]
) -> dict[str, dict[str, list[dict[str, object]]]]:
    """What the parties of a group take for all kinds of scenes. Raises RuntimeError when one does not do its work."""
    measured: dict[str, dict[str, list[dict[str, object]]]] = {}
    with ExitStack() as running:
        parties = []
        for name, script, arguments in group:
            parties.append(Party(name, script, *arguments))
            running.callback(parties[-1].end)
        for kind in settings.kinds.split(","):
            for name, results in one_kind(settings, kind, parties).items():
                measured.setdefault(name, {})[kind] = results
    return measured


def plan(settings: Settings, model: str, mmproj: str) -> Iterator[tuple[str, str, list[str]]]:
    """Everything that is measured: a name, a script and its arguments. The first is what others are compared with."""
    threads, layers = str(settings.threads), str(settings.gpu_layers)
    yield "chat handler", "handler.py", [model, mmproj, threads, str(settings.context), layers]
    slots = [int(number) for number in settings.slots.split(",")]
    try:
        program = str(llama_server())
    except RuntimeError as error:
        print(f"without llama-server: {error}", file=sys.stderr)
    else:
        given = [program, model, mmproj, str(max(slots)), threads, str(settings.context), layers]
        yield f"llama-server -np {max(slots)}", "server.py", given
        yield f"llama-server -np {max(slots)} --swa-full", "server.py", [*given, "--swa-full"]
    for number in slots:
        for guesses in (False, True):
            options = {
                "slots": number,
                "context_tokens": settings.context,
                "batch_tokens": settings.batch,
                "kv_type": settings.kv_type,
                "flash_attention": "auto",
                "threads": settings.threads,
                "gpu_layers": settings.gpu_layers,
                "guesses": guesses,
            }
            name = f"crow N = {number}{', guesses' if guesses else ''}"
            yield name, "ours.py", [model, mmproj, json.dumps(options)]


def one_kind(settings: Settings, kind: str, parties: list[Party]) -> dict[str, list[dict[str, object]]]:
    """All parties on the same frames, in turns, each time in the other order."""
    frames = stream(kind, settings.cameras)
    results: dict[str, list[dict[str, object]]] = {party.name: [] for party in parties}
    for number in range(settings.rounds + 1):
        of_round = next(frames)
        for party in parties if number % 2 else reversed(parties):
            given = of_round[: settings.alone_frames] if party.name.split(",")[0] in ONE_AT_A_TIME else of_round
            done = party.run(given)
            wrong = [frame for frame, text in zip(given, done.texts, strict=True) if text != frame.answer]
            if wrong:
                raise RuntimeError(f"{party.name} gave {len(wrong)} of {len(given)} frames a wrong answer")
            told = f"{done.wall_s / len(given):8.2f} s/frame {done.cpu_s / len(given):8.2f} CPU-s/frame"
            print(f"{kind:<9} {number} {party.name:<34} {told}", file=sys.stderr)
            if number:
                gpu_bytes = gpu_used_bytes() if settings.gpu_layers else 0
                results[party.name].append(per_frame(done, len(given)) | {"gpu_memory_bytes": gpu_bytes})
    return results


def per_frame(done: Round, frames: int) -> dict[str, object]:
    """What a frame of the round took."""
    return {
        "wall_s": done.wall_s / frames,
        "cpu_s": done.cpu_s / frames,
        "memory_bytes": done.memory_bytes,
        "split_s": {name: seconds / frames for name, seconds in done.split_s.items()},
        "guessed": done.guessed / frames,
        "right": done.right / frames,
    }


def floor(settings: Settings, model: Path, mmproj: Path) -> dict[str, float]:
    """The least that is possible with these weights on this machine: each step reads all of them once.

    How fast a GPU reads and multiplies is not measured; its data sheet says it.
    """
    read = settings.gpu_read_gbs * 1e9 if settings.gpu_layers else floors.read_bytes_per_s(settings.threads)
    text = TRUE_TEXT[settings.text]
    step_bytes = model.stat().st_size - text.vocabulary * text.width * _Q8_0_BYTES  # of the embeddings, a row is read
    return {
        "weights_bytes": step_bytes,
        "tower_bytes": mmproj.stat().st_size,
        "read_bytes_per_s": read,
        "step_s": step_bytes / read if read else 0,
        "float_operations_per_s": 0 if settings.gpu_layers else floors.float_operations_per_s(),
        "tower_operations": floors.tower_operations(tower_shape(settings.tower)),
        "token_operations": floors.text_operations(text),
    }


def machine(settings: Settings) -> dict[str, object]:
    """What it ran on."""
    names = [line.split(":", 1)[1].strip() for line in _cpuinfo() if line.startswith("model name")]
    gpu = nvidia_smi("name,memory.total") if settings.gpu_layers else ""
    load = median(os.getloadavg())
    return {"cpu": names[0] if names else platform.machine(), "cores": len(names), "gpu": gpu, "load": load}


def gpu_used_bytes() -> int:
    """What is taken of the GPU's memory, by whomever: with BENCH_TOGETHER=0, by the party at work."""
    return int(nvidia_smi("memory.used").split()[0]) << 20


def nvidia_smi(query: str) -> str:
    """What the driver says of the GPU that is used, without a header."""
    gpu = os.environ.get("CUDA_VISIBLE_DEVICES", "0")
    asked = ["nvidia-smi", "-i", gpu, f"--query-gpu={query}", "--format=csv,noheader"]
    return subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()


def _cpuinfo() -> list[str]:
    return Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()


if __name__ == "__main__":
    main()
