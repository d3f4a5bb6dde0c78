"""The queues' depths as Prometheus metrics, read when they are scraped."""

from collections.abc import Iterator

import structlog
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from crow_receiver.queue.port import MessageState, OutputQueue
from crow_shared.errors import CrowError

log = structlog.get_logger()


class QueueCollector(Collector):
    """To be registered once; a scrape costs one count of each queue."""

    def __init__(self, queue: OutputQueue) -> None:
        self._queue = queue

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """The families without samples, so that registering does not read the queue."""
        yield _messages()
        yield _oldest_age()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The depths now; nothing while the queue cannot be read."""
        messages, oldest_age = _messages(), _oldest_age()
        try:
            depths = self._queue.depths()
        except CrowError as error:
            log.warning("the queues' depths cannot be read", code=error.code, error=error.message)
            return  # the other metrics are needed now more than ever
        for depth in depths:
            for state in MessageState:
                messages.add_metric([depth.queue, state], getattr(depth, state))
            oldest_age.add_metric([depth.queue], depth.oldest_age_s or 0)
        yield messages
        yield oldest_age


def _messages() -> GaugeMetricFamily:
    return GaugeMetricFamily("crow_receiver_queue_messages", "Messages on a queue by state", labels=["queue", "state"])


def _oldest_age() -> GaugeMetricFamily:
    name = "crow_receiver_queue_oldest_age_seconds"
    return GaugeMetricFamily(name, "Age of the oldest message that is not dead", labels=["queue"])
