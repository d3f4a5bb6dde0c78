import sqlite3
from pathlib import Path

import pytest
from conftest import ManualClock

from crow_receiver.queue.embedded import EmbeddedQueue
from crow_receiver.queue.embedded_schema import migrations
from crow_receiver.queue.port import (
    INTERACTION_QUEUE,
    MAX_LEASE_S,
    MAX_MESSAGE_BYTES,
    PATTERN_QUEUE,
    REMEMBERED_US,
    Delivery,
    Depth,
    Message,
    MessageState,
)
from crow_shared.database import open_database
from crow_shared.errors import CrowError, Kind

QUEUE = INTERACTION_QUEUE


def message(message_id: str, body: bytes = b"{}", queue: str = QUEUE) -> Message:
    return Message(queue, message_id, body, {"ce-id": message_id, "content-type": "application/json"})


def publish(queue: EmbeddedQueue, *message_ids: str) -> list[bool]:
    return queue.publish_many([message(message_id) for message_id in message_ids])


def ids(deliveries: list[Delivery]) -> list[str]:
    return [delivery.message_id for delivery in deliveries]


def depth(queue: EmbeddedQueue, name: str = QUEUE) -> Depth:
    return next(depth for depth in queue.depths() if depth.queue == name)


def test_a_message_comes_out_as_it_went_in(queue: EmbeddedQueue, clock: ManualClock) -> None:
    queue.publish_many([message("m", '{"name":"Café"}'.encode())])
    (delivery,) = queue.pull(QUEUE, 10, 30)
    assert delivery.body == '{"name":"Café"}'.encode()
    assert delivery.headers == {"ce-id": "m", "content-type": "application/json"}
    assert (delivery.attempt, delivery.enqueued_us) == (1, clock.now_us())


def test_messages_are_pulled_in_the_order_of_their_arrival(queue: EmbeddedQueue) -> None:
    publish(queue, "c", "a")
    publish(queue, "b")
    assert ids(queue.pull(QUEUE, 2, 30)) == ["c", "a"]
    assert ids(queue.pull(QUEUE, 2, 30)) == ["b"]


def test_a_message_published_twice_is_on_the_queue_once(queue: EmbeddedQueue) -> None:
    assert publish(queue, "m", "n", "m") == [True, True, False]
    assert publish(queue, "n") == [False]
    assert ids(queue.pull(QUEUE, 10, 30)) == ["m", "n"]


def test_a_message_published_again_after_its_acknowledgement_stays_gone_for_the_window(
    queue: EmbeddedQueue, clock: ManualClock
) -> None:
    publish(queue, "m")
    queue.ack(QUEUE, [queue.pull(QUEUE, 1, 30)[0].lease_id])
    clock.advance(REMEMBERED_US / 1_000_000 - 1)
    assert publish(queue, "m") == [False]
    clock.advance(2)
    queue.ack(QUEUE, [])  # forgets what is past the window
    assert publish(queue, "m") == [True]


def test_tombstones_past_the_window_are_pruned_in_bounded_steps(
    queue: EmbeddedQueue, clock: ManualClock, path: Path
) -> None:
    def tombstones() -> int:
        with sqlite3.connect(path) as other:
            count = other.execute("select count(*) from tombstone").fetchone()[0]
        other.close()
        return int(count)

    for start in range(0, 250, 50):
        publish(queue, *(f"m{number}" for number in range(start, start + 50)))
        queue.ack(QUEUE, [delivery.lease_id for delivery in queue.pull(QUEUE, 100, 30)])
    clock.advance(REMEMBERED_US / 1_000_000 + 1)
    counts = []
    for _ in range(3):
        queue.ack(QUEUE, [])
        counts.append(tombstones())
    assert counts == [150, 50, 0]


def test_the_same_id_on_the_other_queue_is_another_message(queue: EmbeddedQueue) -> None:
    assert queue.publish_many([message("m"), message("m", queue=PATTERN_QUEUE)]) == [True, True]


def test_a_leased_message_is_not_handed_out_before_its_lease_ends(queue: EmbeddedQueue, clock: ManualClock) -> None:
    publish(queue, "m")
    first = queue.pull(QUEUE, 1, 30)[0]
    clock.advance(29.9)
    assert queue.pull(QUEUE, 1, 30) == []
    clock.advance(0.2)
    (second,) = queue.pull(QUEUE, 1, 30)
    assert (second.message_id, second.attempt) == ("m", 2)
    assert second.lease_id != first.lease_id


def test_an_acknowledgement_after_the_lease_is_refused_and_the_message_comes_again(
    queue: EmbeddedQueue, clock: ManualClock
) -> None:
    publish(queue, "late", "good")
    late = queue.pull(QUEUE, 1, 10)[0]
    good = queue.pull(QUEUE, 1, 60)[0]
    clock.advance(11)
    settlement = queue.ack(QUEUE, [late.lease_id, good.lease_id, "no such lease"])
    assert (settlement.settled, settlement.refused) == (1, (late.lease_id, "no such lease"))
    assert ids(queue.pull(QUEUE, 10, 30)) == ["late"]


