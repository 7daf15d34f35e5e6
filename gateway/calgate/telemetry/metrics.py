"""Metrics: counted in plain numbers, since a request takes 50 µs; Prometheus' own library writes the exposition."""

import re
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import version
from typing import Any, Literal

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from calgate.plugin.errors import refusal_codes
from calgate.plugin.licensing import CAL_KINDS, DENIAL_REASONS

_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

_BOUNDS_OF = {"queue_wait_seconds": (1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0)}

_COUNTERS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "requests": ("Responses, by status.", ("status",)),
    "refusals": ("Requests refused, by the refusal's code.", ("code",)),
    "sign_ins": ("Sign-ins, by mechanism.", ("mechanism",)),
    "claims": ("Claims granted, by kind of CAL.", ("kind",)),
    "denials": ("Claims denied, by license and reason; a waiting page's polls are not counted.", ("license", "reason")),
    "upstream_failures": ("Failures to reach a document server, by server.", ("upstream",)),
    "store_calls": ("Calls to the store, by operation and outcome.", ("operation", "outcome")),
    "directory_calls": ("Queries to the directories, by operation and outcome.", ("operation", "outcome")),
}
_HISTOGRAMS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "stage_seconds": ("Duration of the stages of a request.", ("stage",)),
    "store_call_seconds": ("Duration of calls to the store.", ("operation",)),
    "directory_call_seconds": ("Duration of queries to the directories, cached or not.", ("operation",)),
    "queue_wait_seconds": ("Time in the queue until a CAL was granted.", ("license",)),
    "loop_lag_seconds": ("Lag of the event loop, measured once a second.", ()),
}
_GAUGES = {
    "connections": "Open client connections.",
    "sessions": "Sessions cached by this worker.",
    "websockets": "Open WebSockets.",
}
_OF_THE_STORE = {  # every worker and every gateway has the same values: use max, never sum
    "cals_in_use": "CALs in use or in quarantine, in the whole store.",
    "cals_limit": "CALs that can be in use, in the whole store.",
    "cals_anonymous": "CALs in use by browsers that did not sign in, in the whole store; part of those in use.",
}
_QUEUE = ("queue_waiting", "Users who wait for a CAL, in the whole store.")  # use max, never sum
_UPSTREAM = (
    "upstream_up",
    "Whether the document server responds: by its health check, or else by the latest requests.",
)

_CONNECTIONS = ("calgate_upstream_connections", "Connections to the document server, without those of WebSockets.")
_WAITING = ("calgate_upstream_waiting", "Requests that wait for a connection to the document server.")

_OUTCOMES: Mapping[str, Sequence[str]] = {
    "store": ("ok", "unavailable", "error"),
    "directory": ("found", "unknown", "unavailable", "refused", "error"),
}


