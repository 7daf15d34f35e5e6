"""What a benchmark says: a figure, what it should be, and whether it is."""

import json
import os
import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Result:
    """One figure. `goal` is the largest value that holds (the smallest, where `at_least`); None: told, not judged."""

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
    """A number that a trial run may make smaller: make bench NAME=data_plane ROUNDS=1 SECONDS=1."""
    return int(os.environ.get(f"CALGATE_BENCH_{name}") or usual)


def is_trial() -> bool:
    """Whether this run is shortened, so that its figures are printed and not kept."""
    return any(value for name, value in os.environ.items() if name.startswith("CALGATE_BENCH_"))


def write(benchmark: str, results: Iterable[Result], file: Path) -> None:
    """A list of {name, value, goal, unit, holds, benchmark, date}; figures of other benchmarks in the file stay."""
    before = json.loads(file.read_text()) if file.exists() else []
    rows = [row for row in before if row.get("benchmark") != benchmark]
    today = datetime.now(UTC).strftime("%Y-%m-%d")
    for result in results:
        row = {key: value for key, value in asdict(result).items() if key != "at_least"}
        rows.append(row | {"holds": result.holds, "benchmark": benchmark, "date": today})
    file.write_text(json.dumps(sorted(rows, key=lambda row: row["benchmark"]), indent=1, ensure_ascii=False) + "\n")


def table(results: Iterable[Result]) -> str:
    """For people."""
    lines = [f"{platform.machine()}, Linux {platform.release()}, Python {platform.python_version()}"]
    for result in results:
        goal = "" if result.goal is None else f"{'at least' if result.at_least else 'at most'} {result.goal:g}"
        verdict = {None: "", True: "holds", False: "DOES NOT HOLD"}[result.holds]
        lines.append(f"{result.name:58} {result.value:12.4g} {result.unit:14} {goal:18} {verdict}")
    return "\n".join(lines)
