"""What the engine will be loaded with on this machine, why, and what memory that takes; before anything is loaded.

The sizes come from the heads of both files. Weights and keys and values are exact; what llama.cpp needs to compute with
is reckoned from the shapes of the largest tensors that live at once, and was compared with what it says it allocates
(tests/vision/test_llama_plan.py).
"""

from dataclasses import dataclass, replace
from pathlib import Path

from crow_receiver.vision.llama.gguf_header import GgufHeader, read_header
from crow_receiver.vision.llama.machine import Machine
from crow_receiver.vision.llama.options import KeyValueType, LlamaOptions, LlamaSettings
from crow_shared.errors import CrowError, Kind

CONTEXT_TOKENS = 4096  # instructions, picture, question and the longest answer fit, also if each token is one byte
_GPU_SLOTS, _CPU_SLOTS = 32, 4
_GPU_BATCH_TOKENS, _CPU_BATCH_TOKENS = 2048, 512
_SIDE_OF_POOLED = 4  # Gemma 3 pools 4 by 4 patches into a token, unless the file says otherwise
_VALUE_BYTES: dict[KeyValueType, float] = {"f16": 2, "q8_0": 34 / 32}
_FLOAT_BYTES = 4
_HALF_BYTES = 2
_PROCESS_BYTES = 250 << 20  # Python, OpenCV and llama.cpp: 120; the grammars of some dozens of cameras, 4 for each
_CELLS_ROUNDED_TO = 256


@dataclass(frozen=True, slots=True)
class Decision:
    """One value, and where it comes from: `setting`, or `automatic` with the reason."""

    name: str
    value: str
    source: str
    why: str


@dataclass(frozen=True, slots=True)
class Need:
    """Memory for one purpose."""

    purpose: str
    on_gpu_bytes: int
    on_host_bytes: int


@dataclass(frozen=True, slots=True)
class Plan:
    """`options` are what the engine of each worker is loaded with, `needs` what each of them takes."""

    options: LlamaOptions
    decisions: tuple[Decision, ...]
    needs: tuple[Need, ...]
    machine: Machine
    workers: int

    @property
    def host_bytes(self) -> int:
        """What all workers take of the machine's memory."""
        return self.workers * sum(need.on_host_bytes for need in self.needs)

    @property
    def gpu_bytes(self) -> int:
        """What all workers take of the GPUs' memory."""
        return self.workers * sum(need.on_gpu_bytes for need in self.needs)

    @property
    def gpu_memory_bytes(self) -> int:
        """What the GPUs have."""
        return sum(gpu.free_bytes for gpu in self.machine.gpus)

    @property
    def fits(self) -> bool:
        """Whether there is that much."""
        return self.host_bytes <= self.machine.memory_bytes and self.gpu_bytes <= self.gpu_memory_bytes


@dataclass(frozen=True, slots=True)
class _Text:
    """The size of the language model."""

    layers: int
    width: int
    feed_forward: int
    heads: int
    key_value_width: int  # keys and values of all heads of a layer, for one token
    vocabulary: int
    context: int
    file_bytes: int


@dataclass(frozen=True, slots=True)
class _Tower:
    """The size of the vision tower."""

    patches: int
    width: int
    feed_forward: int
    heads: int
    image_tokens: int
    file_bytes: int


