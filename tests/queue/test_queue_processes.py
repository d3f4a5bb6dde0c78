"""The queue's promises when several processes use its file, and when one of them is killed."""

import subprocess
import sys
import textwrap
from pathlib import Path

from crow_receiver.queue.embedded import EmbeddedQueue
from crow_receiver.queue.port import INTERACTION_QUEUE, Message
from crow_shared.clock import SystemClock

QUEUE = INTERACTION_QUEUE

PUBLISHER = """
    import itertools, sys
    from pathlib import Path
    from crow_receiver.queue.embedded import EmbeddedQueue
    from crow_receiver.queue.port import INTERACTION_QUEUE, Message
    from crow_shared.clock import SystemClock

    queue = EmbeddedQueue(Path(sys.argv[1]), SystemClock())
    for number in itertools.count(int(sys.argv[2])):
        group = [Message(INTERACTION_QUEUE, f"{number}/{part}", b"{}" * 500, {}) for part in range(4)]
        queue.publish_many(group)
        print(number, flush=True)
"""

CONSUMER = """
    import sys
    from pathlib import Path
    from crow_receiver.queue.embedded import EmbeddedQueue
    from crow_receiver.queue.port import INTERACTION_QUEUE
    from crow_shared.clock import SystemClock

    queue = EmbeddedQueue(Path(sys.argv[1]), SystemClock())
    deliveries = queue.pull(INTERACTION_QUEUE, 3, 600)
    print("ready", flush=True)
    sys.stdin.readline()
    while deliveries:
        for delivery in deliveries:
            print(delivery.message_id, flush=True)
        deliveries = queue.pull(INTERACTION_QUEUE, 3, 600)
"""


def start(script: str, *arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", textwrap.dedent(script), *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_a_publisher_killed_at_work_loses_nothing_that_it_was_told_is_stored(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    confirmed: list[int] = []
    for kill in range(6):
        with start(PUBLISHER, str(path), str(kill * 10_000)) as publisher:
            assert publisher.stdout is not None
            confirmed += [int(publisher.stdout.readline()) for _ in range(10 + 7 * kill)]
            publisher.kill()
            # What it had printed before it died counts, too; a line cut in half does not.
            confirmed += [int(line) for line in publisher.stdout if line.endswith("\n")]
    queue = EmbeddedQueue(path, SystemClock())
    stored = []
    while deliveries := queue.pull(QUEUE, 100, 600):
        stored += [delivery.message_id for delivery in deliveries]
    queue.close()
    assert len(stored) == len(set(stored))
    assert {f"{number}/{part}" for number in confirmed for part in range(4)} <= set(stored)
    groups = [message_id.partition("/")[0] for message_id in stored]
    assert all(groups.count(group) == 4 for group in set(groups)), "a group is stored whole or not at all"


def test_two_processes_that_pull_at_once_never_get_the_same_message(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    queue = EmbeddedQueue(path, SystemClock())
    published = [f"m{number}" for number in range(300)]
    queue.publish_many([Message(QUEUE, message_id, b"{}", {}) for message_id in published])
    with start(CONSUMER, str(path)) as one, start(CONSUMER, str(path)) as other:
        for consumer in (one, other):
            assert consumer.stdout is not None
            assert consumer.stdin is not None
            assert consumer.stdout.readline() == "ready\n"
        for consumer in (one, other):
            print("go", file=consumer.stdin, flush=True)
        pulled = [consumer.stdout.read().split() for consumer in (one, other)]
    queue.close()
    assert all(pulled), "both had a share"
    assert sorted(pulled[0] + pulled[1]) == sorted(published)
