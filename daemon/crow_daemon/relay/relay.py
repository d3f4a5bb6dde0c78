"""Brings a camera's packets to libav, so that libav has to do with this process alone.

The camera is asked, and its packets received, by our own code: it goes nowhere but to the configured address, logs in,
speaks TLS or UDP, and sees what is lost. libav reads an RTSP stream from a server in this process and turns packets
into pictures. That the kernel carries them once more costs no more than it saves, since they are handed over four times
a second, not one by one.

Invariants
1. Credentials and the camera's address are not known to libav.
2. The thread ends with the first failure, which `failure` tells; libav then finds its stream ended.
3. Every wait ends by its time-out, or at once by `interrupt`.
"""

import itertools
import threading
import time
from collections.abc import Callable

from crow_daemon.capture.state import STREAM_STALLED
from crow_daemon.registry.camera import RtspAddress
from crow_daemon.registry.secret import Credentials
from crow_daemon.relay.camera_stream import CameraStream, camera_stream
from crow_daemon.relay.local_server import LocalServer
from crow_daemon.relay.whole_pictures import WholePictures
from crow_daemon.rtsp.connection import RtspConnection
from crow_daemon.rtsp.failures import READ_TIMEOUT_S, STREAM_UNDECODABLE
from crow_shared.errors import CrowError, Kind
from crow_shared.frame import Encoding

CONNECT_S = 5.0  # for the camera to be reached and to describe its stream
_OPEN_S = 8.0  # for libav to ask for it
# Between two looks at what has come; no even part of a second, so that some keyframe soon comes just before a look, and
# the time of capture can be told from it.
_BATCHES_S = (0.21, 0.29, 0.24)
_YOUNG_S, _YOUNG_BATCH_S = 2.0, 0.05  # the system has to learn how much it must hold between two looks


class Relay:
    """Between one camera and libav, for one connection."""

    def __init__(
        self,
        address: RtspAddress,
        credentials: Credentials | None,
        patience_s: Callable[[], float],
        *,
        keyframes_only: bool = False,
    ) -> None:
        """Not connected yet. With `keyframes_only`, little more than keyframes reaches libav.

        A stream that for `patience_s` seconds has held nothing to pass on, loud as it may be, is given up.
        """
        self._transport = address.transport
        self._authority = address.url.authority
        self._connection = RtspConnection(address.url, credentials)
        self._patience_s = patience_s
        self._keyframes_only = keyframes_only
        self._camera: CameraStream | None = None
        self._server: LocalServer | None = None
        self._pictures: WholePictures | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)
        self.failure: CrowError | None = None

    def open(self) -> str:
        """Connects to the camera, and returns the URL for libav. Raises CrowError with what is wrong there."""
        self._connection.connect(CONNECT_S)
        self._camera = camera_stream(self._transport, self._connection)
        video = self._camera.begin()
        self._pictures = WholePictures(Encoding(video.codec.lower()), keyframes_only=self._keyframes_only)
        self._server = LocalServer(video)
        self._thread.start()
        return self._server.url

    @property
    def damaged(self) -> int:
        """How many pictures were kept from libav because something of them, or before them, was lost."""
        return self._pictures.damaged if self._pictures else 0

    def interrupt(self) -> None:
        """From any thread: ends every wait; `failure` stays what it is."""
        self._stop.set()
        self._connection.interrupt()
        if server := self._server:
            server.interrupt()

    def close(self) -> None:
        """Ends the thread and gives everything back."""
        self._stop.set()
        if self._server is not None:
            self._server.interrupt()
            self._thread.join()
            self._server.close()
        if self._camera is not None:
            self._camera.close()
        self._connection.close()

    def _run(self) -> None:
        camera, server, pictures = self._camera, self._server, self._pictures
        if camera is None or server is None or pictures is None:
            raise AssertionError("the thread starts when all is there")
        try:
            server.serve_until_play(_OPEN_S)
            self._bring(camera, server, pictures)
        except CrowError as error:
            self.failure = error
        except OSError:
            pass  # libav has ended the connection, which is its reader's wish
        finally:
            server.interrupt()

    def _bring(self, camera: CameraStream, server: LocalServer, pictures: WholePictures) -> None:
        begun_s = passed_s = now_s = time.monotonic()
        for batch_s in itertools.cycle(_BATCHES_S):
            if self._stop.wait(_YOUNG_BATCH_S if now_s - begun_s < _YOUNG_S else batch_s):
                return
            batch = camera.packets()
            passed = pictures.take(batch.rtp)
            server.send(passed, batch.rtcp)
            server.answer()
            camera.tend(pictures.source, pictures.expected)
            now_s = time.monotonic()
            passed_s = now_s if passed else passed_s
            if now_s - camera.heard_s >= READ_TIMEOUT_S:
                raise CrowError(
                    Kind.TIMEOUT, STREAM_STALLED, f"{self._authority} sent nothing for {READ_TIMEOUT_S:g} seconds"
                )
            if now_s - passed_s >= self._patience_s():
                raise CrowError(
                    Kind.UNAVAILABLE, STREAM_UNDECODABLE, f"{self._authority} sends nothing that can be decoded"
                )
