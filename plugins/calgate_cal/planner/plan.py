"""The whole plan: from a history to how many CALs to buy, of which kind, for whom, and how certain that is."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from calgate_cal.planner import curve, hidden, mix, notes, people
from calgate_cal.planner.advice import Advice, Point, Replays, Rules, advise, points
from calgate_cal.planner.clock import Calendar
from calgate_cal.planner.history import History, SourceError
from calgate_cal.planner.proof import Proof, prove
from calgate_cal.planner.replay import VENDOR, Clocks, Retry
from calgate_cal.planner.wishes import Retries, Visit, Wish, link, merge

WISHES_AT_LEAST = 50

Change = Callable[[Rules], Rules]
"""One setting changed."""

HARDLY_USED = 0.5  # hours a week


@dataclass(frozen=True, slots=True)
class Options:
    """What the planner is asked for; each is an option of `cals plan`."""

    clocks: Clocks = VENDOR
    queue: bool = False
    named: int | None = None  # how many there are now
    session: int | None = None
    prices: mix.Prices | None = None
    below: float = 0.01
    growth: float = 0.0
    exclude: Sequence[str] = ()
    same: Mapping[str, str] = field(default_factory=dict)
    what_if: Mapping[str, Change] = field(default_factory=dict)  # text -> the setting
    keep_named: bool = False
    margin: float = 0.2
    link: float = 3600.0
    retry: bool = True  # False: users who are denied go away
    by_user: bool = False  # one Session CAL a user, whatever the machine
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Now:
    """What there is now."""

    named: int
    session: int | None  # None: unknown
    denied: int = 0
    rate: float = 0.0
    worst_month: float = 0.0
    worst_hour: int = 0  # of the week
    worst_hour_rate: float = 0.0


@dataclass(frozen=True, slots=True)
class Row:
    """One mix."""

    named: int
    session: int
    price: float | None
    rate: float
    worst_month: float
    new_people: float | None  # rate of users who came in the second half only; None: nobody is new
    label: str  # "now", "cheapest" or ""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A user who would get a Named CAL."""

    user: str
    hours: float  # a week
    weeks: int  # in which they came
    saves: float  # Session CALs


@dataclass(frozen=True, slots=True)
class Plan:
    """The result."""

    source: str
    since: float
    until: float
    weeks: int  # whole ones
    visits: int
    wishes: Sequence[Wish]
    people: int
    excluded: Sequence[str]
    replays: Replays
    now: Now
    advice: Advice
    curve: Sequence[Point]
    mix: Sequence[Row]
    mix_refused: str  # why there is none
    named: Sequence[Candidate]
    hardly_used: Sequence[str]
    proof: Proof | None
    notes: Sequence[str]
    retries: Retries | None
    estimated: int  # wishes that the log does not show
    by_hour_of_week: Sequence[Sequence[float]]
    what_if: Mapping[str, Replays]
    what_if_need: Mapping[str, int]
    below: float
    names: Mapping[str, str]
    calendar: Calendar


