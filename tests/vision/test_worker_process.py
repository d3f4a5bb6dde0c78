"""The worker process by itself: it ends when nobody wants it any more, and reads nothing beyond its bounds."""

import subprocess
import sys
import time

import pytest
from vision_parts import gone

from crow_receiver.vision.worker.protocol import LENGTHS, MAX_HEADER_BYTES, WorkerConfig, packed, unpacked_lengths
from crow_shared.errors import CrowError


def test_a_worker_ends_with_its_input() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "crow_receiver.vision.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as worker:
        assert worker.stdin
        worker.stdin.close()
        assert worker.wait(20) == 0


def test_a_worker_dies_with_its_supervisor_even_if_its_input_never_ends() -> None:
    script = (
        "import subprocess, sys\n"
        "worker = subprocess.Popen([sys.executable, '-m', 'crow_receiver.vision.worker'])\n"
        "print(worker.pid, flush=True)\n"
        "worker.wait()\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdin
        assert parent.stdout
        pid = int(parent.stdout.readline())
        parent.stdin.write(packed(WorkerConfig(engine="classic")))
        parent.stdin.flush()
        assert parent.stdout.read(LENGTHS.size), "the worker is ready"
        parent.kill()
        parent.wait()
        deadline_s = time.monotonic() + 20
        while not gone(pid):
            assert time.monotonic() < deadline_s
            time.sleep(0.01)


def test_a_message_beyond_the_bounds_is_refused_before_it_is_read() -> None:
    for lengths in ((MAX_HEADER_BYTES + 1, 0), (0, 1 << 31)):
        with pytest.raises(CrowError) as caught:
            unpacked_lengths(lengths[0].to_bytes(4, "big") + lengths[1].to_bytes(4, "big"))
        assert caught.value.code == "worker_protocol"
