"""CAL claims and a function that does nothing, on the same server in the same run, with 10 to 1,000,000 leases out.

Sixteen clients (redis-benchmark) on a unix socket; the empty function gets the same keys and arguments. "New" claims
are granted and recorded; "renewed" claims find the claimant's lease. Rounds alternate, and medians are printed. A claim
that records its use writes two sorted sets. Leaving them behind and correcting them when somebody counts was tried:
where uses are hours apart each of them is written after all, and a renewed claim with a million leases took 39.2 µs
instead of 33.9. With the last uses spread over eight hours, a renewed claim as it is took 2.2, 3.8 and 6.1 times as
long as the empty function with 10, 10,000 and 1,000,000 leases, on a busy machine.

So the goals are those of a claim that writes both sets: what the library's second version reached beside the same empty
function, less a twelfth for what this one records as well. In turn on one server, the second version's renewed claims
reached 0.43, 0.34 and 0.23, its new ones 0.27, 0.29 and 0.24; this version's took 1.00 to 1.06 times as long. The
slowest hundredth of renewed claims took 1.7 to 2.1 times as long with a million leases as with 10, in four runs.
"""

import csv
import json
import statistics
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis import Redis

from bench.results import Result
from calgate_cal import lua
from calgate_cal.settings import License
from calgate_cal.terms import encode
from support.redis_servers import Server

SIZES = (10, 10_000, 1_000_000)
# how much of the server's CPU time for a claim, new or renewed, an empty function takes as well: rates move by 2 x
GOALS = {10: (0.25, 0.39), 10_000: (0.26, 0.31), 1_000_000: (0.22, 0.21)}
# how many times as long the slowest hundredth may take: a renewed claim moves its lease within both sets
GROWTH = {"new": 1.5, "renewed": 2.2}
ROUNDS = 3
CALLS = 30_000
TOUCHED = 500
BENCH = """
redis.register_function(VERSION .. 'nothing', function() return {'granted'} end)
redis.register_function(VERSION .. 'fill', function(keys, args)
  for number = tonumber(args[1]), tonumber(args[2]) do
    local user = string.format('%012d', number)
    local id = claim(keys, {user, 'CORP\\\\user', 'pc', 'sales.qvw', '', 'r', '', '', '', ''})[3]
    settle(keys, {'session', user, 'pc', 'sales.qvw', id, 'r', '1'})
  end
  return redis.call('ZCARD', keys[5])
end)
"""


@dataclass(frozen=True, slots=True)
class Measurement:
    """Calls a second, percentiles in milliseconds, and the server's CPU time a call in microseconds."""

    cpu: float
    rate: float
    p50: float
    p99: float


class Bench:
    """A server with a license of a million Session CALs."""

    def __init__(self, folder: Path) -> None:
        self.server = Server(folder).start()
        self.redis = Redis.from_url(self.server.url, protocol=2, socket_timeout=60)
        self.redis.function_load(lua.source() + BENCH, replace=True)
        self.keys = lua.keys("bench", "none")

    def call(self, function: str, *args: Any) -> Any:
        """Calls a function of the library."""
        return self.redis.execute_command("FCALL", f"{lua.VERSION}_{function}", len(self.keys), *self.keys, *args)

    def fill(self, size: int) -> float:
        """Makes a license with so many leases out, of users 0, 1, …; returns the bytes that one lease takes."""
        self.keys = lua.keys("bench", f"q{size}")
        license = License.model_validate({"session": {"in_license": 1_000_000, "overdraft": 1_000_000}})
        self.call("configure", "bench", encode(license, _Terms()))  # type: ignore[arg-type]
        before = int(self.redis.info("memory")["used_memory"])
        for start in range(0, size, 10_000):
            self.call("fill", start, min(start + 10_000, size) - 1)
        return (int(self.redis.info("memory")["used_memory"]) - before) / size

    def cpu(self) -> float:
        """Returns the CPU seconds of the server."""
        used = self.redis.info("cpu")
        return float(used["used_cpu_user"]) + float(used["used_cpu_sys"])

    def measure(self, function: str, user: str, space: int) -> Measurement:
        """Runs redis-benchmark; __rand_int__ in `user` becomes a number below `space`."""
        words = [
            "redis-benchmark",
            "-s",
            self.server.socket,
            "-c",
            "16",
            "-n",
            str(CALLS),
            "--csv",
        ]
        words += ["-r", str(space), "FCALL", f"{lua.VERSION}_{function}", str(len(self.keys)), *self.keys]
        words += [user, "CORP\\user", "pc", "sales.qvw", "", "r", "", "", "", ""]
        before = self.cpu()
        output = subprocess.run(words, check=True, capture_output=True, text=True, timeout=120).stdout
        row = next(csv.DictReader(output.splitlines()))
        cpu = (self.cpu() - before) / CALLS * 1e6
        return Measurement(cpu, float(row["rps"]), float(row["p50_latency_ms"]), float(row["p99_latency_ms"]))


