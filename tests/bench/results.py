"""What a benchmark says: a figure, what it should be, and whether it is."""

import json
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


def write(results: Iterable[Result], file: Path) -> None:
    """A list of {name, value, goal, unit, holds}; figures of other benchmarks in the file stay."""
    rows = {row["name"]: row for row in json.loads(file.read_text())} if file.exists() else {}
    for result in results:
        row = {key: value for key, value in asdict(result).items() if key != "at_least"}
        rows[result.name] = row | {"holds": result.holds, "date": datetime.now(UTC).strftime("%Y-%m-%d")}
    file.write_text(json.dumps(list(rows.values()), indent=1) + "\n")


def table(results: Iterable[Result]) -> str:
    """For people."""
    lines = [f"{platform.machine()}, Linux {platform.release()}, Python {platform.python_version()}"]
    for result in results:
        goal = "" if result.goal is None else f"{'at least' if result.at_least else 'at most'} {result.goal:g}"
        verdict = {None: "", True: "holds", False: "DOES NOT HOLD"}[result.holds]
        lines.append(f"{result.name:58} {result.value:12.4g} {result.unit:14} {goal:18} {verdict}")
    return "\n".join(lines)
