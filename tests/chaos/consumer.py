"""A consumer that notes what it is delivered, then acknowledges; now and then it dies in between.

Arguments: the receiver's state directory, the file to note deliveries in, a seed.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from counted_line import QUEUES

from crow_receiver.queue.embedded import MAX_DELIVERIES, EmbeddedQueue
from crow_shared.clock import SystemClock
from crow_shared.errors import CrowError

LEASE_S = 1.5
IDLE_S = 0.2
DIES = 0.05  # of the times that it has taken something


def main() -> None:
    """Consumes until it is told to stop, or dies."""
    state_dir, notes, seed = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    chance = random.Random(f"{seed} {time.time_ns()}")
    told_to_stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: told_to_stop.append(number))
    queue = EmbeddedQueue(state_dir / "queue.db", SystemClock())
    written = os.open(notes, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    while not told_to_stop:
        taken = 0
        for name in QUEUES:
            try:
                deliveries = queue.pull(name, 20, LEASE_S)
                taken += len(deliveries)
                lines = [json.dumps(json.loads(delivery.body)) + "\n" for delivery in deliveries]
                os.write(written, "".join(lines).encode())
                fresh = all(delivery.attempt < MAX_DELIVERIES - 1 for delivery in deliveries)
                if deliveries and fresh and chance.random() < DIES:
                    os.kill(os.getpid(), signal.SIGKILL)
                if deliveries:
                    queue.ack(name, [delivery.lease_id for delivery in deliveries])
            except CrowError as error:
                if not error.retryable:
                    raise
        if not taken:
            time.sleep(IDLE_S)
    queue.close()


main()
