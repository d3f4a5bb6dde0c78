"""A camera's zones and masks drawn over its picture, for who has to check them."""

import cv2
import numpy as np

from crow_daemon.capture.source import Bgr
from crow_daemon.registry.camera import Camera
from crow_shared.zones import Polygon, ZoneKind

_COLOURS = ((80, 200, 80), (220, 160, 40), (60, 140, 240), (200, 80, 200), (60, 210, 230), (230, 120, 120))
_MASK_COLOUR = (90, 90, 255)
_LABEL_COLOUR = (24, 24, 24)
_TINT = 0.25


def with_zones(bgr: Bgr, camera: Camera) -> Bgr:
    """A copy with every zone outlined and named, and every mask outlined with its number."""
    drawn = bgr.copy()
    height, width = bgr.shape[:2]
    thickness = max(2, round(width / 480))
    for number, mask in enumerate(camera.masks, start=1):
        points = _pixels(mask, width, height)
        cv2.polylines(drawn, [points], True, _MASK_COLOUR, thickness)
        _name(drawn, f"mask {number}", points, _MASK_COLOUR)
    for index, zone in enumerate(camera.zones):
        colour = _COLOURS[index % len(_COLOURS)]
        points = _pixels(zone.points, width, height)
        if zone.kind is ZoneKind.AREA:
            tinted = drawn.copy()
            cv2.fillPoly(tinted, [points], colour)
            drawn = np.asarray(cv2.addWeighted(tinted, _TINT, drawn, 1 - _TINT, 0), np.uint8)
        cv2.polylines(drawn, [points], zone.kind is ZoneKind.AREA, colour, thickness)
        _name(drawn, zone.name, points, colour)
    return drawn


def write_text(bgr: Bgr, text: str, at: tuple[int, int], size_px: int, colour: tuple[int, int, int]) -> None:
    """Writes one line with its lower left corner at a point, onto the picture itself."""
    scale = cv2.getFontScaleFromHeight(cv2.FONT_HERSHEY_SIMPLEX, size_px)
    cv2.putText(bgr, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, max(1, size_px // 12), cv2.LINE_AA)


def text_width(text: str, size_px: int) -> int:
    """How wide `write_text` would write it, in pixels."""
    scale = cv2.getFontScaleFromHeight(cv2.FONT_HERSHEY_SIMPLEX, size_px)
    return int(cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, max(1, size_px // 12))[0][0])


def _name(bgr: Bgr, text: str, points: np.ndarray, colour: tuple[int, int, int]) -> None:
    height, width = bgr.shape[:2]
    size_px = max(12, height // 36)
    left, bottom = int(points[:, 0].min()) + size_px // 2, int(points[:, 1].min()) + size_px * 2
    left = max(0, min(left, width - text_width(text, size_px)))
    bottom = min(bottom, height - 4)
    edge = size_px // 3
    corner = (left + text_width(text, size_px) + edge, bottom + edge)
    cv2.rectangle(bgr, (left - edge, bottom - size_px - edge), corner, _LABEL_COLOUR, cv2.FILLED)
    write_text(bgr, text, (left, bottom), size_px, colour)


def _pixels(polygon: Polygon, width: int, height: int) -> np.ndarray:
    return (np.array(polygon) * (width - 1, height - 1)).round().astype(np.int32)
