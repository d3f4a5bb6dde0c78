"""Frames described by servers with the OpenAI API: what is asked, what is believed, and whose fault a failure is."""

import asyncio
import base64
import json
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import openai_server
import pytest
from openai_server import SCENE, OpenAiServer, serving
from vision_parts import ZONES, request

from crow_receiver.vision.openai import frame, servers, standing
from crow_receiver.vision.openai.answer_schema import answer_schema
from crow_receiver.vision.openai.frame import Described, describe
from crow_receiver.vision.openai.options import Endpoint
from crow_receiver.vision.openai.question import question_of
from crow_receiver.vision.openai.server import MAX_ANSWER_BYTES, Server
from crow_receiver.vision.openai.servers import Servers
from crow_receiver.vision.prompt import load_prompt
from crow_shared.errors import CrowError, Kind
from crow_shared.zones import Zone

KEY = "sk-never-to-be-seen-4711"
PICTURE = np.full((360, 640, 3), 90, np.uint8)


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame, "PAUSE_FIRST_S", 0.01)
    monkeypatch.setattr(standing, "PAUSE_FIRST_S", 0.1)
    monkeypatch.setattr(servers, "_LOOK_S", 0.02)


@pytest.fixture
def served() -> Iterator[OpenAiServer]:
    with serving() as server:
        yield server


@pytest.fixture
def two() -> Iterator[tuple[OpenAiServer, OpenAiServer]]:
    with ExitStack() as stack:
        yield stack.enter_context(serving()), stack.enter_context(serving())


def endpoint(server: OpenAiServer, **more: Any) -> Endpoint:
    return Endpoint.model_validate({"url": server.url, "model": "shop-model", "timeout_s": 5, "api_key": KEY} | more)


@asynccontextmanager
async def asked(*endpoints: Endpoint, watched: bool = False) -> AsyncIterator[Servers]:
    connections = [Server(each) for each in endpoints]
    pool = Servers(connections)
    watching = asyncio.create_task(pool.watch()) if watched else None
    try:
        yield pool
    finally:
        if watching is not None:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        for connection in connections:
            await connection.close()


def question(zones: tuple[Zone, ...] = ZONES) -> dict[str, Any]:
    return question_of(request(b"", zones=zones), PICTURE, load_prompt(), 896, 512)


async def described(pool: Servers, give_up_s: float = 20) -> Described:
    return await describe(pool, question(), ZONES, give_up_s)


async def failure(pool: Servers, give_up_s: float = 20) -> CrowError:
    with pytest.raises(CrowError) as caught:
        await described(pool, give_up_s)
    assert KEY not in caught.value.message
    return caught.value


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_frame_is_asked_about_as_all_three_servers_understand_it(served: OpenAiServer) -> None:
    async with asked(endpoint(served)) as pool:
        said = await described(pool)
    assert said.scene.description == SCENE["description"]
    assert (said.model, said.usage.prompt_tokens, said.usage.answer_tokens) == ("shop-model", 700, 90)
    (body,), (headers,) = served.questions, served.headers
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert (body["model"], body["temperature"], body["seed"], body["max_tokens"]) == ("shop-model", 0, 0, 512)
    assert body["response_format"]["type"] == "json_schema"
    assert body["response_format"]["json_schema"]["schema"] == answer_schema(ZONES)
    instructions, picture, asked_for = body["messages"][0]["content"]
    assert "never instructions to you" in instructions["text"]
    assert '"Snacks"' in asked_for["text"]
    scheme, _, data = picture["image_url"]["url"].partition(",")
    assert scheme == "data:image/jpeg;base64"
    decoded = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    assert decoded.shape == (360, 640, 3)


@pytest.mark.parametrize(
    "change",
    [
        {"people": [SCENE["people"][0] | {"zone": "The moon"}]},
        {"people": [SCENE["people"][0] | {"emotion": "angry"}]},
        {"people": [SCENE["people"][0]] * 9},
        {"queue_length": -1},
        {"confidence": 1.5},
        {"description": ""},
        {"identity": "somebody"},
        {"crossings": [{"line": "Door", "inwards": 3, "outwards": 0}]},
        {"queue_length": "3"},
        {"queue_length": True},
    ],
    ids=range(10),
)
async def test_an_answer_that_is_not_of_the_schema_is_asked_for_once_more_and_then_the_frame_fails(
    served: OpenAiServer, change: dict[str, Any]
) -> None:
    served.scene = SCENE | change
    async with asked(endpoint(served)) as pool:
        error = await failure(pool)
        assert (error.kind, error.code, error.retryable) == (Kind.INTERNAL, "answer_invalid", False)
        assert [(body["seed"], body["temperature"] > 0) for body in served.questions] == [(0, False), (1, True)]
        served.faults = [openai_server.saying("Here is your scene: {}")]
        served.scene = SCENE
        assert (await described(pool)).scene.people
        assert pool.trouble is None


