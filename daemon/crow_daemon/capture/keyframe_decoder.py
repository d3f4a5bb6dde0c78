"""Decodes keyframes, each by itself, with libav."""

import av
import av.logging
from av.codec.context import CodecContext, ThreadType
from av.video.codeccontext import VideoCodecContext

from crow_daemon.capture.pyav_pixels import LibavPixels
from crow_daemon.capture.source import Coded
from crow_shared.errors import CrowError, Kind
from crow_shared.frame import MAX_PIXELS, Encoding

av.logging.set_level(None)  # logging from decoders can deadlock

_CODECS = {Encoding.H264: "h264", Encoding.H265: "hevc"}
# Smoothing the borders of blocks costs a tenth of a keyframe. It serves the pictures predicted from it, of which there
# are none here; without it, pictures were as before to 45 dB and more, at every bit rate tried.
#
# libav allocates the coded size, which a hostile stream may state far beyond the size that it shows.
_OPTIONS = {"skip_loop_filter": "all", "max_pixels": str(2 * MAX_PIXELS)}


class KeyframeDecoder:
    """Of one stream, used by one thread. `failures` counts the keyframes in a row that could not be decoded."""

    def __init__(self) -> None:
        """Takes no memory before the first keyframe."""
        self._context: VideoCodecContext | None = None
        self._encoding: Encoding | None = None
        self.failures = 0

    def decode(self, coded: Coded) -> LibavPixels:
        """The picture. Raises CrowError(CORRUPT) "keyframe_undecodable" when there is none, or a damaged one."""
        context = self._context_for(coded.encoding)
        self.failures += 1
        try:
            frames = [*context.decode(av.Packet(coded.payload)), *context.decode(None)]
        except av.FFmpegError as error:
            raise _undecodable(type(error).__name__) from None
        finally:
            context.flush_buffers()  # else the next keyframe would bring the picture of this one
        if len(frames) != 1 or frames[0].is_corrupt:
            raise _undecodable("it is damaged" if frames else "it decodes to nothing")
        self.failures = 0
        return LibavPixels(frames[0])

    def _context_for(self, encoding: Encoding) -> VideoCodecContext:
        if self._context is None or self._encoding is not encoding:
            context = CodecContext.create(_CODECS[encoding], "r")
            assert isinstance(context, VideoCodecContext)
            context.thread_count, context.thread_type = 1, ThreadType.NONE  # threads cost more and can deadlock
            context.options = _OPTIONS
            self._context, self._encoding = context, encoding
        return self._context


def _undecodable(why: str) -> CrowError:
    return CrowError(Kind.CORRUPT, "keyframe_undecodable", f"a keyframe cannot be decoded: {why}")
