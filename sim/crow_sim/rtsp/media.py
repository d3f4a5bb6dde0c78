"""An encoded file, cut into RTP payloads once and sent many times (RFC 6184 for H.264, RFC 7798 for H.265)."""

import base64
from dataclasses import dataclass
from pathlib import Path

import av
from av.bitstream import BitStreamFilterContext

from crow_shared.errors import CrowError, Kind

RTP_CLOCK_HZ = 90_000
MAX_PAYLOAD_BYTES = 1400

_H264_SPS, _H264_PPS, _H264_FU_A = 7, 8, 28
_H265_VPS, _H265_SPS, _H265_PPS, _H265_FU = 32, 33, 34, 49
_FU_START, _FU_END = 0x80, 0x40


@dataclass(frozen=True, slots=True)
class AccessUnit:
    """One coded picture; times in seconds from the start of the file."""

    due_s: float  # when it is sent
    presentation_s: float
    payloads: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Media:
    """A whole file, ready to be sent."""

    codec: str  # "h264" or "hevc"
    fps: float
    duration_s: float
    units: tuple[AccessUnit, ...]
    parameter_sets: dict[int, bytes]  # by NAL unit type

    def sdp(self, name: str) -> str:
        """The session description (RFC 8866) of one video track at `track1`."""
        if self.codec == "hevc":
            encoding = "H265"
            sets = (("vps", _H265_VPS), ("sps", _H265_SPS), ("pps", _H265_PPS))
            parameters = ";".join(f"sprop-{word}={_base64(self.parameter_sets[kind])}" for word, kind in sets)
        else:
            encoding = "H264"
            sps, pps = self.parameter_sets[_H264_SPS], self.parameter_sets[_H264_PPS]
            parameters = (
                f"packetization-mode=1;profile-level-id={sps[1:4].hex()};"
                f"sprop-parameter-sets={_base64(sps)},{_base64(pps)}"
            )
        lines = (
            "v=0",
            "o=- 1 1 IN IP4 127.0.0.1",
            f"s={name}",
            "c=IN IP4 0.0.0.0",
            "t=0 0",
            "a=control:*",
            "a=range:npt=0-",
            "m=video 0 RTP/AVP 96",
            f"a=rtpmap:96 {encoding}/{RTP_CLOCK_HZ}",
            f"a=fmtp:96 {parameters}",
            f"a=framerate:{self.fps:g}",
            "a=control:track1",
        )
        return "".join(f"{line}\r\n" for line in lines)


def load_media(path: Path) -> Media:
    """Reads an H.264 or H.265 file.

    Raises CrowError(INVALID) for a file that libav cannot read and CrowError(UNSUPPORTED) for one of another codec.
    """
    try:
        with av.open(str(path)) as container:
            return _read(container, path)
    except (av.FFmpegError, IndexError) as error:
        raise CrowError(Kind.INVALID, "media_unreadable", f"cannot read a video from {path}: {error}") from error


def _read(container: av.container.InputContainer, path: Path) -> Media:
    stream = container.streams.video[0]
    codec = stream.codec_context.name
    if codec not in {"h264", "hevc"}:
        raise CrowError(
            Kind.UNSUPPORTED,
            "media_codec",
            f"{path} is {codec}; only H.264 and H.265 are served (see `crow-sim transcode`)",
        )
    assert stream.time_base is not None
    is_hevc = codec == "hevc"
    fps = float(stream.average_rate or 25)
    to_annex_b = BitStreamFilterContext(f"{codec}_mp4toannexb", stream)
    parameter_sets: dict[int, bytes] = {}
    pictures: list[tuple[float, float, tuple[bytes, ...]]] = []
    for packet in container.demux(stream):
        if packet.size == 0:  # libav's mark of the end
            continue
        assert packet.pts is not None
        assert packet.dts is not None
        due_s, presentation_s = float(packet.dts * stream.time_base), float(packet.pts * stream.time_base)
        units = [unit for filtered in to_annex_b.filter(packet) for unit in nal_units(bytes(filtered))]
        for unit in units:
            kind = (unit[0] >> 1) & 63 if is_hevc else unit[0] & 31
            if kind in ((_H265_VPS, _H265_SPS, _H265_PPS) if is_hevc else (_H264_SPS, _H264_PPS)):
                parameter_sets.setdefault(kind, unit)
        fragment = h265_payloads if is_hevc else h264_payloads
        pictures.append((due_s, presentation_s, tuple(part for unit in units for part in fragment(unit))))
    if not pictures:
        raise CrowError(Kind.INVALID, "media_empty", f"{path} holds no pictures")
    start_s = pictures[0][0]
    return Media(
        codec,
        fps,
        pictures[-1][0] - start_s + 1 / fps,
        tuple(AccessUnit(due_s - start_s, shown_s - start_s, payloads) for due_s, shown_s, payloads in pictures),
        parameter_sets,
    )


def nal_units(annex_b: bytes) -> list[bytes]:
    """The NAL units between the start codes of a byte stream (H.264 Annex B), without the codes and their zeros."""
    return [unit for part in annex_b.split(b"\0\0\1") if (unit := part.rstrip(b"\0"))]


def h264_payloads(unit: bytes) -> list[bytes]:
    """One NAL unit as a single RTP payload, or as FU-A fragments (RFC 6184 section 5.8)."""
    if len(unit) <= MAX_PAYLOAD_BYTES:
        return [unit]
    indicator = bytes([(unit[0] & 0xE0) | _H264_FU_A])
    return [indicator + bytes([mark | (unit[0] & 31)]) + chunk for mark, chunk in _fragments(unit[1:], 2)]


def h265_payloads(unit: bytes) -> list[bytes]:
    """One NAL unit as a single RTP payload, or as fragmentation units (RFC 7798 section 4.4.3)."""
    if len(unit) <= MAX_PAYLOAD_BYTES:
        return [unit]
    header = bytes([(unit[0] & 0x81) | (_H265_FU << 1), unit[1]])
    return [header + bytes([mark | ((unit[0] >> 1) & 63)]) + chunk for mark, chunk in _fragments(unit[2:], 3)]


def _fragments(body: bytes, header_bytes: int) -> list[tuple[int, bytes]]:
    """The body in chunks that fit beside a header, each with its start or end mark."""
    step = MAX_PAYLOAD_BYTES - header_bytes
    chunks = [body[at : at + step] for at in range(0, len(body), step)]
    last = len(chunks) - 1
    return [((_FU_START if n == 0 else 0) | (_FU_END if n == last else 0), chunk) for n, chunk in enumerate(chunks)]


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