def make(history: History, options: Options, calendar: Calendar) -> Plan:
    """Plans. Raises SourceError if there is nothing to plan."""
    excluded = people.exclude(history, options.exclude)
    people.unite(history, options.same)
    visits, twice = merge(history.visits) if history.rows_are_documents else (sorted(history.visits), 0)
    history.counts["twice"] += twice
    history.visits = visits
    told = notes.of(history, people.robots(visits, calendar), calendar)
    wishes, retries = link(visits, history.denials, options.link)
    if options.by_user:
        wishes = [wish._replace(holder=(wish.user, "")) for wish in wishes]
    if len(wishes) < WISHES_AT_LEAST:
        raise SourceError(f"nothing to plan: {len(wishes)} wishes, and {WISHES_AT_LEAST} are needed")
    owners = _owners(wishes, options)
    full = None if history.has_denials else _hidden(wishes, visits, owners, options, calendar)
    if full is not None:
        wishes = sorted([*wishes, *full.wishes])
    if options.growth:
        wishes = people.grow(wishes, options.growth, calendar, options.seed)
    retry = Retry(retries.gap, retries.patience) if retries and options.retry else None
    rules = Rules(options.clocks, frozenset(owners), retry, options.queue)
    replays = Replays(wishes, rules)
    if not replays.total:
        raise SourceError("nothing to plan: every user holds a Named CAL")
    advice = advise(replays, calendar, options.below, options.seed)
    session = options.session if options.session is not None else (full.seats if full else None)
    now = _now(replays, len(owners), session, calendar)
    shown = _shown(advice, replays, session)
    made = points(replays, advice, shown)
    rows, refused, candidates = _mix(replays, advice, now, owners, options, calendar)
    judged = replays.at(session if session is not None else advice.recommended)
    needs = {text: Replays(wishes, change(rules)) for text, change in options.what_if.items()}
    return Plan(
        source=history.source,
        since=wishes[0].begin,
        until=max(wish.used for wish in wishes),
        weeks=advice.weeks,
        visits=len(visits),
        wishes=wishes,
        people=len({visit.user for visit in visits}),
        excluded=excluded,
        replays=replays,
        now=now,
        advice=advice,
        curve=made,
        mix=rows,
        mix_refused=refused,
        named=candidates,
        hardly_used=_hardly_used(wishes, rules.named, options.clocks, _weeks(wishes)),
        proof=prove(wishes, rules, calendar, options.below, options.seed),
        notes=told,
        retries=retries,
        estimated=len(full.wishes) if full else 0,
        by_hour_of_week=curve.by_hour_of_week(wishes, set(judged.denied), rules.named, calendar),
        what_if=needs,
        what_if_need={text: each.need(options.below, advice.plain) for text, each in needs.items()},
        below=options.below,
        names=history.names,
        calendar=calendar,
    )


def _weeks(wishes: Sequence[Wish]) -> float:
    return max(1.0, (wishes[-1].begin - wishes[0].begin) / (7 * 86400))


def _owners(wishes: Sequence[Wish], options: Options) -> list[str]:
    """Users who hold a Named CAL now: those that the source names, else those who use most."""
    known = {wish.user for wish in wishes if wish.kind == "named"}
    if options.named is None:
        return sorted(known)
    hours = curve.leases(wishes, options.clocks).hours()
    order = [*people.ranked(hours, known), *(user for user in people.ranked(hours) if user not in known)]
    return order[: options.named]


def _hidden(
    wishes: Sequence[Wish], visits: Sequence[Visit], owners: Collection[str], options: Options, calendar: Calendar
) -> hidden.Hidden | None:
    """Estimates from the times for which the server that wrote the log held its Session CALs."""
    owners = set(owners)
    others = [wish for wish in wishes if wish.kind == "session" and wish.user not in owners]
    minimum = options.clocks.minimum
    holds = [
        (visit.begin, max(visit.end, visit.begin + minimum))
        for visit in visits
        if visit.kind == "session" and visit.user not in owners
    ]
    return hidden.estimate(others, holds, options.session, calendar, options.seed)


def _now(replays: Replays, named: int, session: int | None, calendar: Calendar) -> Now:
    if session is None:
        return Now(named, None)
    denied = set(replays.at(session).denied)
    owners = replays.rules.named
    rates = curve.by_hour_of_week(replays.wishes, denied, owners, calendar)
    flat = [rate for day in rates for rate in day]
    worst = max(range(168), key=lambda hour: flat[hour])
    month = curve.worst_month(replays.wishes, denied, owners, calendar)
    return Now(named, session, len(denied), replays.rate(session), month, worst, flat[worst])


