"""An encoded file, cut into RTP payloads once and sent many times."""

import base64
from dataclasses import dataclass
from pathlib import Path

import av
from av.bitstream import BitStreamFilterContext

from crow_shared.errors import CrowError, Kind
from crow_sim.rtsp.packing import Packing, is_parameter_set, nal_type, payloads_of

RTP_CLOCK_HZ = 90_000
VIDEO_TYPE = 96  # RTP payload types (RFC 3551)
AUDIO_TYPE = 0  # PCMU, one channel of 8 kHz

_H264_SPS, _H264_PPS = 7, 8
_H265_VPS, _H265_SPS, _H265_PPS = 32, 33, 34


@dataclass(frozen=True, slots=True)
class AccessUnit:
    """One coded picture; times in seconds from the start of the file."""

    due_s: float  # when it is sent
    presentation_s: float
    is_key: bool
    payloads: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Media:
    """A whole file, ready to be sent."""

    codec: str  # "h264" or "hevc"
    fps: float
    duration_s: float
    packing: Packing
    units: tuple[AccessUnit, ...]
    parameter_sets: dict[int, bytes]  # by NAL unit type

    def sdp(self, name: str) -> str:
        """The session description (RFC 8866): video at `track1`, audio, if there is any, at `track2`."""
        audio = ["m=audio 0 RTP/AVP 0", "a=rtpmap:0 PCMU/8000", "a=control:track2"] if self.packing.audio else []
        lines = (
            "v=0",
            "o=- 1 1 IN IP4 127.0.0.1",
            f"s={name}",
            "c=IN IP4 0.0.0.0",
            "t=0 0",
            "a=control:*",
            "a=range:npt=0-",
            *audio,
            f"m=video 0 RTP/AVP {VIDEO_TYPE}",
            f"a=rtpmap:{VIDEO_TYPE} {'H265' if self.codec == 'hevc' else 'H264'}/{RTP_CLOCK_HZ}",
            *self._format_parameters(),
            f"a=framerate:{self.fps:g}",
            "a=control:track1",
        )
        return "".join(f"{line}\r\n" for line in lines)

    def _format_parameters(self) -> list[str]:
        told = self.packing.parameter_sets != "stream"
        if self.codec == "hevc":
            sets = (("vps", _H265_VPS), ("sps", _H265_SPS), ("pps", _H265_PPS))
            parameters = [f"sprop-{word}={_base64(self.parameter_sets[kind])}" for word, kind in sets if told]
        else:
            sps, pps = self.parameter_sets[_H264_SPS], self.parameter_sets[_H264_PPS]
            parameters = ["packetization-mode=1", f"profile-level-id={sps[1:4].hex()}"]
            parameters += [f"sprop-parameter-sets={_base64(sps)},{_base64(pps)}"] if told else []
        return [f"a=fmtp:{VIDEO_TYPE} {';'.join(parameters)}"] if parameters else []


def load_media(path: Path, packing: Packing | None = None) -> Media:
    """Reads an H.264 or H.265 file.

    Raises CrowError(INVALID) for a file that libav cannot read and CrowError(UNSUPPORTED) for one of another codec.
    """
    try:
        with av.open(str(path)) as container:
            return _read(container, path, packing or Packing())
    except (av.FFmpegError, IndexError) as error:
        raise CrowError(Kind.INVALID, "media_unreadable", f"cannot read a video from {path}: {error}") from error


def _read(container: av.container.InputContainer, path: Path, packing: Packing) -> Media:
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
    pictures: list[AccessUnit] = []
    start_s: float | None = None
    for packet in container.demux(stream):
        if packet.size == 0:  # libav's mark of the end
            continue
        assert packet.pts is not None
        assert packet.dts is not None
        is_key = packet.is_keyframe
        due_s, presentation_s = float(packet.dts * stream.time_base), float(packet.pts * stream.time_base)
        start_s = due_s if start_s is None else start_s
        units = [unit for filtered in to_annex_b.filter(packet) for unit in nal_units(bytes(filtered))]
        for unit in units:
            if is_parameter_set(unit, is_hevc=is_hevc):
                parameter_sets.setdefault(nal_type(unit, is_hevc=is_hevc), unit)
        payloads = payloads_of(units, packing, is_hevc=is_hevc)
        pictures.append(AccessUnit(due_s - start_s, presentation_s - start_s, is_key, payloads))
    if not pictures:
        raise CrowError(Kind.INVALID, "media_empty", f"{path} holds no pictures")
    return Media(codec, fps, pictures[-1].due_s + 1 / fps, packing, tuple(pictures), parameter_sets)


def nal_units(annex_b: bytes) -> list[bytes]:
    """The NAL units between the start codes of a byte stream (H.264 Annex B), without the codes and their zeros."""
    return [unit for part in annex_b.split(b"\0\0\1") if (unit := part.rstrip(b"\0"))]


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