def test_the_lease_of_an_earlier_delivery_cannot_settle_the_later_one(queue: EmbeddedQueue, clock: ManualClock) -> None:
    publish(queue, "m")
    old = queue.pull(QUEUE, 1, 10)[0]
    clock.advance(11)
    queue.pull(QUEUE, 1, 10)
    assert queue.ack(QUEUE, [old.lease_id]).refused == (old.lease_id,)
    assert queue.retry(QUEUE, [old.lease_id], 0, "late").refused == (old.lease_id,)
    assert depth(queue).leased == 1


def test_a_lease_of_the_other_queue_is_refused(queue: EmbeddedQueue) -> None:
    publish(queue, "m")
    lease = queue.pull(QUEUE, 1, 30)[0].lease_id
    assert queue.ack(PATTERN_QUEUE, [lease]).refused == (lease,)
    assert queue.ack(QUEUE, [lease]).settled == 1


def test_a_message_given_back_is_delayed_and_then_comes_before_younger_ones(
    queue: EmbeddedQueue, clock: ManualClock
) -> None:
    publish(queue, "m", "younger")
    queue.retry(QUEUE, [queue.pull(QUEUE, 1, 30)[0].lease_id], 60, "catalogue not there")
    assert queue.peek(QUEUE, 10)[0].error == "catalogue not there"
    assert queue.peek(QUEUE, 10)[0].state is MessageState.DELAYED
    clock.advance(61)
    assert ids(queue.pull(QUEUE, 2, 30)) == ["m", "younger"]


def test_a_message_that_fails_four_times_is_dead_with_its_last_error(queue: EmbeddedQueue) -> None:
    publish(queue, "m")
    for attempt in range(1, 5):
        (delivery,) = queue.pull(QUEUE, 1, 30)
        assert delivery.attempt == attempt
        settlement = queue.retry(QUEUE, [delivery.lease_id], 0, f"failure {attempt}")
    assert (settlement.settled, settlement.dead) == (0, 1)
    assert queue.pull(QUEUE, 1, 30) == []
    (letter,) = queue.dead(QUEUE, 10)
    assert (letter.message_id, letter.state, letter.attempts) == ("m", MessageState.DEAD, 4)
    assert letter.error == "failure 4"


def test_a_message_that_kills_its_consumers_is_dead_when_its_last_lease_ends(
    queue: EmbeddedQueue, clock: ManualClock
) -> None:
    publish(queue, "poison", "fine")
    for _ in range(4):
        assert ids(queue.pull(QUEUE, 1, 30)) == ["poison"]
        clock.advance(31)
    assert ids(queue.pull(QUEUE, 10, 30)) == ["fine"]
    assert queue.dead(QUEUE, 10)[0].error == "the lease ended without an acknowledgement"


def test_a_dead_message_is_not_published_again(queue: EmbeddedQueue, clock: ManualClock, path: Path) -> None:
    strict = EmbeddedQueue(path, clock, max_deliveries=1)
    publish(strict, "m")
    strict.retry(QUEUE, [strict.pull(QUEUE, 1, 30)[0].lease_id], 0, "bad")
    assert publish(queue, "m") == [False]
    strict.close()


def test_replayed_dead_letters_have_all_their_deliveries_again(clock: ManualClock, path: Path) -> None:
    queue = EmbeddedQueue(path, clock, max_deliveries=1)
    publish(queue, "a", "b", "c")
    queue.retry(QUEUE, [delivery.lease_id for delivery in queue.pull(QUEUE, 3, 30)], 0, "bad")
    assert queue.replay(QUEUE, ["b", "b", "not dead"]) == 1
    assert [(delivery.message_id, delivery.attempt) for delivery in queue.pull(QUEUE, 3, 30)] == [("b", 1)]
    assert queue.replay(QUEUE) == 2
    assert ids(queue.pull(QUEUE, 3, 30)) == ["a", "c"]
    queue.close()


def test_depths_tell_ready_leased_delayed_and_dead_apart(clock: ManualClock, path: Path) -> None:
    queue = EmbeddedQueue(path, clock, max_deliveries=2)
    publish(queue, "dead", "delayed", "leased", "ready")
    clock.advance(5)
    first, second, _ = queue.pull(QUEUE, 3, 600)
    queue.retry(QUEUE, [first.lease_id], 0, "bad")
    queue.retry(QUEUE, [queue.pull(QUEUE, 1, 30)[0].lease_id], 0, "bad")
    queue.retry(QUEUE, [second.lease_id], 60, "later")
    assert depth(queue) == Depth(QUEUE, ready=1, leased=1, delayed=1, dead=1, oldest_age_s=5.0)
    assert depth(queue, PATTERN_QUEUE) == Depth(PATTERN_QUEUE, 0, 0, 0, 0, None)
    assert {stored.message_id: stored.state for stored in queue.peek(QUEUE, 10)} == {
        "delayed": MessageState.DELAYED,
        "leased": MessageState.LEASED,
        "ready": MessageState.READY,
    }
    queue.close()


