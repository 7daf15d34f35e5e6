"""The whole plan: from a history to how many CALs to buy, of which kind, for whom, and how certain that is."""

from bisect import bisect_left
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from calgate_cal.anonymous import is_anonymous
from calgate_cal.planner import collector, curve, hidden, notes, people
from calgate_cal.planner.advice import Advice, Point, Replays, Rules, advise, points
from calgate_cal.planner.clock import Calendar
from calgate_cal.planner.history import History, SourceError
from calgate_cal.planner.mix import Prices
from calgate_cal.planner.mix_table import MixTable, Present, Wanted, table
from calgate_cal.planner.proof import Proof, prove
from calgate_cal.planner.replay import VENDOR, Clocks, Retry
from calgate_cal.planner.wishes import Retries, Visit, Wish, link, merge
from calgate_cal.planner.working_week import working_week

WISHES_AT_LEAST = 50

Change = Callable[[Replays], Rules]
"""One setting changed: returns the rules as they would be."""

HARDLY_USED = 0.5  # hours a week


@dataclass(frozen=True, slots=True)
class Options:
    """The options of a plan; each is an option of `cals plan`."""

    clocks: Clocks = VENDOR
    queue: bool = False
    named: int | None = None  # how many there are now
    session: int | None = None
    prices: Prices | None = None
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

    @property
    def mixing(self) -> Wanted:
        """The conditions for a mix."""
        return Wanted(self.below, self.prices, self.margin, keep_named=self.keep_named, seed=self.seed)


@dataclass(frozen=True, slots=True)
class Now:
    """The present CALs, and the denials with them."""

    named: int
    session: int | None  # None: unknown
    denied: int = 0
    rate: float = 0.0
    worst_month: float = 0.0
    worst_hour: int = 0  # of the week
    worst_hour_rate: float = 0.0


@dataclass(frozen=True, slots=True)
class Prepared:
    """The wishes to replay, and what is known about them."""

    replays: Replays
    owners: Sequence[str]  # users who hold a Named CAL now
    hidden: hidden.Hidden | None
    retries: Retries | None
    visits: int
    counted_visits: int  # that begin where wishes count
    people: int
    excluded: Sequence[str]
    notes: Sequence[notes.Note]


@dataclass(frozen=True, slots=True)
class Plan:
    """The result."""

    source: str
    since: float
    until: float
    prepared: Prepared
    replays: Replays
    now: Now
    advice: Advice
    curve: Sequence[Point]
    mixes: MixTable
    prices: Prices | None
    hardly_used: Sequence[str]
    proof: Proof | None
    by_hour_of_week: Sequence[Sequence[float]]
    closed: int | None  # the need if a closed socket freed the CAL, as it does in QlikView; None: no socket was closed
    what_if: Mapping[str, Replays]
    what_if_need: Mapping[str, int]
    below: float
    names: Mapping[str, str]
    calendar: Calendar

    @property
    def estimated(self) -> int:
        """How many wishes the log does not show."""
        return len(self.prepared.hidden.wishes) if self.prepared.hidden else 0


def prepare(history: History, options: Options, calendar: Calendar) -> Prepared:
    """Makes the wishes of a history: users excluded and united, visits merged, attempts linked, hidden ones added."""
    excluded = people.exclude(history, options.exclude)
    people.unite(history, options.same)
    history.counts["no machines"] = people.forget_machines(history)
    visits, twice = merge(history.visits) if history.rows_are_documents else (sorted(history.visits), 0)
    history.counts["twice"] += twice
    history.visits = visits
    told = notes.of(history, people.robots(visits, calendar), calendar)
    wishes, retries = link(visits, history.denials, options.link)
    if options.by_user:
        wishes = [wish._replace(holder=(wish.user, "")) for wish in wishes]
    wishes, kept = _without_document_cals(wishes)
    owners = _owners(wishes, history.owners, options)
    full, exceeded = (None, []) if history.has_denials else _hidden(wishes, visits, owners, options, calendar)
    told += [*kept, *exceeded]
    if history.owners is None and 0 < len(owners) < (options.named or 0):
        told.append(notes.Note(f"of the {options.named} Named CALs that you have, this log shows {len(owners)} in use"))
    if full is not None:
        wishes = sorted([*wishes, *full.wishes])
    if options.growth:
        wishes = people.grow(wishes, options.growth, calendar, options.seed)
    retry = Retry(retries.gap, retries.patience) if retries and options.retry else None
    rules = Rules(options.clocks, frozenset(owners), retry, options.queue)
    first = 0 if history.since is None else bisect_left(wishes, history.since, key=lambda wish: wish.begin)
    counted = [visit.user for visit in visits if history.since is None or visit.begin >= history.since]
    users = sum(not is_anonymous(user) for user in set(counted))
    history.visits = []  # a million of them are not needed any more
    return Prepared(
        *(Replays(wishes, rules, first), owners, full, retries, len(visits), len(counted), users),
        *(excluded, told),
    )


