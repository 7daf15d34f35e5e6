"""Figures: counted here in plain numbers, since a request has 50 µs; written for Prometheus by its own library."""

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
    "requests": ("Requests answered, by status.", ("status",)),
    "refusals": ("Requests refused, by the refusal's code.", ("code",)),
    "sign_ins": ("Sign-ins, by mechanism.", ("mechanism",)),
    "claims": ("Claims granted, by kind of CAL.", ("kind",)),
    "upstream_failures": ("Failures to reach a document server, by server.", ("upstream",)),
    "store_calls": ("Calls of the store, by what was asked and how it ended.", ("operation", "outcome")),
    "directory_calls": ("Questions to the directories, and how they ended.", ("operation", "outcome")),
}
_HISTOGRAMS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "stage_seconds": ("How long the stages of a request took.", ("stage",)),
    "store_call_seconds": ("How long the store took to answer.", ("operation",)),
    "directory_call_seconds": ("How long the directories took to answer, from their cache or not.", ("operation",)),
    "loop_lag_seconds": ("How late the event loop was at its look at the clock, once a second.", ()),
}
_GAUGES = {
    "connections": "Client connections open now.",
    "sessions": "Sessions that this worker has a copy of.",
    "websockets": "WebSockets open now.",
}
_OF_THE_STORE = {  # the same from every worker and every gateway: no sum over them means anything
    "cals_in_use": "CALs that are out or in quarantine, of the whole store.",
    "cals_limit": "CALs that may be out, of the whole store.",
}


class Metrics:
    """One worker's figures since it started."""

    def __init__(self) -> None:
        self._counts: defaultdict[tuple[str, ...], int] = defaultdict(int)
        self._times: dict[tuple[str, ...], _Times] = {}
        self.gauges: dict[str, float] = {}
        self.cals: dict[str, object] = {}  # as `occupancy.py` tells them

    def count(self, name: str, label: str) -> None:
        """One more; `name` is one of the counters above that have one label."""
        self._counts[(name, label)] += 1

    def observe(self, stage: str, seconds: float) -> None:
        """A stage of a request took so long: "sign-in", "claim", "upstream" (to the reply's head), "whole"."""
        self._time(("stage_seconds", stage), seconds)

    def called(self, whom: Literal["store", "directory"], operation: str, outcome: str, seconds: float) -> None:
        """Somebody outside this process was asked, and this is how it ended."""
        self._counts[(f"{whom}_calls", operation, outcome)] += 1
        self._time((f"{whom}_call_seconds", operation), seconds)

    def lagged(self, seconds: float) -> None:
        """The event loop came so much later than it was asked to."""
        self._time(("loop_lag_seconds",), max(0.0, seconds))

    def _time(self, key: tuple[str, ...], seconds: float) -> None:
        times = self._times.get(key)
        if times is None:
            times = self._times[key] = _Times()
        times.buckets[bisect_left(_BOUNDS, seconds)] += 1
        times.total += seconds

    def snapshot(self) -> dict[str, object]:
        """All figures, as JSON can carry them to the parent."""
        return {
            "counters": [[*key, value] for key, value in self._counts.items()],
            "times": [[*key, times.buckets, times.total] for key, times in self._times.items()],
            "gauges": self.gauges,
            "cals": self.cals,
        }


class _Times:
    """How often a thing took how long."""

    __slots__ = ("buckets", "total")

    def __init__(self) -> None:
        self.buckets = [0] * (len(_BOUNDS) + 1)
        self.total = 0.0


@lru_cache(256)
def operation(name: str) -> str:
    """What a call of the store goes by: a function without its library's version, which an upgrade changes."""
    return re.sub(r"_v\d+_", "_", name).lower()


def exposition(workers: Mapping[str, Mapping[str, Any]]) -> str:
    """The text that Prometheus reads; each worker's figures under its number."""
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
            for worker, figures in self._workers.items():
                for counted, *values, count in figures.get("counters", ()):
                    if counted == name:
                        family.add_metric([worker, *values], count)
            yield family

    def _histograms(self) -> Iterator[Metric]:
        for name, (description, labels) in _HISTOGRAMS.items():
            family = HistogramMetricFamily(f"calgate_{name}", description, labels=["worker", *labels])
            for worker, figures in self._workers.items():
                for timed, *values, buckets, total in figures.get("times", ()):
                    if timed == name:
                        family.add_metric([worker, *values], _cumulative(buckets), total)
            yield family

    def _gauges(self) -> Iterator[Metric]:
        for name, description in _GAUGES.items():
            family = GaugeMetricFamily(f"calgate_{name}", description, labels=["worker"])
            for worker, figures in self._workers.items():
                if name in figures.get("gauges", {}):
                    family.add_metric([worker], figures["gauges"][name])
            yield family

    def _cals(self) -> Iterator[Metric]:
        """Once, whichever worker asked last; none where the store does not answer."""
        told = [figures["cals"] for figures in self._workers.values() if figures.get("cals")]
        pools = max(told, key=lambda cals: float(cals["at"]))["pools"] if told else ()
        for number, (name, description) in enumerate(_OF_THE_STORE.items()):
            family = GaugeMetricFamily(f"calgate_{name}", description, labels=["license", "kind"])
            for license, kind, *figures in pools:
                family.add_metric([license, kind], figures[number])
            yield family


def _cumulative(buckets: list[int]) -> list[tuple[str, float]]:
    running = 0
    rows: list[tuple[str, float]] = []
    for bound, count in zip([*map(str, _BOUNDS), "+Inf"], buckets, strict=True):
        running += count
        rows.append((bound, running))
    return rows
