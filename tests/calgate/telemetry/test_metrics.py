"""Figures where nothing answers, and how those of several workers are told as one."""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import pytest
from prometheus_client.parser import text_string_to_metric_families

from calgate.licensing import pool_metrics
from calgate.plugin.errors import AccountRefused, Unavailable
from calgate.plugin.identity import Identity, Person
from calgate.plugin.licensing import LicenseInfo, Pool
from calgate.store import StoreSection, open_store
from calgate.telemetry.metrics import Metrics, exposition
from calgate.tracing.instrumented import InstrumentedDirectory

ALICE = Identity("DEMO", "alice", "ntlm")


def counters(metrics: Metrics) -> list[object]:
    return cast("list[object]", metrics.snapshot()["counters"])


async def test_call_to_an_unreachable_store_is_counted_as_unavailable(tmp_path: Path) -> None:
    metrics = Metrics()
    async with open_store(StoreSection(url=f"unix://{tmp_path}/nobody"), tmp_path, metrics) as store:
        with pytest.raises(Unavailable):
            await store.execute("GET", "x")
        with pytest.raises(Unavailable):
            await store.call("calgate_cal_v1_claim", ["k"])
    assert counters(metrics) == [
        ["store_calls", "get", "unavailable", 1],
        ["store_calls", "calgate_cal_claim", "unavailable", 1],
    ]


class Moody:
    """A directory that does what it is told."""

    def __init__(self, answer: Person | Exception | None) -> None:
        self.answer = answer

    async def look_up(self, identity: Identity) -> Person | None:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def resolve(self, groups: Sequence[str]) -> Mapping[str, str | None]:
        return dict.fromkeys(groups)


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (Person("S-1", "DEMO", "alice", "Alice", frozenset()), "found"),
        (None, "unknown"),
        (AccountRefused("disabled"), "refused"),
        (Unavailable("no server"), "unavailable"),
        (RuntimeError("a bug"), "error"),
    ],
)
async def test_every_outcome_of_a_directory_query_is_counted(answer: Person | Exception | None, outcome: str) -> None:
    metrics = Metrics()
    with contextlib.suppress(Exception):
        await InstrumentedDirectory(Moody(answer), metrics, None).look_up(ALICE)
    assert counters(metrics) == [["directory_calls", "look_up", outcome, 1]]


class Books:
    """The one question that figures ask of an allocator."""

    licenses: Mapping[str, LicenseInfo] = {"qlikview": LicenseInfo()}

    def __init__(self) -> None:
        self.is_away = False

    async def pools(self, license: str) -> Sequence[Pool]:
        if self.is_away:
            raise Unavailable("no store")
        return [Pool("session", 6, 5)]


async def test_cal_metrics_are_absent_while_the_store_is_unreachable() -> None:
    books, metrics = Books(), Metrics()
    for is_away, told in ((False, {"at": 7, "pools": [["qlikview", "session", 5, 6]]}), (True, {})):
        books.is_away = is_away
        counting = asyncio.create_task(pool_metrics.keep_counting(books, metrics, clock=lambda: 7))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        counting.cancel()
        assert metrics.cals == told


def test_cal_metrics_are_those_of_the_worker_that_read_them_last() -> None:
    def worker(at: float, in_use: int) -> dict[str, object]:
        return {"cals": {"at": at, "pools": [["qlikview", "session", in_use, 6]]}}

    text = exposition({"0": worker(10, 3), "1": worker(12, 4), "2": {"cals": {}}, "3": {}})
    [family] = [f for f in text_string_to_metric_families(text) if f.name == "calgate_cals_in_use"]
    assert [(sample.labels, sample.value) for sample in family.samples] == [
        ({"license": "qlikview", "kind": "session"}, 4)
    ]