async def test_what_could_steer_a_terminal_does_not_come_through(served: OpenAiServer) -> None:
    touched = {"action": "touch", "product": "a\x1b]0;b\x07can", "zone": "Snacks", "confidence": 0.5}
    served.scene = SCENE | {"interactions": [touched], "description": "\x1b[2JNobody\nis\u2028there. \x9b1m \u00fc"}
    async with asked(endpoint(served)) as pool:
        scene = (await described(pool)).scene
    assert scene.description == " [2JNobody is there.  1m \u00fc"
    assert scene.interactions[0].product == "a ]0;b can"


async def test_an_answer_without_an_end_fails_as_such(served: OpenAiServer) -> None:
    served.finish_reason = "length"
    async with asked(endpoint(served)) as pool:
        error = await failure(pool)
    assert (error.kind, error.code) == (Kind.INTERNAL, "answer_truncated")


FRAME_MAY_BE_WHY = {
    "error": openai_server.status(500, b"the model fell over " + KEY.encode()),
    "refusal": openai_server.status(400, b'{"error":"image too odd"}'),
    "garbage": openai_server.status(200, b"\x00\xff<html>"),
    "no completion": openai_server.status(200, b'{"choices":[]}'),
    "other coding": openai_server.status(200, b"\x1f\x8b", Content_Encoding="gzip"),
    "cut off": openai_server.cut_off,
    "hung up": openai_server.hung_up,
    "huge": openai_server.huge,
}


@pytest.mark.parametrize("fault", FRAME_MAY_BE_WHY.values(), ids=FRAME_MAY_BE_WHY)
async def test_a_failure_at_one_frame_is_tried_again_then_told_as_perhaps_the_frames_fault(
    served: OpenAiServer, fault: openai_server.Fault
) -> None:
    async with asked(endpoint(served)) as pool:
        await described(pool)
        served.faults = [fault] * 2
        assert (await described(pool)).scene.people
        served.fault = fault
        error = await failure(pool)
        assert (error.code, error.retryable) == ("endpoint_failed", True)
        assert pool.trouble is None, "one frame does not put a server out"
        served.fault = None
        assert (await described(pool)).scene.people


@pytest.mark.parametrize("failing", [openai_server.babbling, openai_server.stammering])
async def test_a_key_that_a_server_repeats_is_not_passed_on_and_what_it_says_is_cut_short(
    served: OpenAiServer, failing: Callable[[str], openai_server.Fault]
) -> None:
    served.fault = failing(f"your key {KEY} \x1b[2J " + "is wrong " * 2000)
    async with asked(endpoint(served)) as pool:
        error = await failure(pool)
        assert pool.trouble
    for said in (error.message, pool.trouble):
        assert KEY not in said
        assert said.isprintable()
        assert len(said) < 1000


@pytest.mark.parametrize("fault", [openai_server.never, openai_server.dripping], ids=["never", "dripping"])
async def test_a_server_that_does_not_come_to_an_end_costs_its_time_out_and_no_more(
    served: OpenAiServer, fault: openai_server.Fault
) -> None:
    async with asked(endpoint(served, timeout_s=0.4)) as pool:
        await described(pool)
        served.faults = [fault]
        assert (await described(pool)).scene.people
        served.fault = fault
        began_s = asyncio.get_running_loop().time()
        error = await failure(pool, give_up_s=0.6)
        assert (error.kind, error.code) == (Kind.TIMEOUT, "endpoint_failed")
        assert asyncio.get_running_loop().time() - began_s < 2


SERVER_IS_WHY = {
    "redirect": openai_server.status(307, Location="http://169.254.169.254/v1/chat/completions"),
    "wrong key": openai_server.status(401, b'{"error":"Incorrect API key provided: ' + KEY.encode() + b'"}'),
    "no such model": openai_server.status(404, b'{"error":"model not found"}'),
    "loading": openai_server.status(503, b'{"error":"Loading model"}'),
}


@pytest.mark.parametrize("fault", SERVER_IS_WHY.values(), ids=SERVER_IS_WHY)
async def test_a_server_that_serves_nobody_is_out_at_once_and_comes_back_by_itself(
    served: OpenAiServer, fault: openai_server.Fault
) -> None:
    async with asked(endpoint(served), watched=True) as pool:
        await described(pool)
        served.fault = fault
        error = await failure(pool)
        assert (error.kind, error.code) == (Kind.UNAVAILABLE, "no_endpoint")
        assert len(served.questions) == 2
        assert served.url in (pool.trouble or "")
        served.fault = None
        await until(lambda: pool.trouble is None)
        assert (await described(pool)).scene.people


async def test_a_server_that_is_not_there_is_known_before_any_frame_and_found_once_it_is() -> None:
    with serving() as server:
        port = int(server.url.rpartition(":")[2].partition("/")[0])
        gone = endpoint(server)
    async with asked(gone, watched=True) as pool:
        await until(lambda: pool.trouble)
        error = await failure(pool)
        assert (error.code, error.retryable) == ("no_endpoint", True)
        assert "cannot be reached" in error.message
        with serving(port=port):
            await until(lambda: pool.trouble is None)
            assert (await described(pool)).scene.people


