"""Figures: counted here in plain numbers, since a request has 50 µs; written for Prometheus by its own library."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

_COUNTERS = {
    "requests": ("Requests answered, by status.", "status"),
    "refusals": ("Requests refused, by the refusal's code.", "code"),
    "sign_ins": ("Sign-ins, by mechanism.", "mechanism"),
    "cals": ("Claims granted, by kind of CAL.", "kind"),
    "upstream_failures": ("Failures to reach a document server, by server.", "upstream"),
}
_GAUGES = {
    "connections": "Client connections open now.",
    "sessions": "Sessions that this worker has a copy of.",
    "websockets": "WebSockets open now.",
    "loop_lag_seconds": "How late the event loop was at its last look.",
}


class Metrics:
    """One worker's figures since it started."""

    def __init__(self) -> None:
        self._counts: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._buckets: dict[str, list[int]] = {}
        self._sums: defaultdict[str, float] = defaultdict(float)
        self.gauges: dict[str, float] = {}
        self.loop_lag = 0.0

    def count(self, name: str, label: str) -> None:
        """One more; `name` is one of the counters above."""
        self._counts[(name, label)] += 1

    def observe(self, stage: str, seconds: float) -> None:
        """A stage of a request took so long: "sign-in", "claim", "upstream" (to the reply's head), "whole"."""
        buckets = self._buckets.get(stage)
        if buckets is None:
            buckets = self._buckets[stage] = [0] * (len(_BOUNDS) + 1)
        buckets[bisect_left(_BOUNDS, seconds)] += 1
        self._sums[stage] += seconds

    def snapshot(self) -> dict[str, object]:
        """All figures, as JSON can carry them to the parent."""
        return {
            "counters": [[name, label, value] for (name, label), value in self._counts.items()],
            "stages": [[stage, buckets, self._sums[stage]] for stage, buckets in self._buckets.items()],
            "gauges": self.gauges | {"loop_lag_seconds": max(0.0, self.loop_lag)},
        }


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
        yield from self._stages()
        yield from self._gauges()

    def _counters(self) -> Iterator[Metric]:
        for name, (description, label) in _COUNTERS.items():
            family = CounterMetricFamily(f"calgate_{name}", description, labels=["worker", label])
            for worker, figures in self._workers.items():
                for counted, value_of, value in figures.get("counters", ()):
                    if counted == name:
                        family.add_metric([worker, value_of], value)
            yield family

    def _stages(self) -> Iterator[Metric]:
        family = HistogramMetricFamily(
            "calgate_stage_seconds", "How long the stages of a request took.", labels=["worker", "stage"]
        )
        for worker, figures in self._workers.items():
            for stage, buckets, total in figures.get("stages", ()):
                family.add_metric([worker, stage], _cumulative(buckets), total)
        yield family

    def _gauges(self) -> Iterator[Metric]:
        for name, description in _GAUGES.items():
            family = GaugeMetricFamily(f"calgate_{name}", description, labels=["worker"])
            for worker, figures in self._workers.items():
                if name in figures.get("gauges", {}):
                    family.add_metric([worker], figures["gauges"][name])
            yield family


def _cumulative(buckets: list[int]) -> list[tuple[str, float]]:
    running = 0
    rows: list[tuple[str, float]] = []
    for bound, count in zip([*map(str, _BOUNDS), "+Inf"], buckets, strict=True):
        running += count
        rows.append((bound, running))
    return rows
