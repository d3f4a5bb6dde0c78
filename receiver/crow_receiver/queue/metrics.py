"""The queues' depths as Prometheus metrics, read when they are scraped."""

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from crow_receiver.queue.port import MessageState, OutputQueue


class QueueCollector(Collector):
    """To be registered once; a scrape costs one count of each queue."""

    def __init__(self, queue: OutputQueue) -> None:
        self._queue = queue

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """The families without samples, so that registering does not read the queue."""
        yield _messages()
        yield _oldest_age()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The depths now."""
        messages, oldest_age = _messages(), _oldest_age()
        for depth in self._queue.depths():
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