@collector.paused()
def make(history: History, options: Options, calendar: Calendar) -> Plan:
    """Plans. Raises SourceError if there is nothing to plan."""
    calendar = Calendar(calendar.zone, working_week(history.visits, calendar))
    prepared = prepare(history, options, calendar)
    replays, full = prepared.replays, prepared.hidden
    _demand_enough(replays, history)
    advice = advise(replays, calendar, options.below, options.seed)
    session = options.session if options.session is not None else (full.seats if full else None)
    named = options.named if options.named is not None else len(prepared.owners)
    now = _now(replays, named, session, calendar)
    made = points(replays, advice, _shown(advice, session))
    present = Present(replays, now.named, session, prepared.owners, advice.recommended)
    mixes = table(present, options.mixing, calendar)
    judged = replays.at(session if session is not None else advice.recommended)
    what_if = _changed(replays, options.what_if)
    return Plan(
        source=history.source,
        since=replays.wishes[replays.first].begin,
        until=max(wish.used for wish in replays.wishes),
        prepared=prepared,
        replays=replays,
        now=now,
        advice=advice,
        curve=made,
        mixes=mixes,
        prices=options.prices,
        hardly_used=_hardly_used(replays.wishes, prepared.owners, options.clocks),
        proof=prove(replays, calendar, options.below, options.seed),
        by_hour_of_week=curve.by_hour_of_week(
            replays.wishes, set(judged.denied), replays.rules.named, calendar, replays.first
        ),
        closed=_need_if_closing_frees(replays, options.below),
        what_if=what_if,
        what_if_need={text: each.need(options.below, advice.plain) for text, each in what_if.items()},
        below=options.below,
        names=history.names,
        calendar=calendar,
    )


def _demand_enough(replays: Replays, history: History) -> None:
    counted = len(replays.wishes) - replays.first
    if counted < WISHES_AT_LEAST:
        few = f"nothing to plan: visits to documents: {counted}; needed: {WISHES_AT_LEAST} at least"
        raise SourceError("; ".join([few, *notes.unread(history)]))
    if not replays.total:
        raise SourceError("nothing to plan: every user holds a Named CAL")


def _changed(replays: Replays, changes: Mapping[str, Change]) -> Mapping[str, Replays]:
    """Returns, for each change, the same wishes under the rules that it makes."""
    return {text: Replays(replays.wishes, change(replays), replays.first) for text, change in changes.items()}


def _need_if_closing_frees(replays: Replays, below: float) -> int | None:
    """Counts what the server that wrote the log would need: it sees a browser close, and calgate does not."""
    if not any(wish.closed for wish in replays.wishes):
        return None
    freed = (wish._replace(signed_out=True) if wish.closed else wish for wish in replays.wishes)
    return curve.one_pass(freed, replays.rules.clocks, replays.rules.named, replays.first).counts().need(below)


def _owners(wishes: Sequence[Wish], holders: Collection[str] | None, options: Options) -> list[str]:
    """Users who hold a Named CAL now: those that the source names, else those who use most.

    A log that names the owners of some Named CALs names all who use theirs; nobody is made an owner in addition.
    """
    if holders is not None:
        return sorted(holders)
    known = {wish.user for wish in wishes if wish.kind == "named"}
    if options.named is None:
        return sorted(known)
    hours = curve.leases(wishes, options.clocks).hours()
    return people.ranked(hours, known or None)[: options.named]


def _without_document_cals(wishes: list[Wish]) -> tuple[list[Wish], list[notes.Note]]:
    """Removes visits on Document CALs: their owners keep them, and need no other CAL for these visits."""
    others = [wish for wish in wishes if wish.kind != "document"]
    if len(others) == len(wishes):
        return wishes, []
    owners = len({wish.user for wish in wishes if wish.kind == "document"})
    number = len(wishes) - len(others)
    kept = f"{number:,} visits on Document CALs of {owners:,} people left out: they keep them in every mix"
    return others, [notes.Note(kept)]


def _hidden(
    wishes: Sequence[Wish], visits: Sequence[Visit], owners: Collection[str], options: Options, calendar: Calendar
) -> tuple[hidden.Hidden | None, list[notes.Note]]:
    """Estimates from the times for which the server that wrote the log held its Session CALs.

    A log in which more CALs were taken than there are turned nobody away, and that is noted.
    """
    owners = set(owners)
    others = [wish for wish in wishes if wish.kind == "session" and wish.user not in owners]
    served = [visit for visit in visits if visit.kind == "session" and visit.user not in owners]
    holds = hidden.holds(served, options.clocks.minimum, by_user=options.by_user)
    found = hidden.estimate(others, holds, options.session, calendar, options.seed)
    if found is not None or options.session is None or (peak := hidden.peak_above(holds, options.session)) is None:
        return found, []
    more = f"up to {peak} Session CALs were in use at once, more than the {options.session} that you have:"
    return None, [notes.Note(f"{more} is that number right, and the --zone, and is everybody with a Named CAL known?")]


def _now(replays: Replays, named: int, session: int | None, calendar: Calendar) -> Now:
    if session is None:
        return Now(named, None)
    denied = set(replays.at(session).denied)
    owners = replays.rules.named
    rates = curve.by_hour_of_week(replays.wishes, denied, owners, calendar, replays.first)
    flat = [rate for day in rates for rate in day]
    worst = max(range(168), key=lambda hour: flat[hour])
    month = curve.worst_month(replays.wishes, denied, owners, calendar, replays.first)
    return Now(named, session, len(denied), replays.rate(session), month, worst, flat[worst])


def _shown(advice: Advice, session: int | None) -> set[int]:
    """The numbers that are replayed exactly: near the needed number, the present one and the 5 % point."""
    near = set(range(max(0, advice.plain - 2), advice.plain + 3)) | ({session} if session is not None else set())
    return near | {advice.counts.need(0.05), advice.low, advice.high, advice.recommended}


def _hardly_used(wishes: Sequence[Wish], owners: Sequence[str], clocks: Clocks) -> list[str]:
    """Owners of Named CALs who use them for less than half an hour a week."""
    weeks = max(1.0, (wishes[-1].begin - wishes[0].begin) / (7 * 86400))
    hours = dict.fromkeys(owners, 0.0) | curve.leases([wish for wish in wishes if wish.user in owners], clocks).hours()
    return [user for user in people.ranked(hours) if hours[user] / weeks < HARDLY_USED]
