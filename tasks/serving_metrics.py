"""What a server tells Prometheus of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.online import Scored

if TYPE_CHECKING:
    from tasks.served import ServedProblem

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class ServingMetrics:
    """A registry of its own, so that two servers in one process do not count for each other."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self.registry = CollectorRegistry()
        self._requests = Counter(
            "modelkeep_requests", "Answers by route and HTTP status.", ["route", "code"], registry=self.registry
        )
        self._seconds = Histogram(
            "modelkeep_request_seconds", "Time to answer.", ["route"], buckets=SECONDS, registry=self.registry
        )
        self._rows = Counter(
            "modelkeep_rows", "Rows by whether they were scored.", ["problem", "outcome"], registry=self.registry
        )
        self._batches = Histogram(
            "modelkeep_batch_rows", "Rows that the model was asked at once.", ["problem"], buckets=ROWS,
            registry=self.registry,
        )  # fmt: skip
        self._waiting = Gauge(
            "modelkeep_rows_waiting", "Rows in the queue.", ["problem"], registry=self.registry
        )  # fmt: skip
        self._version = Gauge(
            "modelkeep_version", "Number of the version in use.", ["problem"], registry=self.registry
        )  # fmt: skip
        self._faults = Counter(
            "modelkeep_follow_faults", "Champions that could not be followed.", ["problem"], registry=self.registry
        )

    def count_request(self, route: str, code: int, seconds: float) -> None:
        self._requests.labels(route, str(code)).inc()
        self._seconds.labels(route).observe(seconds)

    def count_rows(self, problem: str, scored: Scored) -> None:
        self._rows.labels(problem, "scored").inc(len(scored.good))
        self._rows.labels(problem, "set_aside").inc(len(scored.set_aside))

    def count_batch(self, problem: str, num_rows: int) -> None:
        self._batches.labels(problem).observe(num_rows)

    def count_fault(self, problem: str) -> None:
        self._faults.labels(problem).inc()

    def watch(self, served: ServedProblem) -> None:
        """Queue and version, read when they are asked for."""
        name = served.problem.name
        self._waiting.labels(name).set_function(lambda: served.queue.rows_waiting)
        self._version.labels(name).set_function(lambda: served.version.number)

    def render(self) -> tuple[bytes, str]:
        """The text, and its content type."""
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

        return generate_latest(self.registry), CONTENT_TYPE_LATEST
