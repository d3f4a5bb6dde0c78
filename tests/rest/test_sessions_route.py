from typing import Any

import httpx
import pytest
from conftest import ManualClock

URL = "/api/v1/cctv/sessions"
WANTED = {"siteId": "site-1", "cameraId": "cam-1", "cameraName": "Front 'Door' /1", "startedAt": 1_700_000_000_000}
NOT_KNOWN = {
    "known": False,
    "minutes": 1,
    "knownMinutes": 0,
    "asOf": 1_700_000_000_000,
    "expected": 0,
    "sent": 0,
    "gated": {},
    "dropped": {},
    "alerts": [],
}


async def test_opening_a_session_answers_created_and_then_ok(http: httpx.AsyncClient) -> None:
    first = await http.post(URL, json=WANTED)
    again = await http.post(URL, json=WANTED)
    assert (first.status_code, again.status_code) == (201, 200)
    assert (
        first.json()
        == again.json()
        == {
            "sessionId": "org-1.site-1.cam-1",
            "siteId": "site-1",
            "cameraId": "cam-1",
            "cameraName": "Front 'Door' /1",
            "status": "open",
            "startedAt": 1_700_000_000_000,
            "lastFrameAt": None,
            "endedAt": None,
            "frames": {"received": 0, "analysed": 0, "failed": 0, "pending": 0},
            "batches": 0,
            "revision": 0,
            "coverage": NOT_KNOWN,
        }
    )


async def test_a_session_starts_now_when_nothing_else_is_said(http: httpx.AsyncClient, clock: ManualClock) -> None:
    response = await http.post(URL, json={"siteId": "site-1", "cameraId": "cam-1"})
    assert response.json()["startedAt"] == clock.now_us() // 1000


async def test_an_opened_session_can_be_looked_at(http: httpx.AsyncClient) -> None:
    opened = (await http.post(URL, json=WANTED)).json()
    response = await http.get(f"{URL}/{opened['sessionId']}")
    assert (response.status_code, response.json()) == (200, opened)


async def test_a_session_of_another_tenant_looks_just_like_one_that_is_not_there(http: httpx.AsyncClient) -> None:
    opened = (await http.post(URL, json=WANTED)).json()
    other = {"X-Organization-Id": "org-2"}
    foreign = await http.get(f"{URL}/{opened['sessionId']}", headers=other)
    missing = await http.get(f"{URL}/no-such-session", headers=other)
    assert (foreign.status_code, foreign.json()) == (404, missing.json())
    assert missing.json()["error"] == "session_unknown"


@pytest.mark.parametrize(
    "change",
    [
        {"siteId": "Site 1"},
        {"cameraId": "a/b"},
        {"cameraName": ""},
        {"cameraName": "x" * 1000},
        {"startedAt": "yesterday"},
        {"organizationId": "org-2"},
        {"siteId": None},
    ],
)
async def test_a_request_with_a_bad_field_is_refused_with_its_name(
    http: httpx.AsyncClient, change: dict[str, Any]
) -> None:
    response = await http.post(URL, json={**WANTED, **change})
    assert response.status_code == 400
    assert next(iter(change)).removesuffix("Id").lower() in response.json()["message"].lower()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe"])
async def test_a_body_that_is_no_json_object_is_a_bad_request(http: httpx.AsyncClient, content: bytes) -> None:
    response = await http.post(URL, content=content, headers={"Content-Type": "application/json"})
    assert response.status_code == 400
    assert set(response.json()) == {"error", "message"}