def test_peeking_leases_nothing(queue: EmbeddedQueue) -> None:
    publish(queue, "m")
    assert queue.peek(QUEUE, 10)[0].message_id == "m"
    assert queue.pull(QUEUE, 1, 30)[0].attempt == 1


@pytest.mark.parametrize("jump_s", [-10 * 365 * 86400, -3600, 3600])
def test_a_clock_that_jumps_neither_loses_nor_hides_a_message(
    queue: EmbeddedQueue, clock: ManualClock, jump_s: int
) -> None:
    publish(queue, "ready", "leased")
    queue.pull(QUEUE, 1, 30)
    clock.jump(jump_s)
    publish(queue, "newer")
    assert "leased" in ids(queue.pull(QUEUE, 10, MAX_LEASE_S))
    clock.advance(MAX_LEASE_S + 1)
    assert set(ids(queue.pull(QUEUE, 10, 30))) == {"ready", "leased", "newer"}


def test_all_messages_of_a_call_are_stored_or_none(queue: EmbeddedQueue) -> None:
    with pytest.raises(CrowError) as caught:
        queue.publish_many([message("a"), message("b", b"x" * (MAX_MESSAGE_BYTES + 1))])
    assert caught.value.kind is Kind.TOO_LARGE
    assert depth(queue).ready == 0
    assert queue.publish_many([message("b", b"x" * MAX_MESSAGE_BYTES)]) == [True]


@pytest.mark.parametrize(
    "call",
    [
        lambda queue: queue.publish_many([message("m", queue="crow-other-queue")]),
        lambda queue: queue.pull("crow-other-queue", 1, 30),
        lambda queue: queue.ack("crow-other-queue", []),
        lambda queue: queue.retry("crow-other-queue", [], 0, ""),
        lambda queue: queue.peek("crow-other-queue", 1),
        lambda queue: queue.dead("crow-other-queue", 1),
        lambda queue: queue.replay("crow-other-queue"),
    ],
)
def test_there_are_two_queues_and_no_other(queue: EmbeddedQueue, call) -> None:  # noqa: ANN001
    with pytest.raises(CrowError) as caught:
        call(queue)
    assert caught.value.kind is Kind.NOT_FOUND


@pytest.mark.parametrize(
    "call",
    [
        lambda queue: queue.pull(QUEUE, 0, 30),
        lambda queue: queue.pull(QUEUE, 101, 30),
        lambda queue: queue.pull(QUEUE, 1, 0),
        lambda queue: queue.pull(QUEUE, 1, MAX_LEASE_S + 1),
        lambda queue: queue.retry(QUEUE, [], -1, ""),
        lambda queue: queue.peek(QUEUE, 0),
    ],
)
def test_a_bound_that_is_passed_is_an_error_that_names_it(queue: EmbeddedQueue, call) -> None:  # noqa: ANN001
    with pytest.raises(CrowError, match="it can be") as caught:
        call(queue)
    assert caught.value.kind is Kind.INVALID


def test_a_full_queue_refuses_more_and_takes_it_again_once_consumed(clock: ManualClock, path: Path) -> None:
    queue = EmbeddedQueue(path, clock, max_file_bytes=1 << 20)
    for number in range(10):
        queue.publish_many([message(f"m{number}", b"x" * 110_000)])
    with pytest.raises(CrowError, match="is there a consumer") as caught:
        publish(queue, "one too many")
    assert caught.value.kind is Kind.EXHAUSTED
    assert depth(queue).ready == 10
    queue.ack(QUEUE, [delivery.lease_id for delivery in queue.pull(QUEUE, 5, 30)])
    assert publish(queue, "one too many") == [True]
    queue.close()


def test_what_was_published_is_there_after_opening_again(clock: ManualClock, path: Path) -> None:
    first = EmbeddedQueue(path, clock)
    publish(first, "m")
    lease = first.pull(QUEUE, 1, 30)[0].lease_id
    first.close()
    again = EmbeddedQueue(path, clock)
    assert again.ack(QUEUE, [lease]).settled == 1
    again.close()


def test_a_file_that_another_process_holds_locked_is_unavailable_for_now(
    queue: EmbeddedQueue, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue._connection.execute("pragma busy_timeout = 10")
    other = open_database(path, migrations)
    other.execute("begin immediate")
    with pytest.raises(CrowError) as caught:
        publish(queue, "m")
    assert caught.value.kind is Kind.UNAVAILABLE
    other.execute("rollback")
    other.close()
    assert publish(queue, "m") == [True]


def test_a_damaged_file_is_said_to_be_damaged(clock: ManualClock, path: Path) -> None:
    path.write_bytes(b"no database at all, but long enough to look like one" * 100)
    with pytest.raises(CrowError) as caught:
        EmbeddedQueue(path, clock)
    assert caught.value.kind is Kind.CORRUPT
