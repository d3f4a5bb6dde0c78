import json

import httpx
import pytest
from conftest import ManualClock

from crow_receiver.queue.embedded import EmbeddedQueue
from crow_receiver.queue.port import INTERACTION_QUEUE, PATTERN_QUEUE, Message

URL = f"/api/v1/cctv/queues/{INTERACTION_QUEUE}/messages"
BODY = {"organizationId": "org-9", "frameAnalyses": []}


@pytest.fixture(autouse=True)
def published(queue: EmbeddedQueue) -> None:
    body = json.dumps(BODY).encode()
    queue.publish_many([Message(INTERACTION_QUEUE, f"m{number}", body, {"ce-id": f"m{number}"}) for number in (1, 2)])


@pytest.fixture
def consumer(http: httpx.AsyncClient) -> httpx.AsyncClient:
    """A service that has the key and speaks for no organization."""
    del http.headers["X-Organization-Id"]
    return http


async def test_a_consumer_pulls_and_acknowledges(consumer: httpx.AsyncClient, clock: ManualClock) -> None:
    response = await consumer.post(f"{URL}:pull", json={"maxMessages": 1, "leaseSeconds": 60})
    (message,) = response.json()["messages"]
    lease = message.pop("leaseId")
    assert message == {
        "messageId": "m1",
        "attempt": 1,
        "enqueuedAt": clock.now_us() // 1000,
        "headers": {"ce-id": "m1"},
        "body": BODY,
    }
    answer = await consumer.post(f"{URL}:ack", json={"leaseIds": [lease, "gone"]})
    assert (answer.status_code, answer.json()) == (200, {"acked": 1, "refused": ["gone"]})
    again = await consumer.post(f"{URL}:pull", json={})
    assert [message["messageId"] for message in again.json()["messages"]] == ["m2"]


async def test_a_consumer_gives_a_message_back(
    consumer: httpx.AsyncClient, queue: EmbeddedQueue, clock: ManualClock
) -> None:
    pulled = (await consumer.post(f"{URL}:pull", json={})).json()["messages"]
    leases = [message["leaseId"] for message in pulled]
    answer = await consumer.post(f"{URL}:retry", json={"leaseIds": leases, "delaySeconds": 5, "error": "no catalogue"})
    assert answer.json() == {"retried": 2, "dead": 0, "refused": []}
    assert queue.peek(INTERACTION_QUEUE, 1)[0].error == "no catalogue"
    assert (await consumer.post(f"{URL}:pull", json={})).json() == {"messages": []}
    clock.advance(6)
    assert len((await consumer.post(f"{URL}:pull", json={})).json()["messages"]) == 2


async def test_depths_are_told_for_both_queues(consumer: httpx.AsyncClient) -> None:
    answer = (await consumer.get("/api/v1/cctv/queues")).json()["queues"]
    assert [(depth["queue"], depth["ready"]) for depth in answer] == [(INTERACTION_QUEUE, 2), (PATTERN_QUEUE, 0)]


@pytest.mark.parametrize("verb", ["pull", "ack", "retry"])
async def test_a_queue_that_is_not_there_is_not_found(consumer: httpx.AsyncClient, verb: str) -> None:
    body = {} if verb == "pull" else {"leaseIds": ["x"]}
    response = await consumer.post(f"/api/v1/cctv/queues/other/messages:{verb}", json=body)
    assert (response.status_code, response.json()["error"]) == (404, "queue_unknown")


@pytest.mark.parametrize(
    ("verb", "body"),
    [
        ("pull", {"maxMessages": 101}),
        ("pull", {"leaseSeconds": 0}),
        ("pull", {"limit": 5}),
        ("ack", {"leaseIds": []}),
        ("ack", {"leaseIds": ["x"] * 101}),
        ("retry", {"leaseIds": ["x"], "delaySeconds": -1}),
    ],
)
async def test_a_request_beyond_the_bounds_is_a_bad_request(
    consumer: httpx.AsyncClient, verb: str, body: dict[str, object]
) -> None:
    assert (await consumer.post(f"{URL}:{verb}", json=body)).status_code == 400
