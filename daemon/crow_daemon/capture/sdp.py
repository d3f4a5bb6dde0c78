"""The little of a session description (RFC 4566) that tells whether we can decode a stream."""

from crow_shared.errors import CrowError, Kind

SUPPORTED_CODECS = ("H264", "H265")
_STATIC_PAYLOADS = {26: "JPEG", 31: "H261", 32: "MPV", 34: "H263"}  # RFC 3551: no rtpmap line needed


def video_codec(sdp: str) -> str:
    """The codec of the first video stream, by its RTP name. Raises CrowError(UNSUPPORTED) unless we can decode it."""
    payload: str | None = None
    codec: str | None = None
    for line in (line.strip() for line in sdp.splitlines()):
        if line.startswith("m="):
            if payload is not None:
                break
            words = line[2:].split()
            if len(words) >= 4 and words[0] == "video":
                payload = words[3]
        elif payload is not None and line.startswith(f"a=rtpmap:{payload} "):
            codec = line.partition(" ")[2].partition("/")[0].strip().upper()
    if payload is None:
        raise CrowError(Kind.UNSUPPORTED, "no_video", "the stream has no video; look for another path on the camera")
    if codec is None:
        codec = _STATIC_PAYLOADS.get(int(payload), "unknown") if payload.isdecimal() else "unknown"
    if codec not in SUPPORTED_CODECS:
        raise CrowError(
            Kind.UNSUPPORTED,
            "codec_unsupported",
            f"the stream is coded as {codec[:20]!r}; set the camera to H.264 or H.265",
        )
    return codec
