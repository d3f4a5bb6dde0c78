"""What a served camera does wrong."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Faults:
    """The faults of one mount; the default has none.

    Times count in seconds from a client's PLAY, shares go from 0 to 1. Faults may be changed while clients are
    connected (`RtspServer.set_faults`): a stream looks at them before every picture. Losses and damage follow `seed`.
    """

    drop_share: float = 0.0  # of RTP packets that are never sent
    corrupt_share: float = 0.0  # of RTP packets in whose payload one byte is inverted
    stall_after_s: float | None = None  # the connection stays open, nothing comes any more
    close_after_s: float | None = None  # the connection is closed in an orderly way (FIN)
    reset_after_s: float | None = None  # the connection is reset (RST)
    switch_after_s: float | None = None  # the camera is reconfigured: the mount goes on with `switch_to`, for everybody
    switch_to: str | None = None  # path of another encoded file
    back_after_s: float | None = None  # RTP timestamps jump back once, by `back_by_s`
    back_by_s: float = 10.0
    silent: bool = False  # requests are read and never answered
    refuse_auth: bool = False  # 401 whatever the credentials
    redirect_to: str | None = None  # DESCRIBE is answered with 302 and this URL
    endless_headers: bool = False  # the answer to DESCRIBE never comes to the end of its header
    seed: int = 1