class Metrics:
    """One worker's metrics since it started."""

    def __init__(self) -> None:
        self._counts: defaultdict[tuple[str, ...], int] = defaultdict(int)
        self.expect("refusals", refusal_codes())
        self.expect("claims", CAL_KINDS)
        for operation in ("look_up", "resolve"):
            self.expect_calls("directory", operation)
        self._times: dict[tuple[str, ...], _Times] = {}
        # for each request, so by plain keys: making a tuple takes as long as everything else
        self._responses: defaultdict[int, int] = defaultdict(int)  # by status
        self.gauges: dict[str, float] = {}
        self.cals: dict[str, object] = {}  # as licensing/pool_metrics.py sets them
        self.upstreams: Mapping[str, bool] = {}  # whether each document server responds
        # of each document server: connections in use, idle ones, requests that wait for one
        self.upstream_connections: Mapping[str, tuple[int, int, int]] = {}

    def count(self, name: str, label: str) -> None:
        """Adds one; `name` is one of the counters above with one label."""
        self._counts[(name, label)] += 1

    def responded(self, status: int) -> None:
        """Counts a response; one of "requests"."""
        self._responses[status] += 1

    def expect_responses(self, statuses: Iterable[int]) -> None:
        """Starts the counters of these statuses at 0."""
        for status in statuses:
            self._responses[status] += 0

    def expect(self, name: str, labels: Iterable[str]) -> None:
        """Starts counters at 0: a counter that appears with 1 hides its first event from `increase()`."""
        for label in labels:
            self._counts[(name, label)] += 0

    def expect_license(self, license: str) -> None:
        """Starts the counters of a license at 0."""
        for reason in DENIAL_REASONS:
            self._counts[("denials", license, reason)] += 0
        self._times_of(("queue_wait_seconds", license))

    def denied(self, license: str, reason: str) -> None:
        """Counts a denied claim."""
        self._counts[("denials", license, reason)] += 1

    def waited(self, license: str, seconds: float) -> None:
        """Records a wait in the queue that a granted CAL ended."""
        self._time(("queue_wait_seconds", license), seconds)

    def expect_calls(self, whom: Literal["store", "directory"], operation: str) -> None:
        """Starts the counters of an operation at 0."""
        for outcome in _OUTCOMES[whom]:
            self._counts[(f"{whom}_calls", operation, outcome)] += 0

    def observe(self, stage: str, seconds: float) -> None:
        """Records the duration of a stage: "sign-in", "claim", "upstream" (until its response begins), "whole"."""
        self.timer(stage)(seconds)

    def timer(self, stage: str) -> Callable[[float], None]:
        """Returns the function that records one stage, for what happens with each request."""
        return self._times_of(("stage_seconds", stage)).add

    def called(self, whom: Literal["store", "directory"], operation: str, outcome: str, seconds: float) -> None:
        """Records a call to the store or a directory, and its outcome."""
        if (f"{whom}_calls", operation, outcome) not in self._counts:
            self.expect_calls(whom, operation)
        self._counts[(f"{whom}_calls", operation, outcome)] += 1
        self._time((f"{whom}_call_seconds", operation), seconds)

    def lagged(self, seconds: float) -> None:
        """Records the lag of the event loop."""
        self._time(("loop_lag_seconds",), max(0.0, seconds))

    def _time(self, key: tuple[str, ...], seconds: float) -> None:
        (self._times.get(key) or self._times_of(key)).add(seconds)

    def _times_of(self, key: tuple[str, ...]) -> "_Times":
        return self._times.setdefault(key, _Times(_BOUNDS_OF.get(key[0], _BOUNDS)))

    def snapshot(self) -> dict[str, object]:
        """Returns all metrics in a form that JSON carries to the parent."""
        return {
            "counters": [
                *([*key, value] for key, value in self._counts.items()),
                *(["requests", str(status), count] for status, count in self._responses.items()),
            ],
            "times": [[*key, times.buckets, times.total] for key, times in self._times.items()],
            "gauges": self.gauges,
            "cals": self.cals,
            "upstreams": self.upstreams,
            "upstream_connections": self.upstream_connections,
        }


