"""From libav's packets to keyframes that decode alone."""

import av
from av.bitstream import BitStreamFilterContext
from av.video.stream import VideoStream

from crow_daemon.capture.source import Coded
from crow_shared.errors import CrowError, Kind
from crow_shared.frame import MAX_PICTURE_BYTES, Encoding
from crow_shared.h26x import inspect_keyframe, nal_units, with_parameter_sets

_ENCODINGS = {"h264": Encoding.H264, "hevc": Encoding.H265}
_LENGTH_PREFIXED = b"\1"  # how the decoder configuration of ISO/IEC 14496-15 begins (avcC, hvcC); Annex B begins with 0


class KeyframePackets:
    """Makes `Coded` of the keyframe packets of one stream.

    RTP and transport streams come as Annex B, with the parameter sets in the access unit or only in the stream's
    description; MP4 and Matroska have lengths instead of start codes, which libav's own filter rewrites.
    """

    def __init__(self, stream: VideoStream, encoding: Encoding) -> None:
        """Of a stream that has just been opened."""
        self._encoding = encoding
        self._rewrite: BitStreamFilterContext | None = None
        self._parameter_sets: list[bytes] = []
        described = stream.codec_context.extradata or b""
        if described.startswith(_LENGTH_PREFIXED):
            self._rewrite = BitStreamFilterContext(f"{stream.codec_context.name}_mp4toannexb", stream)
        elif described:
            self._parameter_sets = nal_units(described)

    @classmethod
    def of(cls, stream: VideoStream) -> "KeyframePackets | None":
        """None for a codec whose keyframes cannot be sent as they are.

        Raises CrowError(INVALID) for a stream whose description is damaged.
        """
        encoding = _ENCODINGS.get(stream.codec_context.name)
        return None if encoding is None else cls(stream, encoding)

    def coded(self, packet: "av.Packet[VideoStream]") -> Coded:
        """The keyframe in a packet.

        Raises CrowError: INVALID "not_a_keyframe" for one that does not decode alone, UNSUPPORTED "picture_unsupported"
        for one that the receiver would not take, TOO_LARGE "picture_too_large".
        """
        access_unit = bytes(packet) if self._rewrite is None else self._annex_b(self._rewrite, packet)
        payload = with_parameter_sets(self._encoding, access_unit, self._parameter_sets)
        if len(payload) > MAX_PICTURE_BYTES:
            raise CrowError(Kind.TOO_LARGE, "picture_too_large", f"a keyframe of {len(payload)} bytes")
        width, height = inspect_keyframe(self._encoding, payload)
        return Coded(self._encoding, payload, width, height)

    def _annex_b(self, rewrite: BitStreamFilterContext, packet: "av.Packet[VideoStream]") -> bytes:
        try:
            return b"".join(bytes(part) for part in rewrite.filter(packet))
        except av.FFmpegError as error:
            raise CrowError(
                Kind.INVALID, "not_a_keyframe", f"not a keyframe that decodes alone: {type(error).__name__}"
            ) from None
