"""An independent cross-check: the direct reader against gst-rtsp-server, where that is installed."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from camera_rig import LOGIN
from direct_rig import decoded_alone, keyframes_of, reading

from crow_daemon.registry.secret import Credentials
from crow_shared.errors import CrowError

PYTHON = "/usr/bin/python3"  # the system's: gi is none of our dependencies
NEEDED = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"


def installed() -> bool:
    if not Path(PYTHON).exists():
        return False
    return subprocess.run([PYTHON, "-c", NEEDED], check=False, capture_output=True).returncode == 0


pytestmark = pytest.mark.skipif(not installed(), reason="needs gst-rtsp-server")


@contextmanager
def gst_camera(shop: dict[str, Path], login: Credentials | None) -> Iterator[str]:
    arguments = ["--login", login.username, login.password.reveal()] if login else []
    arguments += [f"{codec}={shop[codec]}" for codec in ("h264", "hevc")]
    script = str(Path(__file__).with_name("gst_camera.py"))
    with subprocess.Popen([PYTHON, script, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        try:
            assert server.stdout is not None
            yield f"rtsp://127.0.0.1:{int(server.stdout.readline())}"
        finally:
            server.kill()


@pytest.mark.parametrize("login", [None, LOGIN], ids=["open", "digest"])
@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_keyframes_of_another_server_decode_alone_as_within_their_stream(
    codec: str, login: Credentials | None, shop: dict[str, Path]
) -> None:
    expected = keyframes_of(shop[codec])
    decoded = []
    with gst_camera(shop, login) as address, reading(f"{address}/{codec}", login) as source:
        stream = source.open()
        try:
            for picture in source.pictures():
                assert picture is not None
                assert picture.coded is not None
                decoded.append(decoded_alone(picture.coded.encoding, picture.coded.payload))
                if len(decoded) == len(expected):
                    break
        except CrowError:
            pass  # the file is at its end
    assert (stream.width, stream.height) == (640, 360)
    assert len(decoded) >= len(expected) - 1
    assert all(np.array_equal(*pair) for pair in zip(decoded, expected, strict=False))
