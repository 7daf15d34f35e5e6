"""A quarter of an hour of every kind of load at once, with the memory of workers and store in each second.

Browsers on kept connections, downloads, uploads, WebSockets, slow readers, users who sign in, work and sign out, users
who are refused, clients that disconnect. The settings are reloaded twice, in the first third: a reload replaces the
workers, and the other two thirds, which are compared, need the same workers. Two workers. `make mixed-load MINUTES=15`.

"Flat" means: the median of the last third is at most 4 MB above that of the middle third (the first third is the
warm-up: caches fill, and the allocator grows). Five minutes lie between the middles of the two, with some hundred
thousand requests and a thousand sign-ins, so that a leak of 40 bytes a request, or of 4 KB a sign-in, shows; the
smallest object that Python can leak in a table is larger. The store grows by design: it keeps sign-ins for a day and
each decision for as long as the settings say. Its limit is 4 KB a sign-in.
"""

import asyncio
import contextlib
import itertools
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import uvloop

from bench import page
from bench.results import Result, table, write
from bench.traffic import EVERYTHING, ServiceRestart, Site, documents
from support.gateway_process import Exchange, Gateway, document_server, gateway, memory_of, workers_of, write_settings

HERE = Path(__file__).parent
MINUTES = 15.0
GROWTH = 4.0  # megabytes
A_SIGN_IN = 4.0  # kilobytes in the store
RELOADS = (0.1, 0.2)  # when, as shares of the length
USERS = tuple(f"user{number:02}" for number in range(24))

LICENSE = """named = { in_license = 2, dynamic = true }
session = { in_license = 40, minimum = "2s", idle_timeout = "1m" }"""
FULL = """[licenses.full]
session = {{ in_license = 0 }}

[[routes]]
path = "/full/"
upstreams = ["http://127.0.0.1:{upstream}"]
license = "full"
opens = '^/full/(?P<document>[^?/]+)$'

[[routes]]"""


@dataclass
class Samples:
    """Bytes in use and sign-ins so far, one sample a second."""

    workers: list[int] = field(default_factory=list)
    store: list[int] = field(default_factory=list)
    sign_ins: list[int] = field(default_factory=list)


def measure(minutes: float = MINUTES) -> Iterator[Result]:
    """Runs the load, draws the memory and compares it with the limits."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        site, samples = runner.run(_run(minutes * 60))
    lines = {"workers": samples.workers, "store": samples.store}
    (HERE / "mixed-load.svg").write_text(page.memory_line(lines))
    for text, count in site.unexpected.most_common(20):
        print(f"unexpected, {count} times: {text}", flush=True)
    yield Result("mixed load: length", minutes, "minutes")
    for kind, count in sorted(site.done.items()):
        yield Result(f"mixed load: {kind}", count, "times")
    yield Result("mixed load: unexpected outcomes", sum(site.unexpected.values()), "times", goal=0)
    third = len(samples.workers) // 3
    yield Result("mixed load: memory of the workers", _median(samples.workers[-third:]) / 2**20, "MB")
    yield Result("mixed load: growth of the workers", _growth(samples.workers) / 2**20, "MB", goal=GROWTH)
    grown, new = _growth(samples.store), _growth(samples.sign_ins)
    yield Result("mixed load: growth of the store, a sign-in", grown / max(new, 1) / 1024, "KB", goal=A_SIGN_IN)


def _median(values: list[int]) -> float:
    return statistics.median(values)


def _growth(values: list[int]) -> float:
    """Returns how much the median of the last third is above that of the middle third."""
    third = len(values) // 3
    return _median(values[-third:]) - _median(values[third : 2 * third])


async def _run(seconds: float) -> tuple[Site, Samples]:
    samples = Samples()
    with tempfile.TemporaryDirectory() as folder:
        async with document_server() as server:
            server.behaviour = documents
            settings = write_settings(Path(folder), server.port, users=USERS, listen="workers = 2", license=LICENSE)
            full = FULL.format(upstream=server.port)  # before the other route: the first that matches is used
            settings.write_text(settings.read_text().replace("[[routes]]", full, 1))
            async with gateway(settings) as gate:
                site = Site(gate.port, USERS)
                meanwhile = _sample(gate, site, samples), _reload(gate, seconds), _clear(server.seen)
                async with _running(*meanwhile, *(_again(site, one) for one in EVERYTHING)):
                    await asyncio.sleep(seconds)
                    site.over = True
    return site, samples


@contextlib.asynccontextmanager
async def _running(*works: Awaitable[None]) -> AsyncIterator[None]:
    """Runs these until the block ends, and raises the first error of theirs."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        yield
        failed = [task.exception() for task in tasks if task.done() and not task.cancelled()]
        for error in failed:
            if error is not None:
                raise error
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _again(site: Site, one: Callable[[Site], Awaitable[None]]) -> None:
    """Repeats one kind of visitor until the load is over, and counts wrong outcomes."""
    while not site.over:
        try:
            async with asyncio.timeout(60):
                await one(site)
        except ServiceRestart:
            site.done["WebSockets closed with 1012 at a reload"] += 1
        except (AssertionError, OSError, EOFError, TimeoutError, ValueError) as error:
            if not site.over:
                site.unexpected[f"{one.__name__}: {type(error).__name__} {error}"[:300]] += 1
                await asyncio.sleep(0.5)


async def _sample(gate: Gateway, site: Site, samples: Samples) -> None:
    began = time.monotonic()
    for number in itertools.count(1):
        await asyncio.sleep(max(0.0, began + number - time.monotonic()))
        with contextlib.suppress(OSError, IndexError):  # a process can end at this moment
            workers, store = memory_of(gate), _store_of(gate)
            samples.workers.append(workers)
            samples.store.append(store)
            samples.sign_ins.append(site.done["sign-ins"])


def _store_of(gate: Gateway) -> int:
    """Returns the resident bytes of the private store: the child of the gateway that is not a worker."""
    pid = gate.process.pid
    children = {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}
    texts = [Path(f"/proc/{child}/status").read_text() for child in children - set(workers_of(gate))]
    return sum(int(text.partition("VmRSS:")[2].split()[0]) * 1024 for text in texts)


async def _reload(gate: Gateway, seconds: float) -> None:
    """Changes the settings file a little and reloads it."""
    for before, now in pairwise((0.0, *RELOADS)):
        await asyncio.sleep((now - before) * seconds)
        text = gate.settings.read_text()
        gate.settings.write_text(text.replace("@demo.example", f"@{now}.demo.example"))
        gate.process.send_signal(signal.SIGHUP)
    await asyncio.Event().wait()


async def _clear(seen: list[Exchange]) -> None:
    while True:
        await asyncio.sleep(1)
        seen.clear()


def main(minutes: float) -> None:
    """Measures, writes the page, and exits with 1 where a goal is not met."""
    results = list(measure(minutes))
    print(table(results), flush=True)
    write("mixed_load", results, HERE / "results.json")
    page.write()
    sys.exit(any(result.holds is False for result in results))


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else MINUTES)