def _shown(advice: Advice, replays: Replays, session: int | None) -> set[int]:
    """The numbers that the text always shows: near the answer, what there is now, the 5 % point and the peak."""
    near = set(range(max(0, advice.plain - 2), advice.plain + 3)) | ({session} if session is not None else set())
    five = replays.need(0.05, advice.counts.need(0.05))
    return near | {0, five, advice.low, advice.high, advice.recommended, advice.peak}


def _mix(
    replays: Replays, advice: Advice, now: Now, owners: Sequence[str], options: Options, calendar: Calendar
) -> tuple[list[Row], str, list[Candidate]]:
    wishes = replays.wishes
    weeks = curve.whole_weeks(wishes, calendar)
    if len(weeks) < mix.WEEKS_AT_LEAST:
        return [], f"a mix of Named and Session CALs needs {mix.WEEKS_AT_LEAST} whole weeks, not {len(weeks)}", []
    rules = replace(replays.rules, named=frozenset())
    made = curve.one_pass(wishes, rules.clocks)
    keep = owners if options.keep_named else ()
    mixes = mix.Mixes(
        *(wishes, made, weeks, calendar),
        below=options.below,
        margin=options.margin,
        keep=keep,
        seed=options.seed,
    )
    alone = advise(Replays(wishes, rules), calendar, options.below, options.seed).recommended if owners else None
    rows = [] if keep else [_row(wishes, rules, [], alone or advice.recommended, options, calendar, "", None)]
    if now.session is not None:
        rows.insert(0, _row(wishes, rules, owners, now.session, options, calendar, "now", None))
    if options.prices is None:
        return rows, "", []

    def session(named: int) -> int:
        return rows[-1].session if named == 0 else mixes.session(named)

    best = mix.cheapest(session, mixes.users, options.prices, len(keep))
    chosen = mixes.order[:best]
    if best:
        rate = mixes.rate(best, session(best))
        rows.append(_row(wishes, rules, chosen, session(best), options, calendar, "cheapest", rate))
    else:
        rows[-1] = replace(rows[-1], label="cheapest")
    return rows, "", _candidates(chosen, made, session(best), calendar)


def _row(
    wishes: Sequence[Wish],
    rules: Rules,
    named: Sequence[str],
    session: int,
    options: Options,
    calendar: Calendar,
    label: str,
    rate: float | None,
) -> Row:
    replays = Replays(wishes, replace(rules, named=frozenset(named)))
    denied = set(replays.at(session).denied)
    prices = options.prices
    price = None if prices is None else len(named) * prices.named + session * prices.session
    month = curve.worst_month(wishes, denied, named, calendar)
    expected = replays.rate(session) if rate is None else rate
    return Row(len(named), session, price, expected, month, _new_people(wishes, denied, set(named)), label)


def _new_people(wishes: Sequence[Wish], denied: set[int], named: set[str]) -> float | None:
    half = (wishes[0].begin + wishes[-1].begin) / 2
    known = {wish.user for wish in wishes if wish.begin < half}
    new = [index for index, wish in enumerate(wishes) if wish.user not in known and wish.user not in named]
    return sum(index in denied for index in new) / len(new) if new else None


def _candidates(chosen: Sequence[str], made: curve.Pass, session: int, calendar: Calendar) -> list[Candidate]:
    hours, present = made.leases.hours(), dict[str, set[int]]()
    for begin, user in zip(made.leases.begins, made.leases.users, strict=True):
        present.setdefault(user, set()).add(calendar.slot(begin).week)
    weeks = max(1, len(set().union(*present.values())))
    saved = mix.savings(made, session)
    return [Candidate(user, hours[user] / weeks, len(present[user]), saved.get(user, 0.0)) for user in chosen]


def _hardly_used(wishes: Sequence[Wish], owners: Collection[str], clocks: Clocks, weeks: float) -> list[str]:
    """Owners of Named CALs who hold them for less than half an hour a week."""
    hours = curve.leases([wish for wish in wishes if wish.user in owners], clocks).hours()
    return [user for user in people.ranked(hours) if hours[user] / weeks < HARDLY_USED]
