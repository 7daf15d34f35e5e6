"""Metrics while nothing responds, and those of several workers together."""

import ast
import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import cast

import pytest
from prometheus_client.parser import text_string_to_metric_families

from calgate.licensing import pool_metrics
from calgate.plugin import errors
from calgate.plugin.errors import AccountRefused, Unavailable
from calgate.plugin.identity import Identity, Person
from calgate.plugin.licensing import LicenseInfo, NoCal, Pool
from calgate.store import StoreSection, open_store
from calgate.telemetry.metrics import Metrics, Reloads, exposition
from calgate.tracing.instrumented import InstrumentedDirectory

ALICE = Identity("DEMO", "alice", "ntlm")


def counters(metrics: Metrics) -> list[object]:
    """The counters that are not 0."""
    return [counter for counter in cast("list[list[object]]", metrics.snapshot()["counters"]) if counter[-1]]


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
    """A directory whose results the test sets."""

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
    """The part of an allocator that the metrics read."""

    licenses: Mapping[str, LicenseInfo] = {"qlikview": LicenseInfo()}

    def __init__(self) -> None:
        self.is_away = False

    async def pools(self, license: str) -> Sequence[Pool]:
        if self.is_away:
            raise Unavailable("no store")
        return [Pool("session", 6, 5, anonymous=2)]

    async def waiting(self, license: str) -> int:
        return 2


async def test_cal_metrics_are_absent_while_the_store_is_unreachable() -> None:
    books, metrics = Books(), Metrics()
    read = {"at": 7, "pools": [["qlikview", "session", 5, 6, 2]], "waiting": [["qlikview", 2]]}
    for is_away, told in ((False, read), (True, {})):
        books.is_away = is_away
        counting = asyncio.create_task(pool_metrics.keep_counting(books, metrics, clock=lambda: 7))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        counting.cancel()
        assert metrics.cals == told


def test_cal_metrics_are_those_of_the_worker_that_read_them_last() -> None:
    def worker(at: float, in_use: int) -> dict[str, object]:
        return {"cals": {"at": at, "pools": [["qlikview", "session", in_use, 6, 1]]}}

    text = exposition({"0": worker(10, 3), "1": worker(12, 4), "2": {"cals": {}}, "3": {}})
    [family] = [f for f in text_string_to_metric_families(text) if f.name == "calgate_cals_in_use"]
    assert [(sample.labels, sample.value) for sample in family.samples] == [
        ({"license": "qlikview", "kind": "session"}, 4)
    ]
    [anonymous] = [f for f in text_string_to_metric_families(text) if f.name == "calgate_cals_anonymous"]
    assert [(sample.labels, sample.value) for sample in anonymous.samples] == [
        ({"license": "qlikview", "kind": "session"}, 1)
    ]


# ---------------------------------------------------------------- a first event must be an increase from 0


def code_literals() -> set[str]:
    """Every code that the source gives a refusal by `code="…"`."""
    root = Path(__file__).parents[3]
    files = [*(root / "gateway").rglob("*.py"), *(root / "plugins").rglob("*.py")]
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in files]
    calls = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return {
        keyword.value.value
        for call in calls
        if isinstance(call.func, ast.Name) and call.func.id in vars(errors) | {"NoCal": None}
        for keyword in call.keywords
        if keyword.arg == "code" and isinstance(keyword.value, ast.Constant) and isinstance(keyword.value.value, str)
    }


def test_every_code_of_a_refusal_in_the_source_is_among_the_known_ones() -> None:
    assert len(code_literals()) > 8
    assert code_literals() <= errors.refusal_codes()


def test_counters_begin_at_zero() -> None:
    metrics = Metrics()
    metrics.expect("sign_ins", ["kerberos"])
    found = {tuple(row[:-1]): row[-1] for row in cast("list[list[object]]", metrics.snapshot()["counters"])}
    assert found[("refusals", "no-cal")] == found[("refusals", "account-locked")] == 0
    assert found[("claims", "session")] == found[("sign_ins", "kerberos")] == 0
    assert found[("directory_calls", "look_up", "unavailable")] == 0
    metrics.called("store", "get", "ok", 0.1)
    found = {tuple(row[:-1]): row[-1] for row in cast("list[list[object]]", metrics.snapshot()["counters"])}
    assert (found[("store_calls", "get", "ok")], found[("store_calls", "get", "unavailable")]) == (1, 0)


