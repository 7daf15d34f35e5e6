"""`make bench`: runs every benchmark, or the named one; exit code 0 whether or not the goals are met."""

import importlib
import sys
from pathlib import Path

from bench import page, two_trees
from bench.results import Result, is_trial, table, write

HERE = Path(__file__).parent
NOT_BENCHMARKS = {"__main__", "results", "servers", "load", "page", "traffic", "sockets", "proxies", "two_trees"}
LONG = {"mixed_load"}  # runs only where it is named
COMPARABLE = ["data_plane", "sign_in"]  # with another checkout


def main(names: list[str]) -> None:
    """Runs the named benchmarks, or all of them; with another checkout, compares both."""
    checkout = two_trees.other_checkout()
    known = (
        COMPARABLE if checkout else sorted(file.stem for file in HERE.glob("*.py") if file.stem not in NOT_BENCHMARKS)
    )
    unknown = set(names) - set(known)
    if unknown:
        sys.exit(f"there is no benchmark {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    for name in names or sorted(set(known) - LONG):
        benchmark = importlib.import_module(f"bench.{name}")
        print(f"-- {name}: {(benchmark.__doc__ or '').partition(chr(10))[0]}", flush=True)
        results: list[Result] = list(benchmark.compare(checkout) if checkout else benchmark.measure())
        print(table(results), flush=True)
        if not is_trial():
            write(name, results, HERE / "results.json")
            page.write()


if __name__ == "__main__":
    main(sys.argv[1:])
