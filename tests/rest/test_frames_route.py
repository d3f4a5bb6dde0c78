import base64
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from rest.fakes import AppMaker, MemoryIntake

from crow_receiver.rest.body_limit import MAX_BODY_BYTES
from crow_shared.errors import CrowError, Kind
from crow_shared.frame import MAX_PICTURE_BYTES, TimeSource
from crow_shared.identity import CameraKey

URL = "/api/v1/cctv/frames"
CAMERA = CameraKey("org-1", "nike_colombo_01", "cam_01")
SECOND = 1_700_000_000
META = {
    "store_id": "nike_colombo_01",
    "camera_id": "cam_01",
    "bucket_sec": SECOND,
    "quality": "low",
    "content_type": "image/jpeg",
}


def parts(jpeg: bytes, **changes: Any) -> dict[str, Any]:
    """An upload as the edge tool makes it: `meta` is a plain field, `file` a file."""
    meta = json.dumps({**META, **changes})
    return {"files": {"meta": (None, meta, "application/json"), "file": ("1700000000_low.jpg", jpeg, "image/jpeg")}}


def as_json(jpeg: bytes, **changes: Any) -> dict[str, Any]:
    upload = {
        "siteId": CAMERA.site_id,
        "cameraId": CAMERA.camera_id,
        "capturedAt": SECOND * 1000 + 250,
        "contentType": "image/jpeg",
        "data": base64.b64encode(jpeg).decode(),
    }
    return {"json": {**upload, **changes}}


@pytest.fixture(autouse=True)
async def camera(intake: MemoryIntake) -> None:
    await intake.open_session(CAMERA, "Door", SECOND * 1_000_000)


async def test_the_edge_tools_upload_is_accepted_and_says_where_the_frame_went(
    http: httpx.AsyncClient,
    intake: MemoryIntake,
    jpeg: bytes,
) -> None:
    response = await http.post(URL, **parts(jpeg))
    assert response.status_code == 202, response.text
    assert response.json() == {
        "frameId": f"org-1/nike_colombo_01/cam_01/rest-low/{SECOND}",
        "sessionId": "org-1.nike_colombo_01.cam_01",
        "frameIndex": 0,
        "duplicate": False,
    }
    (frame,) = intake.frames.values()
    assert (frame.payload, frame.width, frame.height, frame.seq) == (jpeg, 64, 48, SECOND)
    assert (frame.capture_us, frame.time_source) == (SECOND * 1_000_000, TimeSource.ARRIVAL)
    assert frame.intact()


async def test_a_meta_part_sent_as_a_file_is_read_all_the_same(http: httpx.AsyncClient, jpeg: bytes) -> None:
    files = {"meta": ("blob", json.dumps(META), "application/json"), "file": ("blob", jpeg, "image/jpeg")}
    assert (await http.post(URL, files=files)).status_code == 202


async def test_a_frame_sent_twice_is_told_to_be_a_duplicate(http: httpx.AsyncClient, jpeg: bytes) -> None:
    first = await http.post(URL, **parts(jpeg))
    again = await http.post(URL, **parts(jpeg))
    assert (again.status_code, again.json()) == (202, {**first.json(), "duplicate": True})


async def test_the_two_qualities_of_a_second_are_two_frames(
    http: httpx.AsyncClient, intake: MemoryIntake, jpeg: bytes
) -> None:
    await http.post(URL, **parts(jpeg))
    assert (await http.post(URL, **parts(jpeg, quality="high"))).json()["duplicate"] is False
    assert [epoch for _, epoch, _ in intake.frames] == ["rest-low", "rest-high"]


async def test_a_frame_as_json_is_numbered_by_its_millisecond(
    http: httpx.AsyncClient, intake: MemoryIntake, jpeg: bytes
) -> None:
    response = await http.post(URL, **as_json(jpeg))
    assert response.status_code == 202, response.text
    ((_, epoch, seq),) = intake.frames
    assert (epoch, seq) == ("rest", SECOND * 1000 + 250)
    assert intake.frames[CAMERA, epoch, seq].capture_us == (SECOND * 1000 + 250) * 1000
    assert (await http.post(URL, **as_json(jpeg))).json()["duplicate"] is True


