"""Promise: whatever the camera or its operator does, the reader ends in time, says why, and leaves nothing behind."""

import gc
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from camera_rig import CANARY, LOGIN, USER, eventually
from direct_rig import pictures_of, reading

from crow_daemon.capture.capture_time import CaptureClock
from crow_daemon.capture.keyframe_picture import DecoderOnDemand
from crow_daemon.direct import reader
from crow_daemon.direct.reading import ReadingThread
from crow_daemon.direct.source import DirectSource
from crow_daemon.registry.secret import Credentials, Secret
from crow_daemon.registry.url import CameraUrl
from crow_shared.clock import SystemClock
from crow_shared.errors import CrowError, Kind
from crow_sim.rtsp import Faults, Packing, RtspServer, ThreadedRtspServer


def served(path: Path, faults: Faults | None = None, **options: object) -> ThreadedRtspServer:
    options = {"user": USER, "password": CANARY} | options
    return ThreadedRtspServer(RtspServer({"cam": path}, faults=faults, **options))  # type: ignore[arg-type]


@pytest.fixture
def silent_listener() -> Iterator[str]:
    """Accepts nobody: its queue is full, so that connecting hangs."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        port = listener.getsockname()[1]
        others = []
        for _ in range(4):
            other = socket.socket()
            other.setblocking(False)
            other.connect_ex(("127.0.0.1", port))
            others.append(other)
        yield f"rtsp://127.0.0.1:{port}/x"
        for other in others:
            other.close()


def stopped_within(source: DirectSource, seconds: float, body: object) -> None:
    """Runs `body` in a thread that hangs, stops the source, and sees the thread end in time."""
    ended = threading.Event()

    def run() -> None:
        try:
            body()  # type: ignore[operator]
        except CrowError:
            pass
        finally:
            ended.set()

    thread = threading.Thread(target=run)
    thread.start()
    assert not ended.wait(0.3), "it does not hang"
    began_s = time.monotonic()
    source.stop()
    assert ended.wait(5)
    assert time.monotonic() - began_s < seconds
    thread.join()


def test_a_stop_ends_a_connection_that_is_being_made(silent_listener: str) -> None:
    with reading(silent_listener) as source:
        stopped_within(source, 0.5, source.open)


def test_a_stop_ends_a_wait_for_an_answer(shop: dict[str, Path]) -> None:
    with served(shop["h264"], Faults(silent=True)) as server, reading(server.url("cam")) as source:
        stopped_within(source, 0.5, source.open)


def test_a_stop_ends_a_wait_for_pictures(shop: dict[str, Path]) -> None:
    with served(shop["h264"], Faults(stall_after_s=0.0)) as server, reading(server.url("cam")) as source:
        source.open()
        stopped_within(source, 0.5, lambda: list(source.pictures()))


def test_a_stop_before_everything_ends_everything(shop: dict[str, Path]) -> None:
    with served(shop["h264"]) as server, reading(server.url("cam")) as source:
        source.stop()
        with pytest.raises(CrowError):
            source.open()
        assert server.requests == []


def test_the_camera_is_told_that_nobody_watches_any_more(shop: dict[str, Path]) -> None:
    with served(shop["h264"]) as server:
        with reading(server.url("cam")) as source:
            source.open()
            pictures_of(source, 1)
        assert server.requests[-1].method == "TEARDOWN"
        eventually(lambda: server.players("cam") == 0, "the player ends")


@pytest.mark.parametrize(
    ("faults", "code"),
    [
        (Faults(close_after_s=0.3), "stream_lost"),
        (Faults(reset_after_s=0.3), "stream_lost"),
        (Faults(stall_after_s=0.1), "stream_stalled"),
        (Faults(endless_headers=True), "answer_too_large"),
        (Faults(silent=True), "camera_timeout"),
        (Faults(refuse_auth=True), "auth_failed"),
    ],
)
def test_each_way_in_which_a_camera_fails_has_its_code(
    faults: Faults, code: str, shop: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "READ_TIMEOUT_S", 0.5)
    monkeypatch.setattr("crow_daemon.direct.source.OPEN_TIMEOUT_S", 0.5)
    with (
        served(shop["h264"], faults) as server,
        reading(server.url("cam")) as source,
        pytest.raises(CrowError) as caught,
    ):
        source.open()
        list(source.pictures())
    assert caught.value.code == code
    assert CANARY not in str(caught.value)


def test_a_wrong_password_is_given_once(shop: dict[str, Path]) -> None:
    with served(shop["h264"]) as server, reading(server.url("cam"), Credentials(USER, Secret("no"))) as source:
        with pytest.raises(CrowError) as caught:
            source.open()
        assert caught.value.kind is Kind.UNAUTHENTICATED
        assert [seen.with_credentials for seen in server.requests].count(True) == 1


@pytest.mark.parametrize("at", ["DESCRIBE", "SETUP", "PLAY"])
def test_no_credentials_follow_a_redirect_to_another_host(at: str, shop: dict[str, Path]) -> None:
    with served(shop["h264"]) as elsewhere:
        faults = Faults(redirect_to=elsewhere.url("cam"), redirect_at=at)  # type: ignore[arg-type]
        with served(shop["h264"], faults) as server, reading(server.url("cam")) as source:
            with pytest.raises(CrowError) as caught:
                source.open()
            assert caught.value.code == "redirect_refused"
        assert elsewhere.requests == []


def test_a_redirect_within_the_camera_is_followed(shop: dict[str, Path]) -> None:
    with ThreadedRtspServer(RtspServer({"cam": shop["h264"], "there": shop["larger"]})) as server:
        server.set_faults("cam", Faults(redirect_to=server.url("there")))
        with reading(server.url("cam"), None) as source:
            assert source.open().width == 800
            assert pictures_of(source, 1) != [None]


def test_cameras_are_reached_by_ipv6(shop: dict[str, Path]) -> None:
    with served(shop["h264"], host="::1") as server, reading(server.url("cam")) as source:
        source.open()
        assert None not in pictures_of(source, 2)


def test_a_hundred_connections_leave_no_descriptor_and_no_thread(shop: dict[str, Path]) -> None:
    readers = ReadingThread()
    with served(shop["h264"]) as server:
        url = CameraUrl.parse(server.url("cam"))
        counts = []
        for number in range(100):
            source = DirectSource(url, LOGIN, DecoderOnDemand(), SystemClock(), CaptureClock(), readers=readers)
            source.open()
            if number % 3 == 0:
                pictures_of(source, 1)
            source.stop()
            source.close()
            if number % 33 == 0:
                eventually(lambda: server.players("cam") == 0, "the server let go")
                gc.collect()
                counts.append(len(list(Path("/proc/self/fd").iterdir())))
    assert counts[1:] == counts[:-1]
    eventually(lambda: readers._thread is None, "the reading thread ended")


def test_what_one_reader_raises_ends_that_one_alone(shop: dict[str, Path]) -> None:
    readers = ReadingThread()
    with ThreadedRtspServer(RtspServer({"a": shop["h264"], "b": shop["hevc"]})) as server:
        sources = [
            DirectSource(
                CameraUrl.parse(server.url(name)),
                None,
                DecoderOnDemand(),
                SystemClock(),
                CaptureClock(),
                readers=readers,
            )
            for name in ("a", "b")
        ]
        for source in sources:
            source.open()
        bad, good = (source.pictures() for source in sources)
        assert [next(bad), next(good)].count(None) == 0
        assert sources[0]._reader is not None
        sources[0]._reader._watch = None  # type: ignore[assignment,method-assign]
        with pytest.raises(TypeError):
            list(bad)
        for _ in range(5):
            assert next(good) is not None
        for source in sources:
            source.stop()
            source.close()


def test_a_camera_whose_pictures_nobody_takes_waits_and_costs_no_memory(
    shop: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "READ_TIMEOUT_S", 0.3)
    with served(shop["h264"]) as server, reading(server.url("cam")) as source:
        source.open()
        pictures = source.pictures()
        assert next(pictures) is not None
        time.sleep(0.6)  # dozens of keyframes, and twice the time-out
        assert source._reader is not None
        assert source._reader._held.qsize() <= reader._MOST_HELD + 3
        for _ in range(20):
            assert next(pictures) is not None


def test_the_first_keyframe_is_waited_for_where_only_the_stream_tells_its_size(shop: dict[str, Path]) -> None:
    with (
        served(shop["hevc"], packing=Packing(parameter_sets="stream")) as server,
        reading(server.url("cam")) as source,
    ):
        stream = source.open()
        assert (stream.width, stream.height) == (640, 360)
        assert len(pictures_of(source, 3)) == 3
