"""How a frame that is stored becomes a question to the engines."""

import sqlite3

from crow_receiver.store.frames import PendingFrame, described_before
from crow_receiver.vision.port import FrameName, Previous, VisionRequest

PREVIOUS_MOST_US = 60_000_000  # what was seen longer ago says nothing of movement


def request_for(
    frame: PendingFrame, coded: bytes, line: str, previous: Previous | None, *, may_repeat: bool = False
) -> VisionRequest:
    """The question; `line` names those of a camera's frames that an engine may compare with each other.

    `may_repeat`: what was said of an earlier frame that shows the same will do.
    """
    camera = frame.camera
    return VisionRequest(
        f"{camera.key}/{line}" if line else str(camera.key),
        camera.name,
        frame.capture_us,
        camera.zones,
        frame.encoding,
        coded,
        engines=camera.engines,
        brief=camera.brief,
        previous=previous,
        frame=FrameName(frame.session_id, frame.frame_index) if may_repeat else None,
    )


def said_before(db: sqlite3.Connection, frame: PendingFrame) -> Previous | None:
    """What was said of the session's last frame before this one, late frames apart, if that is not too long ago."""
    found = described_before(db, frame, frame.capture_us - PREVIOUS_MOST_US)
    return None if found is None else said(*found, frame.capture_us)


def said(description: str, at_us: int, now_us: int) -> Previous | None:
    """The same of a frame that was captured then; None if that is too long ago."""
    elapsed_us = now_us - at_us
    return Previous(description, elapsed_us / 1_000_000) if 0 < elapsed_us <= PREVIOUS_MOST_US else None
