"""Metrics: counted in plain numbers, since a request takes 50 µs; Prometheus' own library writes the exposition."""

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Literal

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

_COUNTERS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "requests": ("Responses, by status.", ("status",)),
    "refusals": ("Requests refused, by the refusal's code.", ("code",)),
    "sign_ins": ("Sign-ins, by mechanism.", ("mechanism",)),
    "claims": ("Claims granted, by kind of CAL.", ("kind",)),
    "upstream_failures": ("Failures to reach a document server, by server.", ("upstream",)),
    "store_calls": ("Calls to the store, by operation and outcome.", ("operation", "outcome")),
    "directory_calls": ("Queries to the directories, by operation and outcome.", ("operation", "outcome")),
}
_HISTOGRAMS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "stage_seconds": ("Duration of the stages of a request.", ("stage",)),
    "store_call_seconds": ("Duration of calls to the store.", ("operation",)),
    "directory_call_seconds": ("Duration of queries to the directories, cached or not.", ("operation",)),
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
}


class Metrics:
    """One worker's metrics since it started."""

    def __init__(self) -> None:
        self._counts: defaultdict[tuple[str, ...], int] = defaultdict(int)
        self._times: dict[tuple[str, ...], _Times] = {}
        self.gauges: dict[str, float] = {}
        self.cals: dict[str, object] = {}  # as licensing/pool_metrics.py sets them

    def count(self, name: str, label: str) -> None:
        """Adds one; `name` is one of the counters above with one label."""
        self._counts[(name, label)] += 1

    def observe(self, stage: str, seconds: float) -> None:
        """Records the duration of a stage: "sign-in", "claim", "upstream" (until its response begins), "whole"."""
        self._time(("stage_seconds", stage), seconds)

    def called(self, whom: Literal["store", "directory"], operation: str, outcome: str, seconds: float) -> None:
        """Records a call to the store or a directory, and its outcome."""
        self._counts[(f"{whom}_calls", operation, outcome)] += 1
        self._time((f"{whom}_call_seconds", operation), seconds)

    def lagged(self, seconds: float) -> None:
        """Records the lag of the event loop."""
        self._time(("loop_lag_seconds",), max(0.0, seconds))

    def _time(self, key: tuple[str, ...], seconds: float) -> None:
        times = self._times.get(key)
        if times is None:
            times = self._times[key] = _Times()
        times.buckets[bisect_left(_BOUNDS, seconds)] += 1
        times.total += seconds

    def snapshot(self) -> dict[str, object]:
        """Returns all metrics in a form that JSON carries to the parent."""
        return {
            "counters": [[*key, value] for key, value in self._counts.items()],
            "times": [[*key, times.buckets, times.total] for key, times in self._times.items()],
            "gauges": self.gauges,
            "cals": self.cals,
        }


class _Times:
    """A histogram."""

    __slots__ = ("buckets", "total")

    def __init__(self) -> None:
        self.buckets = [0] * (len(_BOUNDS) + 1)
        self.total = 0.0


@lru_cache(256)
def operation(name: str) -> str:
    """Returns the label of a call to the store: a function without its library's version, which an upgrade changes."""
    return re.sub(r"_v\d+_", "_", name).lower()


def exposition(workers: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns the text that Prometheus reads, with each worker's metrics under its number."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Snapshots(workers))
    return generate_latest(registry).decode()


class _Snapshots(Collector):
    def __init__(self, workers: Mapping[str, Mapping[str, Any]]) -> None:
        self._workers = workers

    def collect(self) -> Iterator[Metric]:
        yield from self._counters()
        yield from self._histograms()
        yield from self._gauges()
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
                        family.add_metric([worker, *values], _cumulative(buckets), total)
            yield family

    def _gauges(self) -> Iterator[Metric]:
        for name, description in _GAUGES.items():
            family = GaugeMetricFamily(f"calgate_{name}", description, labels=["worker"])
            for worker, metrics in self._workers.items():
                if name in metrics.get("gauges", {}):
                    family.add_metric([worker], metrics["gauges"][name])
            yield family

    def _cals(self) -> Iterator[Metric]:
        """Yields the metrics of CALs once, from the worker with the latest; none if the store does not respond."""
        reported = [metrics["cals"] for metrics in self._workers.values() if metrics.get("cals")]
        pools = max(reported, key=lambda cals: float(cals["at"]))["pools"] if reported else ()
        for number, (name, description) in enumerate(_OF_THE_STORE.items()):
            family = GaugeMetricFamily(f"calgate_{name}", description, labels=["license", "kind"])
            for license, kind, *values in pools:
                family.add_metric([license, kind], values[number])
            yield family


def _cumulative(buckets: list[int]) -> list[tuple[str, float]]:
    running = 0
    rows: list[tuple[str, float]] = []
    for bound, count in zip([*map(str, _BOUNDS), "+Inf"], buckets, strict=True):
        running += count
        rows.append((bound, running))
    return rows