class _Terms:
    """The attributes of a store that `encode` reads."""

    prefix = "bench"
    audit_keep = 86400.0


def measure() -> Iterator[Result]:
    """Measures claims with each number of leases, and a touch."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        try:
            yield from _claims(bench)
        finally:
            bench.redis.close()
            bench.server.stop()


def _claims(bench: Bench) -> Iterator[Result]:
    slowest: dict[tuple[str, int], float] = {}
    for size in SIZES:
        memory = bench.fill(size)
        runs: dict[str, list[Measurement]] = {"nothing": [], "new": [], "renewed": []}
        for number in range(ROUNDS):
            runs["nothing"].append(bench.measure("nothing", "__rand_int__", size))
            runs["renewed"].append(bench.measure("claim", "__rand_int__", size))
            runs["nothing"].append(bench.measure("nothing", "__rand_int__", size))
            runs["new"].append(bench.measure("claim", f"new{size}.{number}.__rand_int__", 10**9))
        for what, figures in runs.items():
            yield Result(f"cal: {size}: {what}", _median([f.rate for f in figures]), "1/s")
            yield Result(f"cal: {size}: {what}: CPU a call", _median([f.cpu for f in figures]), "µs")
            yield Result(f"cal: {size}: {what}: p50", _median([f.p50 for f in figures]), "ms")
            yield Result(f"cal: {size}: {what}: p99", _median([f.p99 for f in figures]), "ms")
            slowest[what, size] = _median([f.p99 for f in figures])
        cpu = {what: _median([f.cpu for f in figures]) for what, figures in runs.items()}
        for what, goal in zip(("new", "renewed"), GOALS[size], strict=True):
            yield Result(f"cal: {size}: nothing, to {what}: CPU", cpu["nothing"] / cpu[what], "x", goal, at_least=True)
        if size == SIZES[-1]:
            yield Result("cal: memory a lease, its two records included", memory, "bytes")
            yield Result(f"cal: a touch in a batch of {TOUCHED}", _touch(bench), "µs CPU")
    for what in ("new", "renewed"):
        growth = slowest[what, SIZES[-1]] / slowest[what, SIZES[0]]
        yield Result(f"cal: {what}: p99 with 1,000,000 leases, to 10", growth, "x", GROWTH[what])


def _touch(bench: Bench) -> float:
    """Returns the microseconds of CPU time for each lease, JSON included."""
    _, *texts = bench.call("holders", "0", str(TOUCHED))
    leases = [json.loads(text) for text in texts]
    batch = json.dumps([["session", it["id"], 0, 0, it["user"], "CORP\\user", "pc", "sales.qvw", ""] for it in leases])
    before = bench.cpu()
    for _ in range(40):
        assert bench.call("touch", batch) == []
    return (bench.cpu() - before) / 40 / len(leases) * 1e6


def _median(values: Sequence[float]) -> float:
    return statistics.median(values)
