"""A service keeps the memory of the frames that it has passed on."""

import subprocess
import sys

import pytest

from crow_shared import allocator

FAULTS_PER_BUFFER = """
import resource, sys
from crow_shared.allocator import keep_freed_memory
if sys.argv[1] == "tuned" and not keep_freed_memory():
    sys.exit(77)
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def pass_on():
    buffers = [bytes([number]) * 150_000 for number in range(8)]
pass_on()
before = faults()
for _ in range(50):
    pass_on()
print((faults() - before) / 400)
"""


def faults_per_buffer(how: str) -> float:
    done = subprocess.run([sys.executable, "-c", FAULTS_PER_BUFFER, how], capture_output=True, text=True, check=False)
    if done.returncode == 77:
        pytest.skip("this C library cannot be tuned")
    return float(done.stdout)


def test_buffers_of_a_frames_size_are_used_again_without_asking_the_system() -> None:
    assert faults_per_buffer("tuned") < 1


def test_a_c_library_that_cannot_be_tuned_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda _: object())
    assert allocator.keep_freed_memory() is False
