"""llama-server as a party: as many requests at once as it has slots."""

import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
from party import resident_bytes, serve
from workload import GBNF, MOST_TOKENS, Frame, messages

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_READY_S = 300.0
_ANSWER_S = 3600.0


def main() -> None:
    """Arguments: the program, both files, slots, threads, context of a slot, layers on the GPU, more of its options."""
    program, model, mmproj, slots, threads, context, gpu_layers, *more = sys.argv[1:]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [program, "-m", model, "--mmproj", mmproj, "-np", slots, "-c", str(int(context) * int(slots))]
    command += ["-t", threads, "-tb", threads, "-ngl", gpu_layers, "--host", "127.0.0.1", "--port", port, "--no-webui"]
    command += ["--log-disable", *(["--no-mmproj-offload"] if gpu_layers == "0" else []), *more]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=_ANSWER_S) as client:
            _wait_until_ready(client, process)

            def answer(frame: Frame) -> str:
                asked = {"messages": messages(frame), "grammar": GBNF, "temperature": 0, "top_k": 1}
                reply = client.post("/v1/chat/completions", json=asked | {"max_tokens": MOST_TOKENS})
                reply.raise_for_status()
                return str(reply.json()["choices"][0]["message"]["content"])

            def run(frames: list[Frame]) -> tuple[list[str], dict[str, object]]:
                with ThreadPoolExecutor(int(slots)) as pool:
                    return list(pool.map(answer, frames)), {"memory_bytes": resident_bytes(process.pid)}

            serve(run, lambda: _cpu_s(process.pid))
    finally:
        process.terminate()
        process.wait()


def _wait_until_ready(client: httpx.Client, process: "subprocess.Popen[bytes]") -> None:
    deadline_s = time.monotonic() + _READY_S
    while time.monotonic() < deadline_s and process.poll() is None:
        try:
            if client.get("/health").is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise SystemExit("llama-server does not answer")


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_S


if __name__ == "__main__":
    main()
