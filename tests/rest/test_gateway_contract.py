import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter
from rest.fakes import AppMaker, ClientMaker, ListedObstacles

SESSIONS = "/api/v1/cctv/sessions"
WANTED = {"siteId": "site-1", "cameraId": "cam-1"}
API = [
    ("POST", "/api/v1/cctv/frames"),
    ("POST", SESSIONS),
    ("GET", f"{SESSIONS}/s"),
    ("GET", "/api/v1/cctv/queues"),
    ("POST", "/api/v1/cctv/queues/crow-interaction-queue/messages:pull"),
    ("POST", "/api/v1/cctv/queues/crow-interaction-queue/messages:ack"),
    ("POST", "/api/v1/cctv/queues/crow-interaction-queue/messages:retry"),
]


@pytest.mark.parametrize(("method", "url"), API)
@pytest.mark.parametrize("keys", [[], [""], ["wrong"], ["k" * 31], ["é" * 32], ["k" * 32, "k" * 32]])
async def test_no_route_answers_without_the_internal_key(
    anonymous: httpx.AsyncClient, method: str, url: str, keys: list[str]
) -> None:
    headers = [("X-Internal-Key", key.encode()) for key in keys] + [("X-Organization-Id", b"org-1")]
    response = await anonymous.request(method, url, headers=headers, json=WANTED if method == "POST" else None)
    assert (response.status_code, response.json()["error"]) == (401, "unauthenticated")


async def test_every_route_under_api_is_in_the_list_above(make_app: AppMaker) -> None:
    described = {
        (method.upper(), path) for path, methods in make_app().openapi()["paths"].items() for method in methods
    }
    listed = {
        (method, url.replace("crow-interaction-queue", "{name}").replace("sessions/s", "sessions/{session_id}"))
        for method, url in API
    }
    assert {route for route in described if route[1].startswith("/api/")} == listed


@pytest.mark.parametrize("key", [None, ""])
async def test_without_a_configured_key_the_api_is_closed(
    make_app: AppMaker, connect: ClientMaker, key: str | None
) -> None:
    async with connect(make_app(key), {"X-Internal-Key": key or "", "X-Organization-Id": "org-1"}) as http:
        response = await http.post(SESSIONS, json=WANTED)
        assert (response.status_code, response.json()["error"]) == (503, "no_internal_key")
        assert "Retry-After" in response.headers
        assert (await http.get("/health")).status_code == 200


@pytest.mark.parametrize("given", [[], ["Org 1"], [""], ["org-1", "org-2"]])
async def test_a_tenant_route_wants_one_valid_organization(http: httpx.AsyncClient, given: list[str]) -> None:
    del http.headers["X-Organization-Id"]
    headers = [("X-Organization-Id", value) for value in given]
    response = await http.post(SESSIONS, json=WANTED, headers=headers)
    assert response.status_code == 400
    assert "X-Organization-Id" in response.json()["message"]


@pytest.mark.parametrize(
    ("method", "url", "status"),
    [
        ("GET", "/api/v1/cctv/nothing", 404),
        ("GET", "/nothing", 404),
        ("DELETE", f"{SESSIONS}/s", 405),
        ("POST", "/health", 405),
    ],
)
async def test_an_unknown_route_or_method_has_the_one_error_body(
    http: httpx.AsyncClient, method: str, url: str, status: int
) -> None:
    response = await http.request(method, url)
    assert response.status_code == status
    assert set(response.json()) == {"error", "message"}
    assert status == 404 or response.headers["Allow"]


async def test_health_readiness_metrics_and_documents_need_no_key(
    anonymous: httpx.AsyncClient, registry: CollectorRegistry
) -> None:
    Counter("crow_test_events", "Events", registry=registry).inc(3)
    health = await anonymous.get("/health")
    assert (health.status_code, health.json()) == (200, {"status": "ok"})
    assert (await anonymous.get("/ready")).status_code == 200
    metrics = await anonymous.get("/metrics")
    assert metrics.headers["Content-Type"].startswith("text/plain")
    assert "crow_test_events_total 3.0" in metrics.text
    assert (await anonymous.get("/docs")).status_code == 200


async def test_a_receiver_that_is_not_ready_says_why(anonymous: httpx.AsyncClient, readiness: ListedObstacles) -> None:
    readiness.reasons = ["the vision worker is starting", "the disk is full"]
    response = await anonymous.get("/ready")
    assert response.status_code == 503
    assert response.json() == {
        "error": "not_ready",
        "message": "the vision worker is starting; the disk is full",
        "reasons": ["the vision worker is starting", "the disk is full"],
    }


async def test_the_description_of_the_api_tells_both_forms_of_a_frame_and_the_key(anonymous: httpx.AsyncClient) -> None:
    openapi = (await anonymous.get("/openapi.json")).json()
    frames = openapi["paths"]["/api/v1/cctv/frames"]["post"]
    assert set(frames["requestBody"]["content"]) == {"multipart/form-data", "application/json"}
    assert frames["security"] == [{"APIKeyHeader": []}]
    assert openapi["components"]["securitySchemes"]["APIKeyHeader"]["name"] == "X-Internal-Key"


async def test_the_headers_of_the_gateway_are_documented(make_app: AppMaker) -> None:
    routes = make_app().openapi()["paths"]
    parameters = routes["/api/v1/cctv/frames"]["post"]["parameters"]
    assert {"X-Organization-Id", "X-User-Id"} <= {parameter["name"] for parameter in parameters}
