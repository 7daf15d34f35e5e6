"""A warm request: calgate compared with nginx and with Apache with mod_auth_gssapi, mod_authnz_ldap and mod_proxy.

All proxies forward to the same backend and are loaded in turn, in one run. Unless a scenario says otherwise: load
and backend on core 0, the proxy under load alone on core 1, one worker, 32 kept connections, a browser's headers,
signed in, a sign-on header set, no access log. Two workers have both cores, and share them with the load.
"""

import contextlib
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench import load, proxies, servers, two_trees
from bench.load import GET, Measurement, Requests
from bench.proxies import Proxy, Testbed
from bench.results import Result, knob

ROUNDS = knob("ROUNDS", 3)
SECONDS = knob("SECONDS", 3)
DEARER = 1.03  # at most 3 % dearer than another checkout
COMMONEST = ("1 KB", "100 KB")

THREE = ("nginx", "Apache", "calgate")
SESSIONS = 200  # that the requests of the long scenario use in turn
COMMAND = '<update mark="0123456789abcdef" stamp="1" scope="Document" view="sales.qvw"><set name="x"/></update>'
LOGGED = ("Apache with access log", "calgate with access log")
FORWARD_AUTH = "nginx with forward-auth"


@dataclass(frozen=True)
class Scenario:
    """A load, the proxies that take it in turn, and goals for calgate's CPU time against nginx and Apache."""

    name: str
    path: str
    proxies: tuple[str, ...] = THREE
    connections: int = 32
    requests: Requests = GET
    seconds: int | None = None  # of each run, where it must not be shorter
    workers: int = 1
    to_nginx: float | None = None
    to_apache: float | None = None
    slowest: float | None = None  # milliseconds: the goal for p99


SCENARIOS = (
    Scenario("1 KB", "/1k", (*THREE, *LOGGED, FORWARD_AUTH), to_nginx=1.8, to_apache=0.45),
    Scenario("1 KB, another Referer each time", "/1k", requests=Requests(has_own_referer=True), to_nginx=2.5),
    Scenario(
        "QlikView's command",
        "/QvAJAXZfc/QvsViewClient.aspx?mark=0123456789abcdef&view=sales.qvw",
        requests=Requests(COMMAND.encode(), "text/plain"),
    ),
    Scenario("1 KB, two document servers", "/two/1k"),
    Scenario("1 KB, TLS on both sides", "/1k", ("nginx with TLS", "calgate with TLS")),
    Scenario("100 KB", "/100k", (*THREE, *LOGGED), to_nginx=1.3),
    Scenario("10 MB", "/10m", connections=8),
    Scenario("1 KB up", "/up", requests=Requests(b"x" * (1 << 10)), to_nginx=1.9, to_apache=0.85),
    Scenario("10 MB up", "/up", requests=Requests(b"x" * (10 << 20)), connections=4),
    Scenario("WebSocket messages", "/live"),
    Scenario("1 KB, 1 connection", "/1k", connections=1, to_nginx=1.9, to_apache=0.85),
    Scenario("1 KB, 1000 connections", "/1k", connections=1000, to_nginx=1.8, slowest=300),
    Scenario(
        f"1 KB, 1000 connections, {SESSIONS} sessions, 10 s",
        "/1k",
        ("nginx", "Apache", f"calgate with {SESSIONS} sessions"),
        connections=1000,
        seconds=10,
        slowest=300,
    ),
    Scenario("1 KB, 2 workers", "/1k", workers=2),
)


def measure() -> Iterator[Result]:
    """Starts everything, loads all proxies in turn, and stops everything."""
    with proxies.testbed() as testbed, contextlib.ExitStack() as stack:
        started: dict[int, dict[str, Proxy]] = {1: {}, 2: {}}
        for workers, proxy in _all_proxies(testbed):
            running = stack.enter_context(proxy)
            started[workers][running.name] = running
        for scenario in SCENARIOS:
            yield from _compare(scenario, started[scenario.workers])


