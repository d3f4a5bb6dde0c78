"""What the receiver's worker pays to decode one picture of 1920 x 1080: as JPEG, H.264 and H.265.

The same pictures of the rendered shop, with noise as a camera's, in each coding; as large as the classic engine wants
them, as a model of 896 pixels wants them, and whole. The codings take turns, picture by picture; CPU is that of the
whole process. Prints a table and one line of JSON. Run: `make bench-decode`.
"""

import json
import os
import platform
import statistics
import time
from fractions import Fraction
from importlib.metadata import version

import av
import cv2
import numpy as np

from crow_receiver.vision.decode import decode
from crow_shared.frame import Encoding
from crow_sim.shop.plan import planned_scene
from crow_sim.shop.render import Renderer
from crow_sim.shop.view import VIEWS

PICTURES = int(os.environ.get("BENCH_PICTURES", "40"))
SIZE = (1920, 1080)
NOISE = 4.0  # standard deviation in steps of brightness
JPEG_QUALITY = 85
LEAST = {"classic, 320 wide": (320, 1), "model, 896 square": (896, 896), "whole": SIZE}
ENCODERS = {Encoding.H264: ("libx264", "18"), Encoding.H265: ("libx265", "19")}  # 180 KB each


def main() -> None:
    """Makes the pictures, then decodes each in each way."""
    coded = {encoding: [] for encoding in Encoding}
    for picture in shown():
        for encoding in Encoding:
            coded[encoding].append(jpeg(picture) if encoding is Encoding.JPEG else keyframe(encoding, picture))
    cv2.setNumThreads(1)
    cpu_ms: dict[str, dict[str, list[float]]] = {name: {encoding: [] for encoding in Encoding} for name in LEAST}
    for number in range(PICTURES):
        for name, least in LEAST.items():
            for encoding in Encoding:
                started_s = time.process_time()
                decode(encoding, coded[encoding][number], least)
                cpu_ms[name][encoding].append((time.process_time() - started_s) * 1000)
    kilobytes = {encoding: round(statistics.mean(map(len, coded[encoding])) / 1000) for encoding in Encoding}
    medians = {
        name: {encoding: round(statistics.median(times), 1) for encoding, times in by_encoding.items()}
        for name, by_encoding in cpu_ms.items()
    }
    print(
        f"{'CPU ms a picture':20}" + "".join(f"{f'{encoding} ({kilobytes[encoding]} KB)':>18}" for encoding in Encoding)
    )
    for name, row in medians.items():
        print(f"{name:20}" + "".join(f"{row[encoding]:18}" for encoding in Encoding))
    machine = {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
    versions = {name: version(name) for name in ("av", "opencv-python-headless")}
    print(json.dumps({"cpu_ms": medians, "kilobytes": kilobytes, "pictures": PICTURES} | machine | versions))


def shown() -> list[np.ndarray]:
    """The pictures, a second of shop time apart."""
    renderer = Renderer(planned_scene(VIEWS["aisle"], 1, float(PICTURES)), *SIZE)
    random = np.random.default_rng(1)
    noisy = (renderer.picture(second) + random.normal(0, NOISE, (SIZE[1], SIZE[0], 3)) for second in range(PICTURES))
    return [np.clip(picture, 0, 255).astype(np.uint8) for picture in noisy]


def jpeg(picture: np.ndarray) -> bytes:
    """As the daemon makes one."""
    return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()


def keyframe(encoding: Encoding, picture: np.ndarray) -> bytes:
    """As a camera makes one."""
    codec, quality = ENCODERS[encoding]
    context = av.CodecContext.create(codec, "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height, context.pix_fmt = *SIZE, "yuv420p"
    context.time_base, context.thread_count = Fraction(1, 25), 1
    context.options = {"preset": "veryfast", "crf": quality, "x265-params": "log-level=none"}
    frame = av.VideoFrame.from_ndarray(picture, format="bgr24").reformat(format="yuv420p")
    frame.pts, frame.time_base = 0, context.time_base
    return b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)])


if __name__ == "__main__":
    main()
