"""Other numbers of CALs, for `--what-if`."""

from dataclasses import replace

from calgate_cal.planner import curve, people
from calgate_cal.planner.advice import Replays, Rules


def with_usage_cals(count: int, replays: Replays) -> Rules:
    """Puts so many Usage CALs behind a full Session pool."""
    return replace(replays.rules, usage=count)


def with_document_cals(count: int, replays: Replays) -> Rules:
    """Gives Document CALs to the users of one document who hold Session CALs longest; they need no other CAL."""
    rules = replays.rules
    hours = curve.leases(replays.wishes, rules.clocks, rules.named).hours()
    chosen = people.ranked(hours, people.of_one_document(replays.wishes))[:count]
    return replace(rules, named=frozenset({*rules.named, *chosen}))
