"""The results of a benchmark: values, their goals, and whether the goals are met."""

import json
import os
import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Result:
    """One value. `goal` is the largest value that meets it, or with `at_least` the smallest; None: no goal."""

    name: str
    value: float
    unit: str
    goal: float | None = None
    at_least: bool = False

    @property
    def holds(self) -> bool | None:
        if self.goal is None:
            return None
        return self.value >= self.goal if self.at_least else self.value <= self.goal


def knob(name: str, usual: int) -> int:
    """Returns a number that a trial run can reduce: make bench NAME=data_plane ROUNDS=1 SECONDS=1."""
    return int(os.environ.get(f"CALGATE_BENCH_{name}") or usual)


def is_trial() -> bool:
    """Returns whether this run is shortened or a comparison: its results are printed and not kept."""
    return any(value for name, value in os.environ.items() if name.startswith("CALGATE_BENCH_"))


def write(benchmark: str, results: Iterable[Result], file: Path) -> None:
    """Writes {name, value, goal, unit, holds, benchmark, date} for each result; keeps those of other benchmarks."""
    before = json.loads(file.read_text()) if file.exists() else []
    rows = [row for row in before if row.get("benchmark") != benchmark]
    today = datetime.now(UTC).strftime("%Y-%m-%d")
    for result in results:
        row = {key: value for key, value in asdict(result).items() if key != "at_least"}
        rows.append(row | {"holds": result.holds, "benchmark": benchmark, "date": today})
    file.write_text(json.dumps(sorted(rows, key=lambda row: row["benchmark"]), indent=1, ensure_ascii=False) + "\n")


def table(results: Iterable[Result]) -> str:
    """Returns the results as a table for people."""
    lines = [f"{platform.machine()}, Linux {platform.release()}, Python {platform.python_version()}"]
    for result in results:
        goal = "" if result.goal is None else f"{'at least' if result.at_least else 'at most'} {result.goal:g}"
        verdict = {None: "", True: "holds", False: "DOES NOT HOLD"}[result.holds]
        lines.append(f"{result.name:58} {result.value:12.4g} {result.unit:14} {goal:18} {verdict}")
    return "\n".join(lines)