async def test_functions_of_a_library_are_counted_from_zero(tmp_path: Path) -> None:
    metrics = Metrics()
    async with open_store(StoreSection(url=f"unix://{tmp_path}/nobody"), tmp_path, metrics) as store:
        source = "redis.register_function(VERSION .. 'claim', claim)\nredis.register_function('probe_v2_count', count)"
        store.library("calgate_cal_v3", source)
    found = {tuple(row[:-1]): row[-1] for row in cast("list[list[object]]", metrics.snapshot()["counters"])}
    assert found[("store_calls", "calgate_cal_claim", "unavailable")] == 0
    assert found[("store_calls", "probe_count", "unavailable")] == 0


def test_dependency_that_is_away_and_failed_reload_are_metrics_of_the_service() -> None:
    reloads = Reloads()
    reloads.failed()
    text = exposition({}, {"store": False, "directory": True}, reloads)
    values = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert values["calgate_dependency_up", "store"] == 0
    assert values["calgate_dependency_up", "directory"] == 1
    assert values["calgate_config_last_reload_successful",] == 0
    assert values["calgate_config_last_reload_success_timestamp_seconds",] > 1e9
    assert ("calgate_build_info", version("calgate")) in values


def values_of(text: str) -> dict[tuple[str, ...], float]:
    """Every sample, by its name and the values of its labels in the order of their names."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_denials_and_waits_of_a_license_begin_at_zero_and_are_counted_by_reason() -> None:
    metrics = Metrics()
    metrics.expect_license("qlikview")
    before = values_of(exposition({"0": metrics.snapshot()}))
    assert before["calgate_denials_total", "qlikview", "full", "0"] == 0
    assert before["calgate_queue_wait_seconds_count", "qlikview", "0"] == 0
    metrics.denied("qlikview", "full")
    metrics.waited("qlikview", 90)
    after = values_of(exposition({"0": metrics.snapshot()}))
    assert after["calgate_denials_total", "qlikview", "full", "0"] == 1
    assert after["calgate_queue_wait_seconds_bucket", "60.0", "qlikview", "0"] == 0
    assert after["calgate_queue_wait_seconds_bucket", "120.0", "qlikview", "0"] == 1
    assert after["calgate_queue_wait_seconds_sum", "qlikview", "0"] == 90


@pytest.mark.parametrize(
    ("notes", "code", "reason"),
    [
        (("not-assigned", "full"), None, "full"),
        (("not-assigned", "reserved"), None, "reserved"),
        (("not-assigned",), None, "not-assigned"),
        ((), None, "no-cals"),
        (("taken-over",), "taken-over", "taken-over"),
    ],
)
def test_reason_of_a_denial_is_that_of_the_pool_that_came_nearest(
    notes: Sequence[str], code: str | None, reason: str
) -> None:
    pools = [Pool("session", 1, 1, note=note) for note in notes]
    assert NoCal("", license="q", document="a", pools=pools, code=code).reason == reason


def test_queue_upstreams_and_certificates_are_exported() -> None:
    cals = {"at": 1, "pools": [], "waiting": [["qlikview", 3]]}
    worker = {
        "cals": cals,
        "upstreams": {"http://a": True, "http://b": False},
        "upstream_connections": {"http://a": (5, 2, 1)},
    }
    values = values_of(exposition({"0": worker}, certificates={"/etc/calgate/tls.pem": 2e9}))
    assert values["calgate_queue_waiting", "qlikview"] == 3
    assert (values["calgate_upstream_up", "http://a", "0"], values["calgate_upstream_up", "http://b", "0"]) == (1, 0)
    assert values["calgate_upstream_connections", "in-use", "http://a", "0"] == 5
    assert values["calgate_upstream_connections", "idle", "http://a", "0"] == 2
    assert values["calgate_upstream_waiting", "http://a", "0"] == 1
    assert values["calgate_certificate_expiry_timestamp_seconds", "/etc/calgate/tls.pem"] == 2e9
