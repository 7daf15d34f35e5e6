"""A warm request: calgate beside bare nginx and beside Apache with mod_auth_gssapi, mod_authnz_ldap and mod_proxy.

All sides stand before the same backend and are asked in turn, in one run: load and backend on core 0, the side under
load alone on core 1, one worker, 32 kept connections, a browser's headers, signed in, a sign-on header set, no access
log; where a scenario says nothing else. Two workers have both cores, and share them with the load.
"""

import contextlib
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from bench import fleet, load, sides
from bench.fleet import Ground, Side
from bench.load import Figures
from bench.results import Result, knob

ROUNDS = knob("ROUNDS", 3)
SECONDS = knob("SECONDS", 3)

THREE = ("nginx", "Apache", "calgate")
LOGGED = ("Apache with access log", "calgate with access log")
ASKING = "nginx with forward-auth"


@dataclass(frozen=True)
class Scenario:
    """What is asked for, of whom, over how many connections; goals for calgate's CPU time against nginx and Apache."""

    name: str
    path: str
    sides: tuple[str, ...] = THREE
    connections: int = 32
    body: int = 0  # bytes sent with each request
    workers: int = 1
    to_nginx: float | None = None
    to_apache: float | None = None


SCENARIOS = (
    Scenario("1 KB", "/1k", (*THREE, *LOGGED, ASKING), to_nginx=3.0, to_apache=0.3),
    Scenario("100 KB", "/100k", (*THREE, *LOGGED), to_nginx=1.3),
    Scenario("10 MB", "/10m", connections=8),
    Scenario("1 KB up", "/up", body=1 << 10),
    Scenario("10 MB up", "/up", body=10 << 20, connections=4),
    Scenario("WebSocket messages", "/live"),
    Scenario("1 KB, 1 connection", "/1k", connections=1),
    Scenario("1 KB, 1000 connections", "/1k", connections=1000),
    Scenario("1 KB, 2 workers", "/1k", workers=2),
)


def measure() -> Iterator[Result]:
    """Starts everything, asks all sides in turn, and ends everything."""
    with fleet.ground() as ground, contextlib.ExitStack() as stack:
        started: dict[int, dict[str, Side]] = {1: {}, 2: {}}
        for workers, side in _all_sides(ground):
            running = stack.enter_context(side)
            started[workers][running.name] = running
        for scenario in SCENARIOS:
            yield from _compare(scenario, started[scenario.workers])


def _all_sides(ground: Ground) -> Iterator[tuple[int, contextlib.AbstractContextManager[Side]]]:
    """Each with its number of workers."""
    for workers in (1, 2):
        yield workers, fleet.nginx(ground, workers=workers)
        yield workers, fleet.apache(ground, workers=workers)
        yield workers, fleet.calgate(ground, workers=workers)
    yield 1, fleet.apache(ground, LOGGED[0], access=True)
    yield 1, fleet.calgate(ground, LOGGED[1], access=True)
    yield 1, fleet.asking_nginx(ground, ASKING)


def _compare(scenario: Scenario, started: dict[str, Side]) -> Iterator[Result]:
    rounds = [{name: _ask(started[name], scenario) for name in scenario.sides} for _ in range(ROUNDS)]
    for name in scenario.sides:
        yield from _figures(f"{scenario.name}: {name}", [figures[name] for figures in rounds], name.startswith("cal"))
    yield from _ratios(scenario, rounds)


def _ask(side: Side, scenario: Scenario) -> Figures:
    target = load.Target(f"{side.origin}{scenario.path}", side.cookie, side.pids)
    if scenario.path == "/live":
        return load.talk(target, seconds=SECONDS, connections=scenario.connections)
    cores = sides.LOAD if scenario.workers == 1 else sides.BOTH
    ask = partial(load.run, target, connections=scenario.connections, body=scenario.body, cores=cores)
    return ask(seconds=SECONDS)


def _figures(name: str, figures: list[Figures], is_ours: bool) -> Iterator[Result]:
    def median(of: Callable[[Figures], float]) -> float:
        return statistics.median(of(one) for one in figures)

    yield Result(f"{name}: CPU", median(lambda f: f.cpu), "µs")
    yield Result(f"{name}: rate", median(lambda f: f.rate), "1/s")
    yield Result(f"{name}: p50", median(lambda f: f.p50), "ms")
    yield Result(f"{name}: p99", median(lambda f: f.p99), "ms")
    yield Result(f"{name}: errors", sum(f.errors for f in figures), "times", goal=0 if is_ours else None)


def _ratios(scenario: Scenario, rounds: list[dict[str, Figures]]) -> Iterator[Result]:
    def ratio(one: str, other: str, goal: float | None = None) -> Iterator[Result]:
        if one in scenario.sides and other in scenario.sides:
            value = statistics.median(figures[one].cpu / (figures[other].cpu or 1) for figures in rounds)
            yield Result(f"{scenario.name}: {one} / {other}: CPU", value, "x", goal=goal)

    yield from ratio("calgate", "nginx", scenario.to_nginx)
    yield from ratio("calgate", "Apache", scenario.to_apache)
    yield from ratio(LOGGED[1], LOGGED[0])
    yield from ratio(ASKING, "nginx")
    yield from ratio(ASKING, "Apache")
