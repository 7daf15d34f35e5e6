"""`make bench`: every benchmark, or the one named, one after the other; exit 0 whatever holds."""

import importlib
import sys
from pathlib import Path

from bench import page
from bench.results import Result, is_trial, table, write

HERE = Path(__file__).parent
NOT_BENCHMARKS = {"__main__", "results", "sides", "load", "page", "traffic", "sockets", "fleet"}
LONG = {"mixed_load"}  # only where it is named


def main(names: list[str]) -> None:
    """Runs the named benchmarks (all where none is named)."""
    known = sorted(file.stem for file in HERE.glob("*.py") if file.stem not in NOT_BENCHMARKS)
    unknown = set(names) - set(known)
    if unknown:
        sys.exit(f"there is no benchmark {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    for name in names or sorted(set(known) - LONG):
        benchmark = importlib.import_module(f"bench.{name}")
        print(f"-- {name}: {(benchmark.__doc__ or '').partition(chr(10))[0]}", flush=True)
        results: list[Result] = list(benchmark.measure())
        print(table(results), flush=True)
        if not is_trial():
            write(name, results, HERE / "results.json")
            page.write()


if __name__ == "__main__":
    main(sys.argv[1:])
