"""Whether what was sent are pictures of a clip: whole ones, as the camera coded or showed them."""

from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from crow_shared.frame import Encoding, Frame
from crow_shared.h26x import KEYFRAME_SLICES, nal_type, nal_units

_BLOCK = 16  # pixels; damage comes in blocks of the codec
_FURTHEST = 8.0  # mean difference of luma within a block; coding as a JPEG makes 4.4 at most, one picture on makes 22
_SMALL = (64, 36)  # pixels; to find the pictures that are alike
_ALIKE = 3


class TruePictures:
    """All pictures of some clips."""

    def __init__(self, *clips: Path) -> None:
        self._shown: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]] = []  # with a small copy
        self._keyframes: set[tuple[bytes, ...]] = set()
        for clip in clips:
            with av.open(str(clip)) as container:
                pictures = (frame.to_ndarray(format="bgr24") for frame in container.decode(video=0))
                self._shown += [(picture, _small(picture)) for picture in pictures]
            self._keyframes |= _coded_keyframes(clip)

    def assert_all(self, frames: list[Frame]) -> None:
        for frame in frames:
            if frame.encoding is Encoding.JPEG:
                shown = cv2.imdecode(np.frombuffer(frame.payload, np.uint8), cv2.IMREAD_COLOR)
                worst = min(_worst_block(shown, picture) for picture in self._alike(shown))
                assert worst < _FURTHEST, f"a picture that the camera never showed (off by {worst:.0f})"
            else:
                units = nal_units(frame.payload)
                slices = tuple(u for u in units if nal_type(frame.encoding, u) in KEYFRAME_SLICES[frame.encoding])
                assert slices in self._keyframes, "a keyframe that the camera never sent"

    def _alike(self, shown: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
        small = _small(shown)
        same_size = [(picture, copy) for picture, copy in self._shown if picture.shape == shown.shape]
        same_size.sort(key=lambda pair: float(cv2.norm(pair[1], small)))
        return [picture for picture, _ in same_size[:_ALIKE]]


def _small(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(picture, _SMALL, interpolation=cv2.INTER_AREA), np.uint8)


def _coded_keyframes(clip: Path) -> set[tuple[bytes, ...]]:
    found = set()
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        encoding = Encoding.H265 if stream.codec_context.name == "hevc" else Encoding.H264
        to_annex_b = av.bitstream.BitStreamFilterContext(f"{stream.codec_context.name}_mp4toannexb", stream)
        for packet in container.demux(stream):
            if packet.size and packet.is_keyframe:
                units = [unit for filtered in to_annex_b.filter(packet) for unit in nal_units(bytes(filtered))]
                found.add(tuple(unit for unit in units if nal_type(encoding, unit) in KEYFRAME_SLICES[encoding]))
    return found


def _worst_block(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    one_luma, other_luma = (cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY) for picture in (one, other))
    return float(cv2.blur(cv2.absdiff(one_luma, other_luma).astype(np.float32), (_BLOCK, _BLOCK)).max())
