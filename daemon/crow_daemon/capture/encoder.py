"""From a decoded picture to the JPEG that is sent."""

import cv2

from crow_daemon.capture.source import Bgr
from crow_shared.errors import CrowError, Kind
from crow_shared.frame import MAX_PICTURE_BYTES

cv2.setNumThreads(1)  # many cameras share few cores; a thread pool per call costs more than it saves


def fitted(width: int, height: int, long_side: int) -> tuple[int, int]:
    """Width and height, in pixels, with the longer side at most `long_side`; never larger than they were."""
    longer = max(width, height)
    if longer <= long_side:
        return width, height
    return max(1, round(width * long_side / longer)), max(1, round(height * long_side / longer))


def encode_jpeg(bgr: Bgr, quality: int) -> bytes:
    """The picture as a JPEG. Raises CrowError(TOO_LARGE) when it outgrows what a frame may hold."""
    coded, jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not coded or len(jpeg) > MAX_PICTURE_BYTES:
        height, width = bgr.shape[:2]
        raise CrowError(
            Kind.TOO_LARGE,
            "picture_too_large",
            f"a picture of {width}x{height} at quality {quality} is over {MAX_PICTURE_BYTES} bytes as a JPEG; "
            "lower the camera's --jpeg-long-side or --jpeg-quality",
        )
    return jpeg.tobytes()
