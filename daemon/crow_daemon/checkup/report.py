"""The result of a checkup: one line for each thing that was looked at."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from crow_daemon.capture.source import Bgr
from crow_shared.errors import CrowError


class Verdict(StrEnum):
    """How it is."""

    OK = "ok"
    WARNING = "warning"  # it works, and could do better
    FAILED = "failed"
    NOT_TRIED = "not tried"  # since something before it failed


class Topic(StrEnum):
    """What is looked at, in this order."""

    NAME = "name"
    PORT = "port"
    RTSP = "rtsp"
    LOGIN = "login"
    FILE = "file"
    STREAM = "stream"
    KEYFRAMES = "keyframes"
    PICTURES = "pictures"
    CLOCK = "clock"
    SUBSTREAM = "substream"
    READING = "reading"
    FRAMES = "frames"


LIVE_TOPICS = tuple(topic for topic in Topic if topic is not Topic.FILE)
RECORDING_TOPICS = (Topic.FILE, Topic.STREAM, Topic.KEYFRAMES, Topic.PICTURES, Topic.READING, Topic.FRAMES)


@dataclass(frozen=True, slots=True)
class Check:
    """What was found about one topic, and what to do about it; `remedy` is empty where there is nothing to do."""

    topic: Topic
    verdict: Verdict
    says: str
    remedy: str = ""


@dataclass(slots=True)
class Checkup:
    """All that was found. `facts` are for programs; `error` is the first failure."""

    topics: tuple[Topic, ...]
    found: dict[Topic, Check] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    error: CrowError | None = None
    snapshot: Bgr | None = None

    @property
    def ok(self) -> bool:
        """Whether pictures come as the camera is set."""
        return self.error is None

    @property
    def checks(self) -> list[Check]:
        """A line for each topic, tried or not."""
        return [self.found.get(topic) or Check(topic, Verdict.NOT_TRIED, "") for topic in self.topics]

    def say(self, topic: Topic, says: str) -> None:
        """It is as it should be."""
        self.found[topic] = Check(topic, Verdict.OK, says)

    def warn(self, topic: Topic, says: str, remedy: str) -> None:
        """It works, and could do better."""
        self.found[topic] = Check(topic, Verdict.WARNING, says, remedy)

    def fail(self, topic: Topic, error: CrowError) -> None:
        """It does not work."""
        self.found[topic] = Check(topic, Verdict.FAILED, error.message, REMEDIES.get(error.code, ""))
        self.error = self.error or error


REMEDIES = {
    "host_unknown": "give the camera's address instead of a name, or have this machine's DNS know the name",
    "unreachable": "switch RTSP on in the camera; its port is 554 unless it was changed; try cable, switch and VLAN; "
    "`crow-daemon camera discover` looks around",
    "camera_timeout": "try cable, switch and firewall between this machine and the camera; restart the camera",
    "not_rtsp": "give the port of RTSP, which is 554 unless it was changed, not that of the camera's web page",
    "tls_failed": "write rtsp:// in place of rtsps://, or switch RTSP over TLS on in the camera",
    "answer_too_large": "what answers is no camera that we can read; check address and port",
    "camera_refused": "a camera serves few viewers at once: close others, or restart it",
    "redirect_refused": "set the address that it names as the camera's URL, if you know it to be right",
    "stream_not_found": "`crow-daemon camera vendors` has makers' paths; `crow-daemon camera discover --host` asks it",
    "auth_failed": "set the login with `camera edit ID --username NAME`; after several wrong ones cameras lock an "
    "account for some minutes",
    "auth_unsupported": "set the camera's RTSP authentication to digest",
    "codec_unsupported": "set this stream to H.264 or H.265 in the camera",
    "no_video": "give the path of a stream that has video",
    "open_failed": "restart the camera; a camera serves few viewers at once",
    "stream_stalled": "the network or the camera does not carry this stream: lower its bit rate, try another cable",
    "stream_lost": "a camera serves few viewers at once: close others, or restart it",
    "no_picture": "set a keyframe (I-frame) interval of one or two seconds in the camera",
    "stream_undecodable": "set this stream to H.264 in the camera, without vendor extensions such as H.264+",
    "recording_missing": "give the file's path, as this machine has it",
    "recording_unreadable": "convert it: ffmpeg -i FILE -c:v libx264 OUT.mp4",
}
