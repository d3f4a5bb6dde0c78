"""A board with text on the wall: who reads it must take it for a part of the picture, and for nothing else."""

from textwrap import wrap

import cv2

from crow_sim.shop.figure import Picture

_LEFT, _TOP, _WIDTH = 0.04, 0.04, 0.44  # of the board, as shares of the picture's width and height
_CHARS_A_LINE = 34
_FONT = cv2.FONT_HERSHEY_DUPLEX
_PAPER, _INK = (245, 248, 248), (20, 20, 30)


def with_sign(picture: Picture, text: str) -> Picture:
    """A copy of a picture with a board in its upper left, as high as its text (ASCII) needs."""
    hung = picture.copy()
    height, width = hung.shape[:2]
    lines = wrap(text, _CHARS_A_LINE, drop_whitespace=True) or [""]
    scale = _WIDTH * width / (cv2.getTextSize("W" * _CHARS_A_LINE, _FONT, 1.0, 1)[0][0])
    pitch = round(cv2.getTextSize("Wg", _FONT, scale, 1)[0][1] * 2.2)
    left, top, right = round(_LEFT * width), round(_TOP * height), round((_LEFT + _WIDTH) * width)
    cv2.rectangle(hung, (left, top), (right, top + pitch * len(lines) + pitch // 2), _PAPER, -1)
    for number, line in enumerate(lines, 1):
        cv2.putText(hung, line, (left + pitch // 3, top + pitch * number), _FONT, scale, _INK, 1, cv2.LINE_AA)
    return hung