@pytest.mark.parametrize("form", [parts, as_json])
async def test_what_is_no_jpeg_is_an_unsupported_media_type(
    http: httpx.AsyncClient, intake: MemoryIntake, form: Callable[..., dict[str, Any]]
) -> None:
    for picture in (b"GIF89a", b"", b"\xff\xd8\xff\xe0 cut short"):
        response = await http.post(URL, **form(picture))
        assert response.status_code == 415, response.text
        assert set(response.json()) == {"error", "message"}
    assert not intake.frames


@pytest.mark.parametrize("upload", [{"content_type": "image/png"}, {"contentType": "image/png"}])
async def test_a_content_type_that_is_not_jpeg_is_unsupported(
    http: httpx.AsyncClient, jpeg: bytes, upload: dict[str, str]
) -> None:
    form = parts if "content_type" in upload else as_json
    response = await http.post(URL, **form(jpeg, **upload))
    assert (response.status_code, response.json()["error"]) == (415, "unsupported_media_type")


async def test_a_body_that_is_neither_multipart_nor_json_is_unsupported(http: httpx.AsyncClient, jpeg: bytes) -> None:
    response = await http.post(URL, content=jpeg, headers={"Content-Type": "image/jpeg"})
    assert (response.status_code, response.json()["error"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"quality": "medium"}, "quality"),
        ({"bucket_sec": 0}, "bucket_sec"),
        ({"bucket_sec": "soon"}, "bucket_sec"),
        ({"store_id": "../etc"}, "site"),
        ({"camera_id": "Cam'; drop table"}, "camera"),
    ],
)
async def test_bad_meta_is_a_bad_request_that_names_the_field(
    http: httpx.AsyncClient, jpeg: bytes, change: dict[str, Any], named: str
) -> None:
    response = await http.post(URL, **parts(jpeg, **change))
    assert response.status_code == 400
    assert named in response.json()["message"]


@pytest.mark.parametrize(
    "change", [{"data": "not base64!"}, {"capturedAt": -1}, {"capturedAt": 2**63}, {"emotion": "happy"}]
)
async def test_bad_json_is_a_bad_request(http: httpx.AsyncClient, jpeg: bytes, change: dict[str, Any]) -> None:
    response = await http.post(URL, **as_json(jpeg, **change))
    assert (response.status_code, response.json()["error"]) == (400, "bad_request")


async def test_a_missing_part_is_named(http: httpx.AsyncClient, jpeg: bytes) -> None:
    without_file = await http.post(URL, files={"meta": (None, json.dumps(META))})
    without_meta = await http.post(URL, files={"file": ("f.jpg", jpeg)})
    assert (without_file.status_code, without_meta.status_code) == (400, 400)
    assert "file" in without_file.json()["message"]
    assert "meta" in without_meta.json()["message"]


async def test_a_multipart_body_without_sense_is_a_bad_request(http: httpx.AsyncClient) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    response = await http.post(URL, content=b"--y\r\nrubbish", headers=headers)
    assert response.status_code == 400
    assert set(response.json()) == {"error", "message"}


async def test_a_camera_that_nobody_announced_is_not_found(http: httpx.AsyncClient, jpeg: bytes) -> None:
    response = await http.post(URL, **parts(jpeg, camera_id="cam_02"))
    assert (response.status_code, response.json()["error"]) == (404, "camera_unknown")


async def test_another_tenants_camera_is_not_found(http: httpx.AsyncClient, jpeg: bytes) -> None:
    response = await http.post(URL, **parts(jpeg), headers={"X-Organization-Id": "org-2"})
    assert (response.status_code, response.json()["error"]) == (404, "camera_unknown")


@pytest.mark.parametrize("form", [parts, as_json])
async def test_a_picture_over_two_mebibytes_is_too_large(
    http: httpx.AsyncClient, jpeg: bytes, form: Callable[..., dict[str, Any]]
) -> None:
    response = await http.post(URL, **form(jpeg + bytes(MAX_PICTURE_BYTES)))
    assert response.status_code == 413
    assert set(response.json()) == {"error", "message"}


