"""Promise: with a model file that is not what was installed, the receiver does not start, with no engine."""

import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from crow_receiver.models.store import ModelStore

pytest.importorskip("llama_cpp")
pytestmark = pytest.mark.llama

CROW_RECEIVER = Path(sys.executable).with_name("crow-receiver")


@pytest.mark.parametrize("engine", ["auto", "llama"])
@pytest.mark.parametrize("file", ["model.gguf", "mmproj.gguf"])
def test_a_receiver_whose_model_has_changed_refuses_to_start_and_says_both_checksums(
    small_gemma: tuple[Path, Path], tmp_path: Path, engine: str, file: str
) -> None:
    installed = ModelStore(tmp_path / "models").add("mine", *small_gemma)
    path = installed.directory / file
    right, changed = path.read_bytes(), bytearray(path.read_bytes())
    changed[-1] ^= 1
    path.write_bytes(changed)
    config = tmp_path / "receiver.toml"
    config.write_text(
        f"state_dir = '{tmp_path}'\n[vision]\nengine = '{engine}'\n[grpc]\nlisten = '127.0.0.1:0'\n"
        "[rest]\nlisten = '127.0.0.1:0'\n"
    )
    command = [str(CROW_RECEIVER), "--config", str(config), "run"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 1
    assert sha256(right).hexdigest() in done.stderr
    assert sha256(changed).hexdigest() in done.stderr
    assert "receiver ready" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")
