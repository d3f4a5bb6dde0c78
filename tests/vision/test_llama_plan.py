"""What the plan says before loading is what loading takes, and what the settings say is done."""

import ctypes
import json
import re
import struct
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from crow_receiver.cli.main import main
from crow_receiver.models.store import ModelStore
from crow_receiver.vision.llama.gguf_header import read_header
from crow_receiver.vision.llama.machine import Gpu, Machine, _memory_bytes, machine_from_outside
from crow_receiver.vision.llama.options import LlamaSettings
from crow_receiver.vision.llama.plan import Plan, plan_for
from crow_shared.errors import CrowError, Kind
from crow_sim.gemma import write_gemma3
from crow_sim.gemma.shapes import SMALL_TEXT

GIB = 1 << 30
CPU = Machine(cores=4, memory_bytes=8 * GIB, gpus=())
GPU = Machine(cores=16, memory_bytes=64 * GIB, gpus=(Gpu(name="H100", free_bytes=80 * GIB),))


def decided(plan: Plan) -> dict[str, tuple[str, str]]:
    return {decision.name: (decision.value, decision.source) for decision in plan.decisions}


def test_everything_is_automatic_until_it_is_said(small_gemma: tuple[Path, Path]) -> None:
    plan = plan_for(LlamaSettings(), *small_gemma, CPU)
    assert (plan.options.slots, plan.options.threads, plan.options.context_tokens) == (4, 4, 4096)
    assert decided(plan)["slots"] == ("4", "automatic")
    assert decided(plan)["gpu_layers"] == ("none", "automatic")
    said = LlamaSettings(slots=7, threads=3, context_tokens=1024, batch_tokens=64, kv_type="q8_0", gpu_layers=2)
    plan = plan_for(said, *small_gemma, CPU)
    for name, value in said.model_dump(exclude={"workers", "flash_attention"}).items():
        assert decided(plan)[name] == (str(value), "setting")
        assert getattr(plan.options, name) == value


def test_with_a_gpu_the_work_goes_there_and_more_frames_go_together(small_gemma: tuple[Path, Path]) -> None:
    plan = plan_for(LlamaSettings(), *small_gemma, GPU)
    assert plan.options.slots == 32
    assert decided(plan)["gpu_layers"] == ("all", "automatic")
    assert plan.gpu_bytes > 4 * plan_for(LlamaSettings(slots=1), *small_gemma, GPU).gpu_bytes
    assert plan_for(LlamaSettings(gpu_layers=0), *small_gemma, GPU).gpu_bytes == 0


def test_slots_are_as_many_as_memory_holds_and_one_at_least(small_gemma: tuple[Path, Path]) -> None:
    whole = plan_for(LlamaSettings(slots=4), *small_gemma, CPU).host_bytes
    tight = CPU.model_copy(update={"memory_bytes": whole - 1})
    plan = plan_for(LlamaSettings(), *small_gemma, tight)
    assert plan.fits
    assert plan.options.slots == 3
    nothing = plan_for(LlamaSettings(), *small_gemma, CPU.model_copy(update={"memory_bytes": 1}))
    assert (nothing.fits, nothing.options.slots) == (False, 1)


def test_workers_share_the_machine(small_gemma: tuple[Path, Path]) -> None:
    one = plan_for(LlamaSettings(slots=2), *small_gemma, CPU)
    four = plan_for(LlamaSettings(slots=2, workers=4), *small_gemma, CPU)
    assert four.host_bytes > 3 * one.host_bytes
    assert (one.options.threads, four.options.threads) == (4, 1)


def test_a_batch_holds_a_whole_picture_whatever_the_settings_say(small_gemma: tuple[Path, Path]) -> None:
    assert plan_for(LlamaSettings(batch_tokens=1), *small_gemma, CPU).options.batch_tokens == 16


def test_quantized_keys_and_values_without_flash_attention_are_refused(small_gemma: tuple[Path, Path]) -> None:
    with pytest.raises(CrowError) as caught:
        plan_for(LlamaSettings(kv_type="q8_0", flash_attention="off"), *small_gemma, CPU)
    assert (caught.value.kind, caught.value.code) == (Kind.INVALID, "bad_settings")


def test_files_of_something_else_are_refused(small_gemma: tuple[Path, Path]) -> None:
    model, mmproj = small_gemma
    for files in ((mmproj, mmproj), (model, model)):
        with pytest.raises(CrowError) as caught:
            plan_for(LlamaSettings(), *files, CPU)
        assert (caught.value.kind, caught.value.code) == (Kind.INVALID, "bad_model")


def test_a_header_says_what_was_written(small_gemma: tuple[Path, Path]) -> None:
    header = read_header(small_gemma[0])
    assert header.values["general.architecture"] == "gemma3"
    assert header.number("gemma3.block_count") == SMALL_TEXT.layers
    assert header.lengths["tokenizer.ggml.tokens"] > 300
    assert header.file_bytes == small_gemma[0].stat().st_size


@pytest.mark.parametrize("share", [0.0, 0.0005, 0.001, 0.01, 0.02])
def test_a_header_that_is_cut_off_is_refused(small_gemma: tuple[Path, Path], tmp_path: Path, share: float) -> None:
    cut = tmp_path / "cut.gguf"
    data = small_gemma[0].read_bytes()
    cut.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(CrowError) as caught:
        read_header(cut)
    assert (caught.value.kind, caught.value.code) == (Kind.INVALID, "bad_model")


