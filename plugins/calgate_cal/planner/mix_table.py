"""The mixes of Named and Session CALs that a plan shows, and who would get a CAL of their own."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from calgate_cal.anonymous import is_anonymous
from calgate_cal.planner import curve, people
from calgate_cal.planner.advice import Replays, advise
from calgate_cal.planner.clock import Calendar
from calgate_cal.planner.mix import WEEKS_AT_LEAST, Mixes, Prices, cheapest, costs, savings
from calgate_cal.planner.wishes import Wish

NOW, KEPT, CHEAPEST = "now", "kept", "cheapest"


@dataclass(frozen=True, slots=True)
class Wanted:
    """The conditions for a mix."""

    below: float
    prices: Prices | None
    margin: float
    keep_named: bool
    seed: int


@dataclass(frozen=True, slots=True)
class Present:
    """The present CALs, and how many Session CALs are recommended with the present Named ones."""

    replays: Replays
    named: int
    session: int | None  # None: unknown
    owners: Sequence[str]  # users who hold a Named CAL
    recommended: int


@dataclass(frozen=True, slots=True)
class Row:
    """One mix."""

    named: int
    document: int
    session: int
    price: float | None
    rate: float
    worst_month: float
    new_people: float | None  # rate of users who came in the second half only; None: nobody is new
    label: str  # "now"; "kept": the present Named CALs and the recommended Session CALs; "cheapest"; or ""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A user who would get a Named CAL, or a Document CAL where that is cheaper and serves them as well."""

    user: str
    kind: str  # "named" or "document"
    hours: float  # a week
    weeks: int  # in which they came
    saves: float  # Session CALs


@dataclass(frozen=True, slots=True)
class MixTable:
    """The mixes to show."""

    rows: Sequence[Row]
    refused: str  # why there are none
    candidates: Sequence[Candidate]  # of the cheapest mix
    are_owners: bool = (
        False  # the candidates are the present owners: the cheapest mix leaves the Named CALs as they are
    )

    @property
    def cheapest(self) -> Row | None:
        """The cheapest mix; None if no prices are known."""
        return next((row for row in self.rows if row.label == CHEAPEST), None)


def table(present: Present, wanted: Wanted, calendar: Calendar) -> MixTable:
    """Returns the mixes to show, or why there are none: now, no Named CALs, the present ones kept, and a new choice.

    A new choice of Named users is made from the past, so its mix gets the margin. The present owners were chosen by
    somebody else, and without Named CALs there is no choice: both are as certain as the recommended number.
    """
    replays = present.replays
    weeks = curve.whole_weeks(replays.wishes[replays.first :], calendar)
    if len(weeks) < WEEKS_AT_LEAST:
        return MixTable([], f"a mix of Named and Session CALs needs {WEEKS_AT_LEAST} whole weeks, not {len(weeks)}", [])
    nobody = Replays(replays.wishes, replace(replays.rules, named=frozenset()), replays.first)
    owners, rows = present.owners, _Rows(nobody, wanted.prices, calendar)
    alone = advise(nobody, calendar, wanted.below, wanted.seed).recommended if owners else present.recommended
    shown, offered = [], list[tuple[Row, Sequence[str]]]()
    if present.session is not None:
        shown.append(replace(rows.row(owners, present.named, present.session), label=NOW))
    if owners:
        kept = rows.row(owners, present.named, present.recommended)
        offered.append((replace(kept, label=KEPT), owners))
    if not (owners and wanted.keep_named):
        offered.insert(0, (rows.row([], 0, alone), []))
    if wanted.prices is None:
        return MixTable([*shown, *(row for row, _ in offered)], "", [])
    made = curve.one_pass(nobody.wishes, replays.rules.clocks, first=nobody.first)
    keep = owners if wanted.keep_named else ()
    mixes = Mixes(made, weeks, calendar, below=wanted.below, margin=wanted.margin, keep=keep, seed=wanted.seed)

    def session(named: int) -> int:
        return mixes.session(named) if named else alone

    one_document = _who_need_one_document(nobody.wishes, wanted.prices)
    best = cheapest(session, costs(mixes.order, one_document, wanted.prices), wanted.prices.session, len(keep))
    if best > len(keep):
        row = rows.row(mixes.order[:best], best, session(best), one_document)
        offered.append((replace(row, rate=mixes.rate(best, row.session)), mixes.order[:best]))
    number = min(range(len(offered)), key=lambda at: offered[at][0].price or 0.0)
    row, chosen = offered[number]
    are_owners = row.label == KEPT
    offered[number] = (replace(row, label=CHEAPEST), chosen)
    ranked = [user for user in mixes.order if user in set(chosen)]
    candidates = _candidates(ranked, made, row.session, calendar, () if are_owners else one_document)
    return MixTable([*shown, *(row for row, _ in offered)], "", candidates, are_owners)


def _who_need_one_document(wishes: Sequence[Wish], prices: Prices) -> set[str]:
    """Returns users who opened one document only, if a Document CAL is cheaper than a Named one."""
    if prices.document is None or prices.document >= prices.named:
        return set()
    return people.of_one_document(wishes)


@dataclass(frozen=True, slots=True)
class _Rows:
    """Works out the row of a mix."""

    nobody: Replays  # the wishes as if nobody had a Named CAL
    prices: Prices | None
    calendar: Calendar

    def row(self, named: Sequence[str], count: int, session: int, one_document: Collection[str] = ()) -> Row:
        """Replays a mix: these users have a CAL of their own, `count` such CALs were bought."""
        nobody, prices = self.nobody, self.prices
        replays = Replays(nobody.wishes, replace(nobody.rules, named=frozenset(named)), nobody.first)
        denied = set(replays.at(session).denied)
        documents = sum(user in one_document for user in named)
        price = None
        if prices is not None:
            price = (count - documents) * prices.named + session * prices.session + documents * (prices.document or 0)
        month = curve.worst_month(replays.wishes, denied, named, self.calendar, replays.first)
        new = _new_people(replays.wishes, denied, set(named))
        return Row(count - documents, documents, session, price, replays.rate(session), month, new, "")


def _new_people(wishes: Sequence[Wish], denied: set[int], named: set[str]) -> float | None:
    half = (wishes[0].begin + wishes[-1].begin) / 2
    known = {wish.user for wish in wishes if wish.begin < half}
    new = [
        index
        for index, wish in enumerate(wishes)
        if wish.user not in known and wish.user not in named and not is_anonymous(wish.user)
    ]
    return sum(index in denied for index in new) / len(new) if new else None


def _candidates(
    chosen: Sequence[str], made: curve.Pass, session: int, calendar: Calendar, one_document: Collection[str]
) -> list[Candidate]:
    hours, present = made.leases.hours(), dict[str, set[int]]()
    for begin, user in zip(made.leases.begins, made.leases.users, strict=True):
        present.setdefault(user, set()).add(calendar.slot(begin).week)
    weeks = max(1, len(set().union(*present.values())))
    saved = savings(made, session)
    return [
        Candidate(
            user,
            "document" if user in one_document else "named",
            hours[user] / weeks,
            len(present[user]),
            saved.get(user, 0.0),
        )
        for user in chosen
    ]
