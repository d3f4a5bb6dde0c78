"""What is derived from a sample's pixels is derived once, and cameras do not wait for each other in it."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from crow_daemon.capture.encoder import Bgr
from crow_daemon.capture.sight import SampleSight
from crow_daemon.gate.gate import Luma
from crow_daemon.privacy.masks import Masks
from crow_shared.frame import TimeSource

WAIT_S = 10.0
WIDTH, HEIGHT = 64, 48


class SlowPicture:
    """Decodes when all cameras are about to, and counts how often."""

    capture_us = 0
    time_source = TimeSource.ARRIVAL
    clock_skew_us = None
    coded = None
    width, height = WIDTH, HEIGHT

    def __init__(self, all_decode: threading.Barrier) -> None:
        self._all_decode = all_decode
        self.decoded = 0

    def luma(self, width: int, height: int) -> Luma:
        self._decode()
        return np.zeros((height, width), np.uint8)

    def bgr(self, width: int, height: int) -> Bgr:
        self._decode()
        return np.zeros((height, width, 3), np.uint8)

    def _decode(self) -> None:
        self.decoded += 1
        self._all_decode.wait(WAIT_S)


@pytest.mark.parametrize("what", ["luma", "bgr"])
def test_cameras_of_one_process_decode_at_the_same_time(what: str) -> None:
    all_decode = threading.Barrier(2)
    sights = [SampleSight(SlowPicture(all_decode), 896, Masks(()), None) for _ in range(2)]
    with ThreadPoolExecutor(2) as cameras:
        for pixels in cameras.map(lambda sight: getattr(sight, what), sights):
            assert pixels.shape[:2] == (HEIGHT, WIDTH)


def test_a_sample_is_decoded_once_for_each_purpose() -> None:
    picture = SlowPicture(threading.Barrier(1))
    sight = SampleSight(picture, 896, Masks(()), None)
    for _ in range(3):
        assert (sight.luma.shape, sight.bgr.shape) == ((HEIGHT, WIDTH), (HEIGHT, WIDTH, 3))
    assert picture.decoded == 2