async def test_a_picture_of_two_mebibytes_is_not_cut_by_the_body_limit(http: httpx.AsyncClient, jpeg: bytes) -> None:
    # A comment segment of the JPEG fills it up to the limit.
    comments = b""
    while len(jpeg) + len(comments) + 65_537 <= MAX_PICTURE_BYTES:
        comments += b"\xff\xfe\xff\xff" + bytes(65_533)
    large = jpeg[:2] + comments + jpeg[2:]
    assert MAX_PICTURE_BYTES - 65_537 < len(large) <= MAX_PICTURE_BYTES
    for form in (parts, as_json):
        assert (await http.post(URL, **form(large))).status_code == 202


@pytest.mark.parametrize("media_type", ["application/json", "multipart/form-data; boundary=x"])
async def test_an_endless_body_is_refused_while_it_streams(
    make_app: AppMaker,
    http: httpx.AsyncClient,
    media_type: str,
) -> None:
    chunk = bytes(64 << 10)
    start = (
        b'{"data":"'
        if "json" in media_type
        else b'--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
    )
    taken = 0
    answers: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        nonlocal taken
        taken += len(chunk)
        assert taken < 2 * MAX_BODY_BYTES, "nobody stopped reading"
        return {"type": "http.request", "body": start if taken == len(chunk) else chunk, "more_body": True}

    async def send(message: dict[str, Any]) -> None:
        answers.append(message)

    await post_raw(make_app(), http, media_type, receive, send)
    assert answers[0]["status"] == 413
    assert json.loads(answers[1]["body"])["error"] == "body_too_large"
    assert taken <= MAX_BODY_BYTES + 2 * len(chunk)


async def test_a_declared_length_over_the_limit_is_refused_before_the_body_is_read(
    make_app: AppMaker,
    http: httpx.AsyncClient,
) -> None:
    answers: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        raise AssertionError("the body was read")

    async def send(message: dict[str, Any]) -> None:
        answers.append(message)

    length = (b"content-length", str(MAX_BODY_BYTES + 1).encode())
    await post_raw(make_app(), http, "application/json", receive, send, length)
    assert answers[0]["status"] == 413


async def post_raw(
    app: FastAPI, http: httpx.AsyncClient, media_type: str, receive: Any, send: Any, *extra: tuple[bytes, bytes]
) -> None:
    """A request at the ASGI level, where one sees how much of the body is taken."""
    headers = [(name.lower().encode(), value.encode()) for name, value in http.headers.items()]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": URL,
        "raw_path": URL.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [*headers, (b"content-type", media_type.encode()), *extra],
        "client": ("127.0.0.1", 1),
        "server": ("receiver", 80),
    }
    await app(scope, receive, send)


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (CrowError(Kind.EXHAUSTED, "too_many", "slow down"), 429),
        (CrowError(Kind.UNAVAILABLE, "store_unavailable", "/var/lib/crow/receiver.db: disk full"), 503),
        (CrowError(Kind.TIMEOUT, "store_slow", "/var/lib/crow/receiver.db: locked"), 503),
    ],
)
async def test_a_receiver_that_cannot_take_more_now_says_when_to_come_back(
    http: httpx.AsyncClient,
    intake: MemoryIntake,
    jpeg: bytes,
    failure: CrowError,
    status: int,
) -> None:
    intake.failure = failure
    response = await http.post(URL, **parts(jpeg))
    assert (response.status_code, response.json()["error"]) == (status, failure.code)
    assert int(response.headers["Retry-After"]) > 0
    assert "/var/lib" not in response.text


@pytest.mark.parametrize(
    "failure",
    [RuntimeError("secret path /var/lib"), CrowError(Kind.CORRUPT, "database_corrupt", "secret path /var/lib")],
)
async def test_a_defect_is_answered_without_its_insides(
    http: httpx.AsyncClient,
    intake: MemoryIntake,
    jpeg: bytes,
    failure: Exception,
) -> None:
    intake.failure = failure
    response = await http.post(URL, **parts(jpeg))
    assert response.status_code == 500
    assert set(response.json()) == {"error", "message"}
    assert "secret" not in response.text


async def test_tenant_and_user_are_bound_to_the_log_lines_of_a_request(
    http: httpx.AsyncClient,
    intake: MemoryIntake,
    jpeg: bytes,
) -> None:
    await http.post(URL, **parts(jpeg))
    assert intake.log_context == {"organization_id": "org-1", "user_id": "user-7"}
