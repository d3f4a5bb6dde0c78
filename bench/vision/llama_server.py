"""llama-server, built from the very sources that llama-cpp-python was built from, into build/."""

import hashlib
import os
import shutil
import subprocess
import tarfile
import tomllib
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parents[2]
# What is built otherwise, for a GPU, has a place of its own: it would be taken for the other one.
PLACE = ROOT / "build" / ("llama-server-gpu" if os.environ.get("BENCH_CMAKE") else "llama-server")
_PACKAGE = "llama-cpp-python"
_LEFT_OUT = ("LLAMA_OPENSSL", "LLAMA_SUBPROCESS", "LLAMA_BUILD_TESTS", "LLAMA_BUILD_EXAMPLES", "LLAMA_USE_PREBUILT_UI")
_DEAD_STORES_STAY = "-fno-tree-dse -fno-dse"  # as in receiver/llama_build.cmake, and for its reason


def llama_server() -> Path:
    """The program, built where it is not yet (ten minutes of CPU).

    Raises RuntimeError, in a sentence, where it cannot be built.
    """
    program = PLACE / "bin" / "llama-server"
    if program.exists():
        return program
    for tool in ("cmake", "g++"):
        if shutil.which(tool) is None:
            raise RuntimeError(f"no {tool} to build llama-server with")
    source = next(_source().glob("*/vendor/llama.cpp"))
    configure = ["cmake", "-S", str(source), "-B", str(PLACE), "-DCMAKE_BUILD_TYPE=Release"]
    configure += [f"-D{name}=OFF" for name in _LEFT_OUT]
    configure += [f"-DCMAKE_C_FLAGS={_DEAD_STORES_STAY}", f"-DCMAKE_CXX_FLAGS={_DEAD_STORES_STAY}"]
    configure += [f"-D{word}" for word in os.environ.get("BENCH_CMAKE", "").split()]
    jobs = str(len(os.sched_getaffinity(0)))
    for command in (configure, ["cmake", "--build", str(PLACE), "--target", "llama-server", "-j", jobs]):
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode != 0:
            last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
            raise RuntimeError(f"llama-server cannot be built: {' '.join(last)}")
    return program


def _source() -> Path:
    """The unpacked source distribution that uv.lock pins."""
    place = ROOT / "build" / "llama-source"
    if place.exists():
        return place
    packages = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))["package"]
    pinned = next(package["sdist"] for package in packages if package["name"] == _PACKAGE)
    archive = ROOT / "build" / f"{_PACKAGE}.tar.gz"
    archive.parent.mkdir(exist_ok=True)
    try:
        with (
            httpx.stream("GET", pinned["url"], follow_redirects=True, timeout=60) as answer,
            archive.open("wb") as file,
        ):
            answer.raise_for_status()
            for chunk in answer.iter_bytes():
                file.write(chunk)
    except httpx.HTTPError as error:
        raise RuntimeError(f"the sources of llama.cpp cannot be fetched: {error}") from error
    with archive.open("rb") as file:
        if "sha256:" + hashlib.file_digest(file, "sha256").hexdigest() != pinned["hash"]:
            raise RuntimeError(f"{archive} is not what uv.lock pins")
    with tarfile.open(archive) as packed:
        packed.extractall(place, filter="data")
    archive.unlink()
    return place


if __name__ == "__main__":
    print(llama_server())
