"""What the machine has for a model: cores, memory, GPUs. Run as a program, it prints that as JSON.

Asking for GPUs loads llama.cpp's backends, so the receiver asks in a process of its own (`machine_from_outside`).
"""

import ctypes
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from crow_shared.errors import CrowError, Kind

_ANSWER_S = 60  # a first look at CUDA takes seconds
_GPU = 1  # of enum ggml_backend_dev_type; 0 is the CPU, 2 a GPU that uses the machine's memory


class Gpu(BaseModel):
    """A GPU that this build of llama.cpp can use."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    free_bytes: int


class Machine(BaseModel):
    """`memory_bytes` is what can be had now, within the limits of a container."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cores: int
    memory_bytes: int
    gpus: tuple[Gpu, ...]


def this_machine() -> Machine:
    """What can be seen from this process, with llama.cpp loaded into it."""
    return Machine(cores=len(os.sched_getaffinity(0)), memory_bytes=_memory_bytes(), gpus=tuple(_gpus()))


def machine_from_outside() -> Machine:
    """The same, asked in another process. Raises CrowError(UNAVAILABLE) when that fails."""
    command = [sys.executable, "-m", "crow_receiver.vision.llama.machine"]
    try:
        answer = subprocess.run(command, capture_output=True, timeout=_ANSWER_S, check=True, stdin=subprocess.DEVNULL)  # noqa: S603 — our own module
        return Machine.model_validate_json(answer.stdout)
    except (subprocess.SubprocessError, OSError, ValidationError) as error:
        raise CrowError(
            Kind.UNAVAILABLE, "machine_unknown", f"llama.cpp could not be asked for GPUs: {error}"
        ) from None


def _memory_bytes(root: Path = Path("/")) -> int:
    """What the kernel says is available, or what the container may still take, if that is less."""
    lines = (root / "proc/meminfo").read_text(encoding="ascii").splitlines()
    available = next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
    group = root / "sys/fs/cgroup"
    try:
        limit = (group / "memory.max").read_text(encoding="ascii").strip()
        used = int((group / "memory.current").read_text(encoding="ascii"))
    except OSError:
        return available
    return available if limit == "max" else min(available, max(0, int(limit) - used))


def _gpus() -> list[Gpu]:
    if find_spec("llama_cpp") is None:
        return []
    from llama_cpp import _ggml  # noqa: PLC0415 — loads the backends, and is an optional extra

    library = _ggml.libggml
    library.ggml_backend_dev_count.restype = ctypes.c_size_t
    library.ggml_backend_dev_get.restype = ctypes.c_void_p
    library.ggml_backend_dev_get.argtypes = [ctypes.c_size_t]
    library.ggml_backend_dev_type.argtypes = [ctypes.c_void_p]
    library.ggml_backend_dev_description.restype = ctypes.c_char_p
    library.ggml_backend_dev_description.argtypes = [ctypes.c_void_p]
    library.ggml_backend_dev_memory.restype = None
    library.ggml_backend_dev_memory.argtypes = [ctypes.c_void_p, *[ctypes.POINTER(ctypes.c_size_t)] * 2]
    found = []
    for index in range(library.ggml_backend_dev_count()):
        device = library.ggml_backend_dev_get(index)
        if library.ggml_backend_dev_type(device) == _GPU:
            free, total = ctypes.c_size_t(), ctypes.c_size_t()
            library.ggml_backend_dev_memory(device, ctypes.byref(free), ctypes.byref(total))
            name = library.ggml_backend_dev_description(device).decode("utf-8", "replace")
            found.append(Gpu(name=name, free_bytes=free.value))
    return found


if __name__ == "__main__":
    sys.stdout.write(this_machine().model_dump_json() + "\n")