def compare(checkout: Path) -> Iterator[Result]:
    """Compares the two commonest scenarios with another checkout's gateway."""
    python = two_trees.python_of(checkout)
    with (
        proxies.testbed() as testbed,
        proxies.calgate(testbed) as ours,
        proxies.calgate(testbed, "the other calgate", python=python) as theirs,
    ):
        for scenario in (one for one in SCENARIOS if one.name in COMMONEST):
            here, there = (partial(_cpu, gateway, scenario) for gateway in (ours, theirs))
            yield from two_trees.compare(scenario.name, here, there, goal=DEARER)


def _cpu(proxy: Proxy, scenario: Scenario) -> float:
    figures = _load(proxy, scenario)
    if figures.errors:
        raise SystemExit(f"{proxy.name}: {figures.errors} errors")
    return figures.cpu


def _all_proxies(testbed: Testbed) -> Iterator[tuple[int, contextlib.AbstractContextManager[Proxy]]]:
    """Yields each with its number of workers."""
    for workers in (1, 2):
        yield workers, proxies.nginx(testbed, workers=workers)
        yield workers, proxies.apache(testbed, workers=workers)
        yield workers, proxies.calgate(testbed, workers=workers)
    yield 1, proxies.apache(testbed, LOGGED[0], access=True)
    yield 1, proxies.calgate(testbed, LOGGED[1], access=True)
    yield 1, proxies.nginx(testbed, "nginx with TLS", tls=True)
    yield 1, proxies.calgate(testbed, "calgate with TLS", tls=True)
    yield 1, proxies.calgate(testbed, f"calgate with {SESSIONS} sessions", sessions=SESSIONS)
    yield 1, proxies.nginx_with_forward_auth(testbed, FORWARD_AUTH)


def _compare(scenario: Scenario, started: dict[str, Proxy]) -> Iterator[Result]:
    rounds = [{name: _load(started[name], scenario) for name in scenario.proxies} for _ in range(ROUNDS)]
    for name in scenario.proxies:
        yield from _figures(scenario, name, [figures[name] for figures in rounds])
    yield from _ratios(scenario, rounds)


def _load(proxy: Proxy, scenario: Scenario) -> Measurement:
    target = load.Target(f"{proxy.origin}{scenario.path}", proxy.cookies, proxy.pids)
    if scenario.path == "/live":
        return load.run_websockets(target, seconds=SECONDS, connections=scenario.connections)
    cores = servers.LOAD if scenario.workers == 1 else servers.BOTH
    seconds = scenario.seconds or SECONDS
    return load.run(target, scenario.requests, seconds=seconds, connections=scenario.connections, cores=cores)


def _figures(scenario: Scenario, proxy: str, figures: list[Measurement]) -> Iterator[Result]:
    name, is_ours = f"{scenario.name}: {proxy}", proxy.startswith("calgate")

    def median(of: Callable[[Measurement], float]) -> float:
        return statistics.median(of(one) for one in figures)

    yield Result(f"{name}: CPU", median(lambda f: f.cpu), "µs")
    yield Result(f"{name}: kernel", median(lambda f: f.kernel), "µs")
    yield Result(f"{name}: rate", median(lambda f: f.rate), "1/s")
    yield Result(f"{name}: p50", median(lambda f: f.p50), "ms")
    yield Result(f"{name}: p99", median(lambda f: f.p99), "ms", goal=scenario.slowest if is_ours else None)
    yield Result(f"{name}: errors", sum(f.errors for f in figures), "times", goal=0 if is_ours else None)


def _ratios(scenario: Scenario, rounds: list[dict[str, Measurement]]) -> Iterator[Result]:
    def ratio(one: str, other: str, goal: float | None = None) -> Iterator[Result]:
        if one in scenario.proxies and other in scenario.proxies:
            value = statistics.median(figures[one].cpu / (figures[other].cpu or 1) for figures in rounds)
            yield Result(f"{scenario.name}: {one} / {other}: CPU", value, "x", goal=goal)

    ours = next(name for name in scenario.proxies if name.startswith("calgate"))
    yield from ratio(ours, "nginx", scenario.to_nginx)
    yield from ratio(ours, "Apache", scenario.to_apache)
    yield from ratio("calgate with TLS", "nginx with TLS")
    yield from ratio(LOGGED[1], LOGGED[0])
    yield from ratio(FORWARD_AUTH, "nginx")
    yield from ratio(FORWARD_AUTH, "Apache")
