"""Session descriptions (RFC 8866) as cameras send them: what is needed to set up and read the video stream.

The format parameters are those of RFC 6184 section 8.1 (H.264) and RFC 7798 section 7.1 (H.265).
"""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from crow_shared.errors import CrowError, Kind

SUPPORTED_CODECS = ("H264", "H265")
_STATIC_PAYLOADS = {26: "JPEG", 31: "H261", 32: "MPV", 34: "H263"}  # RFC 3551: no rtpmap line needed
_SPROP = {"H264": ("sprop-parameter-sets",), "H265": ("sprop-vps", "sprop-sps", "sprop-pps")}
_MAX_PARAMETER_SETS = 16
_DEFAULT_CLOCK_HZ = 90_000
_CLOCK_HZ = (1_000, 1_000_000)
_NUMBER = re.compile(r"[0-9]{1,9}")
_RATE = re.compile(r"[0-9]{1,6}(?:\.[0-9]{1,6})?")


@dataclass(frozen=True, slots=True)
class VideoDescription:
    """One video stream.

    `codec` is its RTP name, one of `SUPPORTED_CODECS`; `control` the URL or the part of one by which it is set up, None
    when it is that of the whole; `aggregate_control` that of the whole, where the description names one.
    `parameter_sets` are NAL units without start codes, `max_don_diff` is sprop-max-don-diff: above 0, NAL units come in
    another order than that of decoding. `fps` is None when unknown.
    """

    codec: str
    payload_type: int
    clock_hz: int
    control: str | None
    aggregate_control: str | None
    parameter_sets: tuple[bytes, ...]
    packetization_mode: int
    max_don_diff: int
    fps: float | None


@dataclass(slots=True)
class _Media:
    kind: str
    payload_types: list[str]
    attributes: list[tuple[str, str]] = field(default_factory=list)

    def first(self, name: str) -> str | None:
        return next((value for key, value in self.attributes if key == name), None)

    def of_type(self, name: str, payload_type: str) -> str | None:
        """The value of an attribute that begins with the payload type it is about."""
        begins = f"{payload_type} "
        found = (value for key, value in self.attributes if key == name and value.startswith(begins))
        return next((value[len(begins) :].strip() for value in found), None)


def described_video(sdp: str) -> VideoDescription:
    """The first video stream that we can decode.

    Raises CrowError(UNSUPPORTED): "no_video", or "codec_unsupported" when there is none but of other codecs.
    """
    session, *medias = _sections(sdp)
    videos = [media for media in medias if media.kind == "video"]
    if not videos:
        raise CrowError(Kind.UNSUPPORTED, "no_video", "the stream has no video; look for another path on the camera")
    for media in videos:
        for payload_type in media.payload_types:
            codec, clock_hz = _mapped(media, payload_type)
            if codec in SUPPORTED_CODECS:
                return _video(media, session, payload_type, codec, clock_hz)
    codec = _mapped(videos[0], videos[0].payload_types[0])[0] if videos[0].payload_types else "unknown"
    raise CrowError(
        Kind.UNSUPPORTED,
        "codec_unsupported",
        f"the stream is coded as {codec[:20]!r}; set the camera to H.264 or H.265",
    )


def _video(media: _Media, session: _Media, payload_type: str, codec: str, clock_hz: int) -> VideoDescription:
    parameters = _format_parameters(media.of_type("fmtp", payload_type) or "")
    return VideoDescription(
        codec=codec,
        payload_type=int(payload_type),
        clock_hz=clock_hz,
        control=_control(media),
        aggregate_control=_control(session),
        parameter_sets=_parameter_sets(codec, parameters),
        packetization_mode=_number(parameters.get("packetization-mode")),
        max_don_diff=_number(parameters.get("sprop-max-don-diff")),
        fps=_rate(media.first("framerate")) or _rate(media.first("x-framerate")),
    )


def _sections(sdp: str) -> list[_Media]:
    """The session's own part, then those of its media."""
    sections = [_Media("session", [])]
    for line in (line.strip() for line in sdp.splitlines()):
        if line.startswith("m="):
            kind, _, *types = [*line[2:].split(), "", ""][:40]
            sections.append(_Media(kind, [word for word in types[1:] if _NUMBER.fullmatch(word) and int(word) < 128]))
        elif line.startswith("a="):
            name, _, value = line[2:].partition(":")
            sections[-1].attributes.append((name.strip().lower(), value.strip()))
    return sections


def _mapped(media: _Media, payload_type: str) -> tuple[str, int]:
    """Codec and clock rate in Hz of a payload type."""
    codec, _, rate = (media.of_type("rtpmap", payload_type) or "").partition("/")
    hz = _number(rate.partition("/")[0])
    known = hz if _CLOCK_HZ[0] <= hz <= _CLOCK_HZ[1] else _DEFAULT_CLOCK_HZ
    return codec.strip().upper() or _STATIC_PAYLOADS.get(int(payload_type), "unknown"), known


def _control(media: _Media) -> str | None:
    control = media.first("control")
    return None if control in (None, "", "*") else control


def _format_parameters(text: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in text.split(";"))
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _parameter_sets(codec: str, parameters: Mapping[str, str]) -> tuple[bytes, ...]:
    """What can be read of them: a camera that states them wrongly still sends them with its keyframes."""
    texts = [text for name in _SPROP[codec] for text in parameters.get(name, "").split(",") if text]
    decoded = (_decoded(text.strip()) for text in texts[:_MAX_PARAMETER_SETS])
    return tuple(unit for unit in decoded if unit)


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        return b""


def _number(text: str | None) -> int:
    """0 for anything but a number."""
    return int(text) if text is not None and _NUMBER.fullmatch(text) else 0


def _rate(text: str | None) -> float | None:
    """Pictures a second; None for anything but a plausible number."""
    fps = float(text) if text is not None and _RATE.fullmatch(text) else 0.0
    return fps if 0 < fps <= 1000 else None
