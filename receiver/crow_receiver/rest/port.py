"""What the REST surface needs of the receiver."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from crow_receiver.messages.coverage import Coverage
from crow_shared.frame import Frame
from crow_shared.identity import CameraKey


@dataclass(frozen=True, slots=True)
class Accepted:
    """Where a frame has been stored; `duplicate` when it had been stored before."""

    session_id: str
    frame_index: int
    duplicate: bool


class SessionStatus(StrEnum):
    """Whether a session still takes frames in its turn; late ones join a closed session, too."""

    OPEN = "open"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class SessionView:
    """One session as it stands now; times are capture times in microseconds since the Unix epoch.

    `last_us` is that of its newest frame, None before the first. `ended_us` is set when it is closed. `coverage` is
    what its camera's daemon has told of the samples of its minutes so far.
    """

    session_id: str
    camera: CameraKey
    camera_name: str
    status: SessionStatus
    started_us: int
    last_us: int | None
    ended_us: int | None
    received: int
    analysed: int
    failed: int
    pending: int
    batches: int
    revision: int
    coverage: Coverage


@dataclass(frozen=True, slots=True)
class Opened:
    """The session that a request to open one led to; not `created` when it was open already."""

    session: SessionView
    created: bool


class Intake(Protocol):
    """Takes frames and knows sessions. Every method raises CrowError(UNAVAILABLE) when the store cannot be reached."""

    async def accept(self, camera: CameraKey, epoch: str, frame: Frame) -> Accepted:
        """Stores a frame; it is durable on return. `epoch` names the numbering that `frame.seq` belongs to.

        Raises CrowError(NOT_FOUND, "camera_unknown") for a camera that nobody has opened a session for or announced,
        CrowError(INVALID | TOO_LARGE) for a frame that will never be accepted, CrowError(EXHAUSTED) for one too many.
        """
        ...

    async def open_session(self, camera: CameraKey, camera_name: str | None, at_us: int) -> Opened:
        """The camera's session at that time, opened if there is none; makes the camera known."""
        ...

    async def session(self, organization_id: str, session_id: str) -> SessionView | None:
        """The session, or None when this organization has none of that id."""
        ...


class Readiness(Protocol):
    """Whether the receiver can do its work."""

    async def obstacles(self) -> Sequence[str]:
        """What stands in the way, in plain words; empty when it is ready."""
        ...
