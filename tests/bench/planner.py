"""The planner: reading, merging, one pass, an exact replay and whole plans of 100,000 and 1,000,000 rows.

Each size runs in a process of its own, which also tells its memory. Times are CPU seconds.
"""

import json
import random
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from time import process_time
from typing import TypeVar

from bench.results import Result, knob
from calgate_cal.planner import plan
from calgate_cal.planner.clock import Calendar
from calgate_cal.planner.curve import one_pass
from calgate_cal.planner.history import History
from calgate_cal.planner.mix import Prices
from calgate_cal.planner.plan import Options
from calgate_cal.planner.replay import VENDOR, denied
from calgate_cal.planner.sources import read_files
from calgate_cal.planner.wishes import link, merge
from support.visits import HEADER, session_row

SIZES = {100_000: "100,000", 1_000_000: "1,000,000"}
USERS = 500
GOALS = {
    1_000_000: {"read": 10, "merge and pass": 5, "replay": 1, "plan": 25, "plan with mix and proof": 60, "memory": 400},
    100_000: {"plan with mix and proof": 6},
}
T = TypeVar("T")
_UNITS = {"memory": "MB"}


def measure() -> Iterator[Result]:
    """Measures each size."""
    for rows, called in SIZES.items():
        if rows > knob("ROWS", 1_000_000):
            continue
        run = subprocess.run(
            [sys.executable, "-m", "bench.planner", str(rows)], capture_output=True, text=True, check=True
        )
        for name, value in json.loads(run.stdout).items():
            yield Result(f"{called} rows: {name}", value, _UNITS.get(name, "s"), GOALS[rows].get(name))


def write_logs(folder: Path, rows: int) -> None:
    """Writes a year of session logs, a file a working day."""
    generator = random.Random(7)
    weight = [1 / (number + 1) ** 0.8 for number in range(USERS)]
    for day in (datetime(2025, 11, 3) + timedelta(days=number) for number in range(364)):
        if day.weekday() > 4:
            continue
        lines = ["\t".join(HEADER)]
        for user in generator.choices(range(USERS), weight, k=rows // 260):
            begin = day + timedelta(seconds=int(generator.triangular(7, 18, 10) * 3600))
            minutes = int(generator.lognormvariate(6.6, 1)) / 60
            row = session_row(begin, minutes, f"CORP\\user{user:03}", f"{{pc-{user:03}}}")
            row |= {"Document": f"D:\\QV\\Doc{generator.randrange(20)}.qvw", "Client Type": "ajax Mozilla/5.0"}
            lines.append("\t".join(row.get(name, "1234567.89") for name in HEADER))
        (folder / f"Sessions_QVS1_{day:%Y-%m-%d}.log").write_text("\r\n".join(lines) + "\r\n", encoding="utf-8")


def run(rows: int) -> dict[str, float]:
    """Measures one size in this process."""
    found: dict[str, float] = {}

    def timed(name: str, work: Callable[[], T]) -> T:
        begin = process_time()
        result = work()
        found[name] = process_time() - begin
        return result

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_logs(folder, rows)
        history = timed("read", lambda: read_files([folder], UTC))
        visits = timed("merge", partial(merge, history.visits))[0]
        wishes = link(visits, [], 3600)[0]
        made = timed("one pass", partial(one_pass, wishes, VENDOR))
        found["merge and pass"] = found.pop("merge") + found.pop("one pass")
        seats = made.counts().need(0.01)
        timed("replay", partial(denied, wishes, seats))
        found["replay"] *= rows / len(wishes)  # for as many visits as there are rows
        del made, wishes, visits, history
        found["plan"] = found["read"] + _planned(read_files([folder], UTC), Options())
        found["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        options = Options(prices=Prices(1, 10))
        found["plan with mix and proof"] = found["read"] + _planned(read_files([folder], UTC), options)
    return found


def _planned(history: History, options: Options) -> float:
    begin = process_time()
    plan.make(history, options, Calendar(UTC))
    return process_time() - begin


if __name__ == "__main__":
    print(json.dumps(run(int(sys.argv[1]))))