class _Times:
    """A histogram."""

    __slots__ = ("bounds", "buckets", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.buckets = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        self.buckets[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds


@lru_cache(256)
def operation(name: str) -> str:
    """Returns the label of a call to the store: a function without its library's version, which an upgrade changes."""
    return re.sub(r"_v\d+_", "_", name).lower()


@dataclass
class Reloads:
    """Whether the last reload of the settings succeeded, and when one last did; the start counts as one."""

    successful: bool = True
    last_success: float = field(default_factory=time.time)

    def succeeded(self) -> None:
        self.successful, self.last_success = True, time.time()

    def failed(self) -> None:
        self.successful = False


def exposition(
    workers: Mapping[str, Mapping[str, Any]],
    dependencies: Mapping[str, bool] | None = None,
    reloads: Reloads | None = None,
    certificates: Mapping[str, float] | None = None,
) -> str:
    """Returns the text that Prometheus reads, with each worker's metrics under its number.

    `certificates` has the Unix time at which each file's certificate expires.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Snapshots(workers))
    registry.register(_Service(dependencies or {}, reloads or Reloads(), certificates or {}))
    return generate_latest(registry).decode()


class _Snapshots(Collector):
    def __init__(self, workers: Mapping[str, Mapping[str, Any]]) -> None:
        self._workers = workers

    def collect(self) -> Iterator[Metric]:
        yield from self._counters()
        yield from self._histograms()
        yield from self._gauges()
        yield from self._upstreams()
        yield from self._cals()

    def _counters(self) -> Iterator[Metric]:
        for name, (description, labels) in _COUNTERS.items():
            family = CounterMetricFamily(f"calgate_{name}", description, labels=["worker", *labels])
            for worker, metrics in self._workers.items():
                for counted, *values, count in metrics.get("counters", ()):
                    if counted == name:
                        family.add_metric([worker, *values], count)
            yield family

    def _histograms(self) -> Iterator[Metric]:
        for name, (description, labels) in _HISTOGRAMS.items():
            family = HistogramMetricFamily(f"calgate_{name}", description, labels=["worker", *labels])
            for worker, metrics in self._workers.items():
                for timed, *values, buckets, total in metrics.get("times", ()):
                    if timed == name:
                        family.add_metric([worker, *values], _cumulative(_BOUNDS_OF.get(name, _BOUNDS), buckets), total)
            yield family

    def _gauges(self) -> Iterator[Metric]:
        for name, description in _GAUGES.items():
            family = GaugeMetricFamily(f"calgate_{name}", description, labels=["worker"])
            for worker, metrics in self._workers.items():
                if name in metrics.get("gauges", {}):
                    family.add_metric([worker], metrics["gauges"][name])
            yield family

    def _upstreams(self) -> Iterator[Metric]:
        name, description = _UPSTREAM
        family = GaugeMetricFamily(f"calgate_{name}", description, labels=["upstream", "worker"])
        for worker, metrics in self._workers.items():
            for upstream, is_up in metrics.get("upstreams", {}).items():
                family.add_metric([upstream, worker], is_up)
        yield family
        connections = GaugeMetricFamily(*_CONNECTIONS, labels=["upstream", "state", "worker"])
        waiting = GaugeMetricFamily(*_WAITING, labels=["upstream", "worker"])
        for worker, metrics in self._workers.items():
            for upstream, (in_use, idle, count) in metrics.get("upstream_connections", {}).items():
                connections.add_metric([upstream, "in-use", worker], in_use)
                connections.add_metric([upstream, "idle", worker], idle)
                waiting.add_metric([upstream, worker], count)
        yield from (connections, waiting)

    def _cals(self) -> Iterator[Metric]:
        """Yields the metrics of CALs once, from the worker with the latest; none if the store does not respond."""
        reported = [metrics["cals"] for metrics in self._workers.values() if metrics.get("cals")]
        latest: Mapping[str, Any] = max(reported, key=lambda cals: float(cals["at"]), default={})
        pools = latest.get("pools", ())
        for number, (name, description) in enumerate(_OF_THE_STORE.items()):
            family = GaugeMetricFamily(f"calgate_{name}", description, labels=["license", "kind"])
            for license, kind, *values in pools:
                family.add_metric([license, kind], values[number])
            yield family
        name, description = _QUEUE
        family = GaugeMetricFamily(f"calgate_{name}", description, labels=["license"])
        for license, waiting in latest.get("waiting", ()):
            family.add_metric([license], waiting)
        yield family


class _Service(Collector):
    """The metrics of the parent: of the service as a whole."""

    def __init__(self, dependencies: Mapping[str, bool], reloads: Reloads, certificates: Mapping[str, float]) -> None:
        self._dependencies = dependencies
        self._reloads = reloads
        self._certificates = certificates

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily(
            "calgate_dependency_up", "Whether the store and the directory respond.", labels=["dependency"]
        )
        for name, is_up in self._dependencies.items():
            up.add_metric([name], is_up)
        yield up
        yield GaugeMetricFamily(
            "calgate_config_last_reload_successful",
            "Whether the last reload of the settings succeeded.",
            value=self._reloads.successful,
        )
        yield GaugeMetricFamily(
            "calgate_config_last_reload_success_timestamp_seconds",
            "Unix time of the last successful reload, or of the start.",
            value=self._reloads.last_success,
        )
        expiry = GaugeMetricFamily(
            "calgate_certificate_expiry_timestamp_seconds",
            "Unix time at which a certificate of the listener expires.",
            labels=["file"],
        )
        for file, expires in self._certificates.items():
            expiry.add_metric([file], expires)
        yield expiry
        info = GaugeMetricFamily("calgate_build_info", "The version of calgate; always 1.", labels=["version"])
        info.add_metric([version("calgate")], 1)
        yield info


def _cumulative(bounds: Sequence[float], buckets: list[int]) -> list[tuple[str, float]]:
    running = 0
    rows: list[tuple[str, float]] = []
    for bound, count in zip([*map(str, bounds), "+Inf"], buckets, strict=True):
        running += count
        rows.append((bound, running))
    return rows