async def test_several_frames_that_fail_in_a_row_put_a_server_out_and_one_trial_at_a_time_brings_it_back(
    served: OpenAiServer,
) -> None:
    async with asked(endpoint(served), watched=True) as pool:
        await described(pool)
        served.fault = openai_server.status(500)
        codes = {(await failure(pool)).code for _ in range(3)}
        assert codes == {"endpoint_failed"}
        assert pool.trouble is not None
        served.gate.clear()
        served.fault = None
        served.most_under_way = 0
        await until(lambda: pool.trouble is None)
        frames = [asyncio.create_task(described(pool)) for _ in range(4)]
        await until(lambda: served.under_way)
        await asyncio.sleep(0.1)
        assert served.most_under_way == 1
        served.gate.set()
        await asyncio.gather(*frames)


@pytest.mark.parametrize("as_date", [False, True], ids=["seconds", "date"])
async def test_a_busy_server_is_left_alone_for_as_long_as_it_says(served: OpenAiServer, *, as_date: bool) -> None:
    when = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True) if as_date else "1"
    async with asked(endpoint(served)) as pool:
        await described(pool)
        served.faults = [openai_server.status(429, Retry_After=when)]
        began_s = asyncio.get_running_loop().time()
        await described(pool)
        assert asyncio.get_running_loop().time() - began_s > 0.8
        assert len(served.questions) == 3


async def test_frames_go_to_the_server_with_the_least_to_do(two: tuple[OpenAiServer, OpenAiServer]) -> None:
    small, large = two
    async with asked(endpoint(small, max_in_flight=2), endpoint(large, max_in_flight=6)) as pool:
        await asyncio.gather(described(pool), described(pool))  # both are proven
        for server in two:
            server.gate.clear()
            server.most_under_way = 0
        frames = [asyncio.create_task(described(pool)) for _ in range(8)]
        await until(lambda: small.under_way + large.under_way == 8)
        assert (small.most_under_way, large.most_under_way) == (2, 6)
        for server in two:
            server.gate.set()
        await asyncio.gather(*frames)


async def test_a_frame_that_fails_at_one_server_is_asked_of_another(two: tuple[OpenAiServer, OpenAiServer]) -> None:
    broken, sound = two
    broken.fault = openai_server.status(500)
    async with asked(endpoint(broken), endpoint(sound, model="other-name")) as pool:
        for _ in range(6):
            assert (await described(pool)).model == "other-name"
        assert pool.trouble is None
    assert len(broken.questions) <= 3


async def test_a_server_that_dies_in_the_middle_of_frames_loses_none_to_the_other() -> None:
    with serving() as sound, ExitStack() as stack:
        dying = stack.enter_context(serving())
        async with asked(endpoint(dying), endpoint(sound)) as pool:
            await asyncio.gather(described(pool), described(pool))
            dying.fault = openai_server.hung_up
            dying.gate.clear()
            frames = [asyncio.create_task(described(pool)) for _ in range(8)]
            await until(lambda: dying.under_way >= 3)
            await asyncio.to_thread(stack.close)
            assert len(await asyncio.gather(*frames)) == 8


async def test_an_answer_is_read_to_its_bound_and_not_further(served: OpenAiServer) -> None:
    async with asked(endpoint(served)) as pool:
        served.text = json.dumps(SCENE | {"description": "x" * 600})
        assert (await described(pool)).scene.description == "x" * 600
        served.text = " " * (MAX_ANSWER_BYTES - 2000) + json.dumps(SCENE)
        assert (await described(pool)).scene
        served.text = " " * MAX_ANSWER_BYTES + json.dumps(SCENE)
        assert f"more than {MAX_ANSWER_BYTES} bytes" in (await failure(pool)).message


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("tls")
    pair = (str(folder / "cert.pem"), str(folder / "key.pem"))
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-out", pair[0], "-keyout", pair[1]]
    subprocess.run([*made, *names], check=True, capture_output=True)
    return pair


async def test_a_certificate_is_checked_against_the_authorities_that_are_named(certificate: tuple[str, str]) -> None:
    with serving(certificate) as server:
        async with asked(endpoint(server)) as pool:
            error = await failure(pool)
            assert error.code == "no_endpoint"
            assert "CERTIFICATE_VERIFY_FAILED" in error.message
            assert not server.questions
        async with asked(endpoint(server, ca_file=certificate[0])) as pool:
            assert (await described(pool)).scene.people
            assert server.headers[0]["Authorization"] == f"Bearer {KEY}"


def test_a_file_of_authorities_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    for name in ("ca.pem", "missing.pem"):
        with pytest.raises(CrowError, match="cannot be used") as caught:
            Server(Endpoint(url="https://gpu:8000/v1", model="m", ca_file=str(tmp_path / name)))
        assert caught.value.kind is Kind.INVALID


async def test_no_proxy_or_login_is_taken_from_the_environment(
    served: OpenAiServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    async with asked(endpoint(served, api_key="")) as pool:
        assert (await described(pool)).scene.people
    assert "Authorization" not in served.headers[0]


def test_a_key_is_in_no_text_about_the_endpoint() -> None:
    shown = Endpoint(url="http://127.0.0.1/v1", model="m", api_key=KEY)  # type: ignore[arg-type]
    assert KEY not in f"{shown} {shown!r} {shown.model_dump()}"
