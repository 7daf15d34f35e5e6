"""Plans compared with a known truth: a year of 500 people, played through the allocator and planned from its records.

The people of a seed come at known rates. The license has three Session CALs fewer than below 1 % takes, so people are
denied, and try again every 5 minutes for half an hour. The plan sees the records alone; the truth is an exact replay of
what people wanted, and of what they want in the year after it, drawn from the same rates. `ROUNDS` is the number of
seeds, 20 unless set.
"""

import asyncio
import logging
import random
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC
from itertools import accumulate
from pathlib import Path
from statistics import mean

from bench.results import Result, knob
from cal_model.license import DAY, HOUR, MINUTE, TEN, Lab, a_license
from cal_model.player import Player
from calgate_cal.planner import plan
from calgate_cal.planner.advice import Replays, Rules
from calgate_cal.planner.clock import Calendar
from calgate_cal.planner.mix import Prices
from calgate_cal.planner.plan import Options
from calgate_cal.planner.recorded import options_of, recorded
from calgate_cal.planner.replay import Retry
from calgate_cal.planner.sources.audit import Window
from calgate_cal.planner.wishes import Wish
from support.redis_servers import Server

SEEDS = 20
PEOPLE, VISITS_A_DAY, DAYS = 500, 40, 364
RETRY = Retry(5 * MINUTE, 30 * MINUTE)
TOO_FEW = 3  # Session CALs fewer than are needed
BELOW = 0.01
MONDAY = TEN + 2 * DAY  # 12 January 2026


@dataclass(frozen=True, slots=True)
class Seed:
    """The plan for one seed, and the truth."""

    truth: int  # Session CALs with which fewer than 1 % are denied
    planned: int
    wished: int
    seen: int  # wishes that the plan found in the records
    rate: float  # denied with the CALs that there were
    seen_rate: float
    recommended: int
    next_year: float  # denied in the year after, with the recommended number
    mix_next_year: float  # denied among those without a Named CAL in the year after, with the cheapest mix


def measure() -> Iterator[Result]:
    """Plays and plans each seed."""
    logging.disable(logging.WARNING)  # that all Session CALs are out
    seeds = [asyncio.run(_played(number)) for number in range(1, knob("ROUNDS", SEEDS) + 1)]
    for number, seed in enumerate(seeds, 1):
        yield Result(f"seed {number}: planned - true need of {seed.truth}", seed.planned - seed.truth, "CALs")
    errors = [seed.planned - seed.truth for seed in seeds]
    wishes = [abs(seed.seen / seed.wished - 1) for seed in seeds]
    rates = [abs(seed.seen_rate - seed.rate) for seed in seeds]
    yield Result("planned need: mean distance from the truth", mean(map(abs, errors)), "CALs", goal=1)
    yield Result("planned need: largest distance from the truth", max(map(abs, errors)), "CALs", goal=3)
    yield Result("wishes found in the records: largest error", max(wishes) * 100, "%", goal=1)
    yield Result("rate of denials: largest error", max(rates) * 100, "% points", goal=0.5)
    yield Result("recommended CALs - true need: mean", mean(seed.recommended - seed.truth for seed in seeds), "CALs")
    below = sum(seed.next_year < BELOW for seed in seeds) / len(seeds)
    yield Result("next year below 1 % with the recommended CALs", below * 100, "% of seeds", goal=90, at_least=True)
    yield Result("next year denied with the cheapest mix: mean", mean(it.mix_next_year for it in seeds) * 100, "%")
    yield Result("next year denied with the cheapest mix: worst", max(it.mix_next_year for it in seeds) * 100, "%")


def year(generator: random.Random, weights: Sequence[float], begin: float) -> list[Wish]:
    """Draws what 500 people want in a year; some come daily, many once in a while, and a third sign out."""
    wishes, free_at, total = list[Wish](), dict[int, float](), list(accumulate(weights))
    for day in range(DAYS):
        if day % 7 > 4:
            continue
        count = round(VISITS_A_DAY * generator.uniform(0.7, 1.3))
        times = sorted(generator.triangular(7, 18, 10) * HOUR for _ in range(count))
        for at, person in zip(times, generator.choices(range(PEOPLE), cum_weights=total, k=count), strict=True):
            start = round(begin + day * DAY - 10 * HOUR + at)
            if start < free_at.get(person, 0):
                continue
            length = round(min(3 * HOUR, generator.lognormvariate(6.9, 0.9)))
            free_at[person] = start + length + 2 * HOUR  # what they try again does not run into their next visit
            user = f"u{person:03}"
            signs_out = generator.random() < 1 / 3
            wishes.append(Wish(start, False, start + length, signs_out, user, (user, "pc"), "session"))
    return sorted(wishes)


async def _played(number: int) -> Seed:
    generator = random.Random(number)
    weights = [1 / (rank + 1) ** 0.8 for rank in range(PEOPLE)]
    wishes = year(generator, weights, MONDAY)
    after = year(generator, weights, MONDAY + DAYS * DAY)
    truth = Replays(wishes, Rules(retry=RETRY))
    need = truth.need(BELOW, 20)
    seats = need - TOO_FEW
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server = Server(folder / "redis").start()
        try:
            session = {"in_license": seats, "reclaimable_after": "off"}
            async with a_license(server.url, folder, session=session) as license:
                denied = await Player(license, wishes, RETRY).play()
                await license.at(MONDAY + DAYS * DAY - TEN)
                await license.tend()
                made = await _planned(license)
        finally:
            server.stop()
    next_year = Replays(after, Rules(retry=RETRY))
    return Seed(
        truth=need,
        planned=made.advice.plain,
        wished=len(wishes),
        seen=made.replays.total,
        rate=len(denied) / len(wishes),
        seen_rate=made.now.rate,
        recommended=made.advice.recommended,
        next_year=next_year.rate(made.advice.recommended),
        mix_next_year=_mix_next_year(made, after),
    )


async def _planned(license: Lab) -> plan.Plan:
    options = options_of(license.config.licenses["q"], Options(prices=Prices(1, 10)))
    window = Window(MONDAY - DAY, MONDAY + DAYS * DAY)
    return plan.make(await recorded(license.license_admin, window, options), options, Calendar(UTC))


def _mix_next_year(made: plan.Plan, after: Sequence[Wish]) -> float:
    """Returns the rate of those without a Named CAL in the year after the plan, with the mix that it calls cheapest."""
    row = made.mixes.cheapest
    assert row is not None
    named = frozenset(candidate.user for candidate in made.mixes.candidates)
    return Replays(after, Rules(named=named, retry=RETRY)).rate(row.session)
