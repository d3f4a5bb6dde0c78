"""What a served camera does wrong."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Faults:
    """The faults of one mount; the default has none.

    Times count in seconds from a client's PLAY, shares go from 0 to 1. Faults may be changed while clients are
    connected (`RtspServer.set_faults`): a stream looks at them before every picture. Losses and damage follow `seed`.
    """

    drop_share: float = 0.0  # of RTP packets that are never sent
    corrupt_share: float = 0.0  # of RTP packets in whose payload `corrupt_bytes` in a row are inverted
    corrupt_bytes: int = 1
    garbage_after_s: float | None = None  # bytes that are no packet, once, between two pictures
    stall_after_s: float | None = None  # the connection stays open, nothing comes any more
    close_after_s: float | None = None  # the connection is closed in an orderly way (FIN)
    reset_after_s: float | None = None  # the connection is reset (RST)
    switch_after_s: float | None = None  # the camera is reconfigured: the mount goes on with `switch_to`, for everybody
    switch_to: str | None = None  # path of another encoded file
    restart_after_s: float | None = None  # the encoder restarts once: another SSRC, sequence and timestamp
    freeze_after_s: float | None = None  # every picture is the last key frame once more
    back_after_s: float | None = None  # RTP timestamps jump back once, by `back_by_s`
    back_by_s: float = 10.0
    wrap_after_s: float | None = None  # RTP timestamps wrap then, and sequence numbers within the first 100 packets
    reports: bool = True  # sender reports (RTCP) tell the camera's clock every `report_every_s`
    report_every_s: float = 2.0
    clock_ahead_s: float = 0.0  # the camera's clock against ours
    clock_jump_after_s: float | None = None  # the camera's clock is set, by `clock_jump_by_s`
    clock_jump_by_s: float = 3600.0
    silent: bool = False  # requests are read and never answered
    refuse_auth: bool = False  # 401 whatever the credentials
    redirect_to: str | None = None  # `redirect_at` is answered with 302 and this URL
    redirect_at: Literal["DESCRIBE", "SETUP", "PLAY"] = "DESCRIBE"
    redirect_spares: int = 0  # so many of these requests, over all clients of the mount, are answered properly first
    endless_headers: bool = False  # the answer to DESCRIBE never comes to the end of its header
    seed: int = 1
