"""The http_* metrics that vLLM's web server keeps beside the engine's."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, Summary

# Too busy with itself to be counted: what probes and scrapers ask for.
_UNCOUNTED = frozenset({"/metrics", "/health", "/load", "/ping", "/version", "/server_info"})
_HIGH_RESOLUTION = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 7.5, 10,
    30, 60,
)  # fmt: skip


class HttpMetrics:
    """Counts requests by handler, once each, when they are answered."""

    def __init__(self) -> None:
        """Start all counters at 0, in no registry yet."""
        self._requests = Counter(
            "http_requests",
            "Total number of requests by method, status and handler.",
            ("method", "status", "handler"),
            registry=None,
        )
        only = "Only value of header is respected. Otherwise ignored. No percentile calculated. "
        self._request_bytes = Summary(
            "http_request_size_bytes",
            f"Content length of incoming requests by handler. {only}",
            ("handler",),
            registry=None,
        )
        self._response_bytes = Summary(
            "http_response_size_bytes",
            f"Content length of outgoing responses by handler. {only}",
            ("handler",),
            registry=None,
        )
        self._seconds_fine = Histogram(
            "http_request_duration_highr_seconds",
            "Latency with many buckets but no API specific labels. Made for more accurate"
            " percentile calculations. ",
            buckets=_HIGH_RESOLUTION,
            registry=None,
        )
        self._seconds = Histogram(
            "http_request_duration_seconds",
            "Latency with only few buckets by handler. Made to be only used if aggregation by"
            " handler is important. ",
            ("method", "handler"),
            buckets=(0.1, 0.5, 1),
            registry=None,
        )

    def register(self, registry: CollectorRegistry) -> None:
        """Show the counters in a registry."""
        for metric in (
            self._requests,
            self._request_bytes,
            self._response_bytes,
            self._seconds_fine,
            self._seconds,
        ):
            registry.register(metric)

    def answered(
        self, method: str, path: str, status: int, sizes: tuple[int, int], seconds: float
    ) -> None:
        """Count a request; `sizes` are the content lengths of request and response."""
        if path in _UNCOUNTED:
            return
        self._requests.labels(method, f"{status // 100}xx", path).inc()
        self._request_bytes.labels(path).observe(sizes[0])
        self._response_bytes.labels(path).observe(sizes[1])
        self._seconds_fine.observe(seconds)
        self._seconds.labels(method, path).observe(seconds)