KEY = struct.pack("<Q", 1) + b"k"


@pytest.mark.parametrize(
    "data",
    [
        b"GGUF" + struct.pack("<IQQ", 1, 0, 0),
        b"GGUF" + struct.pack("<IQQ", 3, 0, 1 << 60),
        b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 1 << 62),
        b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + KEY + struct.pack("<I", 99),
        b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + KEY + struct.pack("<IQ", 8, 1 << 50),
        b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + KEY + struct.pack("<IIQ", 9, 4, 1 << 60),
        b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + KEY + struct.pack("<IIQ", 9, 9, 2),
    ],
    ids=["version", "keys", "key length", "type", "text length", "items", "array of arrays"],
)
def test_a_header_that_lies_is_refused_before_anything_is_allocated(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "lies.gguf"
    path.write_bytes(data)
    with pytest.raises(CrowError) as caught:
        read_header(path)
    assert caught.value.code == "bad_model"


def test_memory_is_what_the_container_may_still_take(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 9 kB\nMemAvailable: 8000 kB\n")
    assert _memory_bytes(tmp_path) == 8000 << 10
    group = tmp_path / "sys/fs/cgroup"
    group.mkdir(parents=True)
    (group / "memory.current").write_text("1000\n")
    for limit, expected in (("max", 8000 << 10), ("5000", 4000), ("500", 0)):
        (group / "memory.max").write_text(f"{limit}\n")
        assert _memory_bytes(tmp_path) == expected


def test_the_machine_is_asked_in_another_process() -> None:
    found = machine_from_outside()
    assert found.cores >= 1
    assert found.memory_bytes > 0


@pytest.mark.llama
@pytest.mark.parametrize("changes", [{}, {"slots": 8}, {"flash_attention": "off"}, {"kv_type": "q8_0"}])
def test_what_llama_cpp_allocates_is_about_what_was_planned(
    small_gemma: tuple[Path, Path], tmp_path: Path, changes: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    llama_cpp = pytest.importorskip("llama_cpp")
    from crow_receiver.vision.llama import model as model_module  # noqa: PLC0415 — needs the library
    from crow_receiver.vision.llama.evaluator import Evaluator  # noqa: PLC0415
    from crow_receiver.vision.llama.plan import most_logits  # noqa: PLC0415

    said: list[str] = []
    listening = llama_cpp.llama_log_callback(lambda _level, text, _data: said.append(text.decode()))
    monkeypatch.setattr(model_module, "_log", listening)
    text = replace(SMALL_TEXT, layers=6, width=256, feed_forward=1024, head_width=64)
    files = write_gemma3(tmp_path, text)
    plan = plan_for(LlamaSettings.model_validate({"threads": 1, **changes}), *files, CPU)
    model = model_module.GemmaModel(*files, plan.options)
    Evaluator(model, model.beginning("Look."), plan.options, most_logits(plan.options.slots))
    llama_cpp.llama_log_set(ctypes.cast(None, llama_cpp.llama_log_callback), None)
    log = "".join(said)
    planned = {need.purpose: need.on_host_bytes for need in plan.needs}
    key_values = sum(float(size) for size in re.findall(r"KV buffer size = +([\d.]+) MiB", log))
    assert planned["keys and values"] == pytest.approx(key_values * (1 << 20), rel=0.01)
    computing = re.findall(r"(?:llama_context|sched_reserve): +\S+ compute buffer size = +([\d.]+) MiB", log)
    allocated = float(computing[-1]) * (1 << 20)
    assert 0.8 * allocated <= planned["computing text"] <= 2.5 * allocated


@pytest.fixture
def state(small_gemma: tuple[Path, Path], tmp_path: Path) -> Path:
    ModelStore(tmp_path / "models").add("small", *small_gemma)
    (tmp_path / "receiver.toml").write_text(f'state_dir = "{tmp_path}"\n[vision]\nslots = 3\n')
    return tmp_path


def test_the_command_says_what_why_and_how_much(state: Path) -> None:
    result = CliRunner().invoke(main, ["--config", str(state / "receiver.toml"), "vision", "plan"])
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert any(line.split()[:3] == ["slots", "3", "setting"] for line in lines)
    assert any(line.split()[:3] == ["context_tokens", "4096", "automatic"] for line in lines)
    assert any(line.startswith("keys and values") for line in lines)


def test_the_command_prints_json_and_says_by_its_exit_code_when_it_does_not_fit(state: Path) -> None:
    (state / "receiver.toml").write_text(f'state_dir = "{state}"\n[vision]\nslots = 128\ncontext_tokens = 100000000\n')
    result = CliRunner().invoke(main, ["--config", str(state / "receiver.toml"), "vision", "plan", "--json"])
    assert result.exit_code == 1
    said = json.loads(result.output)
    assert said["fits"] is False
    assert said["hostBytes"] > said["machine"]["memory_bytes"]
    assert said["options"]["slots"] == 128


def test_without_a_model_the_command_says_so(tmp_path: Path) -> None:
    (tmp_path / "receiver.toml").write_text(f'state_dir = "{tmp_path}"\n')
    result = CliRunner().invoke(main, ["--config", str(tmp_path / "receiver.toml"), "vision", "plan"])
    assert result.exit_code == 2
    assert "model list" in result.output