def plan_for(settings: LlamaSettings, model: Path, mmproj: Path, machine: Machine) -> Plan:
    """The plan for two files of a model.

    Automatic slots are as many as there is memory for, up to a number that pays; what the settings say is taken as it
    is, and may not fit. Raises CrowError(INVALID) for files whose heads cannot be read, or are of something else, and
    for settings that contradict each other.
    """
    text, tower = _text_shape(read_header(model)), _tower_shape(read_header(mmproj))
    on_gpu = bool(machine.gpus) and settings.gpu_layers != 0
    decisions = _Decisions()
    threads = decisions.number(
        "threads", settings.threads, max(1, machine.cores // settings.workers), "the cores, shared by the workers"
    )
    gpu_layers = settings.gpu_layers
    if gpu_layers < 0:
        gpus = ", ".join(gpu.name for gpu in machine.gpus)
        decisions.add("gpu_layers", "all" if on_gpu else "none", "automatic", gpus or "no GPU that this build can use")
    else:
        decisions.add("gpu_layers", str(gpu_layers), "setting", "")
    decisions.add("kv_type", settings.kv_type, "setting", "")
    decisions.add("flash_attention", settings.flash_attention, "setting", _flash_attention(settings))
    context = decisions.number(
        "context_tokens",
        settings.context_tokens,
        min(CONTEXT_TOKENS, text.context),
        "for a frame; enough for the longest answer",
    )
    batch = decisions.number(
        "batch_tokens",
        settings.batch_tokens,
        max(tower.image_tokens, _GPU_BATCH_TOKENS if on_gpu else _CPU_BATCH_TOKENS),
        "evaluated at once; holds a picture's tokens",
    )
    options = LlamaOptions(
        slots=settings.slots or 1,
        context_tokens=context,
        batch_tokens=max(batch, tower.image_tokens),
        kv_type=settings.kv_type,
        flash_attention=settings.flash_attention,
        threads=threads,
        gpu_layers=gpu_layers,
    )

    def with_slots(slots: int) -> Plan:
        chosen = options.model_copy(update={"slots": slots})
        return Plan(chosen, (), _needs(chosen, text, tower, on_gpu), machine, settings.workers)

    if settings.slots:
        plan = with_slots(settings.slots)
        decisions.add("slots", str(settings.slots), "setting", "frames at once")
    else:
        most = _GPU_SLOTS if on_gpu else _CPU_SLOTS
        plan = next((plan for slots in range(most, 0, -1) if (plan := with_slots(slots)).fits), with_slots(1))
        why = "frames at once; more gain little" if plan.options.slots == most else "frames at once; memory for no more"
        decisions.add("slots", str(plan.options.slots), "automatic", why)
    return replace(plan, decisions=decisions.made())


def _flash_attention(settings: LlamaSettings) -> str:
    if settings.flash_attention == "off" and settings.kv_type != "f16":
        raise CrowError(
            Kind.INVALID, "bad_settings", f"vision.kv_type {settings.kv_type} needs flash attention, which is off"
        )
    return "where llama.cpp has it for the model; always in the vision tower" * (settings.flash_attention == "auto")


class _Decisions:
    """The decisions, in the order in which they are made."""

    def __init__(self) -> None:
        self._made: list[Decision] = []

    def add(self, name: str, value: str, source: str, why: str) -> None:
        self._made.append(Decision(name, value, source, why))

    def number(self, name: str, said: int, automatic: int, why: str) -> int:
        self.add(name, str(said or automatic), "setting" if said else "automatic", why)
        return said or automatic

    def made(self) -> tuple[Decision, ...]:
        return tuple(self._made)


def _needs(options: LlamaOptions, text: _Text, tower: _Tower, on_gpu: bool) -> tuple[Need, ...]:
    """What is loaded and allocated. Layers that stay on the CPU keep their weights, keys and values there."""
    share = 0.0
    if on_gpu:
        share = 1.0 if options.gpu_layers < 0 else min(1.0, options.gpu_layers / (text.layers + 1))

    def split(purpose: str, size_bytes: float, gpu_share: float) -> Need:
        on_gpu_bytes = int(size_bytes * gpu_share)
        return Need(purpose, on_gpu_bytes, int(size_bytes) - on_gpu_bytes)

    computes_on_gpu = 1.0 if on_gpu else 0.0
    return (
        split("weights of the language model", text.file_bytes, share),
        split("weights of the vision tower", tower.file_bytes, computes_on_gpu),
        split("keys and values", _key_value_bytes(options, text), share),
        split("computing text", _text_compute_bytes(options, text), computes_on_gpu),
        split("computing pictures", _tower_compute_bytes(options, tower), computes_on_gpu),
        split("logits", most_logits(options.slots) * text.vocabulary * _FLOAT_BYTES, 0),
        split("the process", _PROCESS_BYTES, 0),
    )


def most_logits(slots: int) -> int:
    """How many rows of a batch may ask for logits: for each slot its last token and some guesses.

    With more rows, wrong guesses cost more than right ones save.
    """
    return max(96, 2 * slots)


def _cells(options: LlamaOptions) -> int:
    return -(-options.slots * options.context_tokens // _CELLS_ROUNDED_TO) * _CELLS_ROUNDED_TO


def _key_value_bytes(options: LlamaOptions, text: _Text) -> float:
    """Of all layers: those with a sliding window keep everything too, or they would forget the instructions."""
    return _cells(options) * text.layers * text.key_value_width * _VALUE_BYTES[options.kv_type]


def _text_compute_bytes(options: LlamaOptions, text: _Text) -> float:
    rows = options.batch_tokens
    logits = min(rows, most_logits(options.slots)) * text.vocabulary * _FLOAT_BYTES
    activations = rows * (2 * text.feed_forward + 4 * text.width) * _FLOAT_BYTES
    masks = 2 * _cells(options) * rows * _HALF_BYTES
    if options.flash_attention == "off":
        masks += _cells(options) * rows * text.heads * _FLOAT_BYTES
    return max(logits, activations) + masks


def _tower_compute_bytes(options: LlamaOptions, tower: _Tower) -> float:
    activations = tower.patches * (tower.feed_forward + 4 * tower.width) * _FLOAT_BYTES
    if options.flash_attention == "off":
        activations += tower.patches**2 * tower.heads * _FLOAT_BYTES
    return activations


def _text_shape(header: GgufHeader) -> _Text:
    kind = header.values.get("general.architecture")
    if kind != "gemma3":
        raise CrowError(Kind.INVALID, "bad_model", f"{header.path} is a {kind}, not a gemma3")

    def number(key: str, otherwise: int | None = None) -> int:
        return header.number(f"gemma3.{key}", otherwise)

    heads = number("attention.head_count")
    head_width = number("embedding_length") // max(heads, 1)
    keys = number("attention.key_length", head_width)
    values = number("attention.value_length", head_width)
    return _Text(
        layers=number("block_count"),
        width=number("embedding_length"),
        feed_forward=number("feed_forward_length"),
        heads=heads,
        key_value_width=number("attention.head_count_kv", heads) * (keys + values),
        vocabulary=header.lengths.get("tokenizer.ggml.tokens", 0),
        context=number("context_length"),
        file_bytes=header.file_bytes,
    )


def _tower_shape(header: GgufHeader) -> _Tower:
    kind = header.values.get("clip.projector_type")
    if kind != "gemma3":
        raise CrowError(Kind.INVALID, "bad_model", f"{header.path} is no mmproj file of a gemma3")

    def number(key: str, otherwise: int | None = None) -> int:
        return header.number(f"clip.vision.{key}", otherwise)

    patches_a_side = number("image_size") // max(1, number("patch_size"))
    pooled = max(1, number("projector.scale_factor", _SIDE_OF_POOLED))
    return _Tower(
        patches=patches_a_side**2,
        width=number("embedding_length"),
        feed_forward=number("feed_forward_length"),
        heads=number("attention.head_count"),
        image_tokens=(patches_a_side // pooled) ** 2,
        file_bytes=header.file_bytes,
    )
