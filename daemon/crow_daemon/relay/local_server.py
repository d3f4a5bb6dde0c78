"""The RTSP server (RFC 2326) that libav talks to: for one client, one stream, and nothing that a camera said.

Invariants
1. It listens on a loopback address, takes one connection, and serves it only if its first request names the secret path
   of this server.
2. What it answers is made here: no redirect, no other address, no text of the camera's beside the numbers and parameter
   sets of its stream.
"""

import base64
import contextlib
import re
import secrets
import socket
import struct
from collections.abc import Iterable, Iterator

from crow_daemon.rtsp.sdp import VideoDescription
from crow_shared.errors import CrowError, Kind

_MAX_REQUEST_BYTES = 8 << 10
_REQUEST = re.compile(rb"([A-Z_]{1,20}) (\S{1,500}) RTSP/1\.0\r\n")
_SEQUENCE = re.compile(rb"\r\ncseq: *([0-9]{1,9})\r\n", re.IGNORECASE)
_METHODS = "OPTIONS, DESCRIBE, SETUP, PLAY, GET_PARAMETER, TEARDOWN"
_CHANNELS = "interleaved=0-1"
_FRAME = struct.Struct(">cBH")
_H265_SETS = {32: "sprop-vps", 33: "sprop-sps", 34: "sprop-pps"}
_RTP, _RTCP = 0, 1  # channels


class LocalServer:
    """Used by one thread. `url` is for libav, and a secret while nobody has connected."""

    def __init__(self, video: VideoDescription) -> None:
        """Listens on a free port, for a stream that is described so."""
        self._video = video
        self._path = f"/{secrets.token_urlsafe(24)}"
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1)
        self._client: socket.socket | None = None
        self._received = bytearray()
        self.url = f"rtsp://127.0.0.1:{self._listener.getsockname()[1]}{self._path}"

    def serve_until_play(self, within_s: float) -> None:
        """Takes the connection and answers until the stream is asked for.

        Raises CrowError(UNAVAILABLE) "open_failed" when that does not come to pass in time.
        """
        try:
            self._listener.settimeout(within_s)
            self._client, _ = self._listener.accept()
            self._listener.close()
            self._client.settimeout(within_s)
            self._client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            admitted = playing = False
            while not playing:
                self._receive(self._client)
                for method, url in self._requests():
                    if not admitted and self._path.encode() not in url:
                        raise ConnectionError("a stranger")
                    admitted, playing = True, method == b"PLAY"
        except OSError as error:
            raise CrowError(
                Kind.UNAVAILABLE, "open_failed", f"libav does not read the stream ({type(error).__name__})"
            ) from None

    def send(self, rtp: Iterable[bytes], rtcp: Iterable[bytes]) -> None:
        """Gives packets to libav, and waits for it if need be. Raises OSError if it is gone."""
        assert self._client is not None, "play comes first"
        channels = ((_RTCP, rtcp), (_RTP, rtp))
        frames = [
            part
            for channel, packets in channels
            for packet in packets
            for part in (_FRAME.pack(b"$", channel, len(packet)), packet)
        ]
        if frames:
            self._client.sendall(b"".join(frames))

    def answer(self) -> None:
        """Answers what libav has asked meanwhile (it keeps its session alive). Raises OSError when it is gone."""
        assert self._client is not None, "play comes first"
        timeout_s = self._client.gettimeout()
        self._client.settimeout(0)
        try:
            self._receive(self._client)
        except BlockingIOError:
            return
        finally:
            self._client.settimeout(timeout_s)
        for _ in self._requests():
            pass

    def interrupt(self) -> None:
        """From any thread: ends what libav and this server wait for."""
        for sock in (self._listener, self._client):
            if sock is not None:
                with contextlib.suppress(OSError):  # closed already, or not connected
                    sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Gives the sockets back."""
        self._listener.close()
        if self._client is not None:
            self._client.close()

    def _receive(self, client: socket.socket) -> None:
        came = client.recv(_MAX_REQUEST_BYTES)
        if not came or len(self._received) > _MAX_REQUEST_BYTES:
            raise ConnectionError
        self._received += came

    def _requests(self) -> Iterator[tuple[bytes, bytes]]:
        """Method and URL of each request that is whole, once answered; libav's own RTCP is passed over."""
        assert self._client is not None
        received = self._received
        while received:
            if received[0] == ord("$"):
                end = 4 + int.from_bytes(received[2:4], "big")
                if len(received) < max(4, end):
                    return
                del received[:end]
                continue
            end = received.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(received[: end + 2])
            del received[: end + 4]
            request, sequence = _REQUEST.match(head), _SEQUENCE.search(head)
            if request is None or sequence is None:
                raise ConnectionError
            self._client.sendall(self._answer(request[1], sequence[1]))
            yield request[1], request[2]

    def _answer(self, method: bytes, sequence: bytes) -> bytes:
        lines, body = [f"RTSP/1.0 200 OK\r\nCSeq: {sequence.decode()}"], ""
        match method:
            case b"OPTIONS":
                lines.append(f"Public: {_METHODS}")
            case b"DESCRIBE":
                body = description(self._video)
                lines += ["Content-Type: application/sdp", f"Content-Length: {len(body)}"]
            case b"SETUP":
                lines += [f"Transport: RTP/AVP/TCP;unicast;{_CHANNELS}", "Session: 1"]
            case _:
                lines.append("Session: 1")
        return ("\r\n".join([*lines, "", ""]) + body).encode()


def description(video: VideoDescription) -> str:
    """The session description (RFC 8866) of nothing but that stream."""
    kind, sets = video.payload_type, video.parameter_sets
    parameters = [f"packetization-mode={video.packetization_mode}"] if video.codec == "H264" else []
    if video.codec == "H264" and sets:
        parameters.append(f"sprop-parameter-sets={','.join(_base64(unit) for unit in sets)}")
    if video.codec == "H265":
        for number, name in _H265_SETS.items():
            units = [_base64(unit) for unit in sets if unit[0] >> 1 & 63 == number]
            parameters += [f"{name}={','.join(units)}"] if units else []
        parameters += [f"sprop-max-don-diff={video.max_don_diff}"] if video.max_don_diff else []
    lines = [
        "v=0",
        "o=- 0 0 IN IP4 127.0.0.1",
        "s=camera",
        "c=IN IP4 127.0.0.1",
        "t=0 0",
        f"m=video 0 RTP/AVP {kind}",
        f"a=rtpmap:{kind} {video.codec}/{video.clock_hz}",
        *([f"a=fmtp:{kind} {'; '.join(parameters)}"] if parameters else []),
        *([f"a=framerate:{video.fps:g}"] if video.fps else []),
        "a=control:video",
    ]
    return "".join(f"{line}\r\n" for line in lines)


def _base64(unit: bytes) -> str:
    return base64.b64encode(unit).decode()
