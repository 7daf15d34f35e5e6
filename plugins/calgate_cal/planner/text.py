"""A plan as text for people and as JSON for programs."""

from collections.abc import Mapping, Sequence

from calgate_cal.anonymous import is_anonymous
from calgate_cal.planner import purchase
from calgate_cal.planner.mix_table import KEPT, NOW, Candidate, Row
from calgate_cal.planner.plan import Plan
from calgate_cal.planner.proof import Proof

_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_DENIED = 10  # users of the proof who are named in the text
_CANDIDATES = 40  # that are named in the text; JSON names all
_SMALLEST = 0.0005  # a rate below it is not shown as 0

TERMS = (
    "A CAL is the license that a user needs to open documents. A Named CAL belongs to one user. A Session CAL belongs"
    " to nobody: a user takes one when opening a document, and gives it back after the visit; while all are taken, the"
    " next visit is denied."
)
MIXES = (
    "Each row of the mixes is all that you would have then, not what to buy in addition. Where the Named users are"
    " a new choice, the Session part has a margin, because a choice made for the past fits the future less well; in the"
    " other rows it is the recommended number, which includes the growth of use."
)


def percent(rate: float) -> str:
    """Writes 0.6 %, 11.2 % or 19 %; 0 % only if there is none at all."""
    if 0 < rate < _SMALLEST:
        return "< 0.1 %"
    value = rate * 100
    return f"{value:.1f} %" if value < 20 and round(value, 1) % 1 else f"{value:.0f} %"


def rate(plan: Plan, value: float) -> str:
    """Writes a rate, marked where it depends on an estimate."""
    return f"{'~ ' if plan.estimated and _SMALLEST <= value < 1 else ''}{percent(value)}"


def sentence(line: str) -> str:
    """Makes a sentence of a line: a capital letter and a full stop."""
    return f"{line[:1].upper()}{line[1:]}."


def date(plan: Plan, at: float) -> str:
    """Writes 3 March 2026."""
    return f"{plan.calendar.local(at):%-d %B %Y}"


def name(plan: Plan, user: str) -> str:
    """Returns a user as people write the name."""
    return plan.names.get(user, user)


def hour_of_week(hour: int) -> str:
    """Writes Monday 09-10."""
    return f"{_WEEKDAYS[hour // 24]} {hour % 24:02}-{hour % 24 + 1:02}"


def text(plan: Plan, *, with_names: bool) -> str:
    """Writes the plan as lines of text."""
    unmarked = ["--session N marks what there is in every table"] if plan.now.session is None else []
    parts = [heading(plan), [*now(plan), *unmarked, *_retries(plan)], _numbers(plan), _mix(plan)]
    if with_names:
        parts.append(_named(plan))
    parts += [[proof(plan, with_names=with_names)], _notes(plan, with_names=with_names)]
    if plan.proof is not None and plan.proof.missed(plan.below):
        parts.insert(0, [proof(plan, with_names=with_names)])
    return "\n\n".join("\n".join(part) for part in parts if part)


def heading(plan: Plan) -> list[str]:
    """Says what was read."""
    weeks = f"{plan.advice.weeks} whole week{'' if plan.advice.weeks == 1 else 's'}"
    robots = f", {len(plan.prepared.excluded)} excluded" if plan.prepared.excluded else ""
    read = plan.prepared
    return [
        f"{plan.source}, {date(plan, plan.since)} to {date(plan, plan.until)}: {weeks}, {read.visits:,} visits of"
        f" {read.people:,} people{robots}"
    ]


def now(plan: Plan) -> list[str]:
    """Describes the present CALs, and the denials with them."""
    now, total = plan.now, plan.replays.total
    if now.session is None:
        have = f"you have {now.named} Named CALs; " if now.named else ""
        return [f"{have}how many Session CALs there are is not known"]
    sure = "~ " if plan.estimated else ""
    were = "were" if plan.closed is None else "would be"
    soon = "" if plan.closed is None else " once the gateway, calgate, is in front of the server"
    lines = [
        f"you have {now.named} Named and {now.session} Session: {sure}{percent(now.rate)} of Session visits {were}"
        f" denied ({sure}{now.denied:,} of {total:,}){soon}"
    ]
    if plan.estimated:
        lines.append(
            f"this log does not record denials: about {plan.estimated:,} people were probably turned away at the time;"
            " numbers that depend on this estimate are marked ~"
        )
    return lines


def _retries(plan: Plan) -> list[str]:
    retries = plan.prepared.retries
    if retries is None:
        return []
    gap, patience = retries.gap / 60, retries.patience / 60
    return [f"users who were denied tried again after {gap:.0f} min (median), for up to {patience:.0f} min (90 %)"]


def _numbers(plan: Plan) -> list[str]:
    advice, below = plan.advice, percent(plan.below)
    what_if = list(plan.what_if)
    lines = [
        f"{'':20}Session CALs   for less than {below} denied",
        f"  {'as it was':18}{advice.plain:>8}      {span(plan)}",
        f"  {'recommended':18}{advice.recommended:>8}      {reason(plan)}",
    ]
    if plan.now.session is not None:
        lines.append(f"  {'you have':18}{plan.now.session:>8}      {worst(plan)}")
    lines += [f"  {change:18}{plan.what_if_need[change]:>8}" for change in what_if]
    return [*lines, "", *_curve(plan)]


def worst(plan: Plan) -> str:
    """Describes the share that is denied with the present CALs, and the worst time."""
    now = plan.now
    return (
        f"{rate(plan, now.rate)} denied, worst {hour_of_week(now.worst_hour)}: {rate(plan, now.worst_hour_rate)}"
        if now.denied
        else "nobody denied"
    )


def span(plan: Plan) -> str:
    """Says how far the number that was needed varies with the weeks."""
    advice = plan.advice
    if not advice.is_certain:
        return ""
    if advice.low == advice.high:
        return "the same for every draw of weeks"
    return f"{advice.low} to {advice.high}, depending on the weeks drawn"


def reason(plan: Plan) -> str:
    """Says why the recommended number is what it is."""
    advice = plan.advice
    if not advice.is_certain:
        return "4 weeks are needed to say how sure"
    if advice.trend:
        grown = f"{advice.high} x {1 + advice.trend:.4g} = {advice.high * (1 + advice.trend):.1f}"
        return f"use grows: {percent(advice.trend)} more hours expected in the next {advice.weeks} weeks, and {grown}"
    return "enough in nine of ten draws of the weeks"


def _curve(plan: Plan) -> list[str]:
    headings = ["Session CALs", "denied", "never served", "rate", *plan.what_if]
    rows = [headings]
    total = plan.replays.total
    for point in plan.curve:
        if point.cals in _shown(plan):
            changed = [f"{len(replays.at(point.cals).denied):,}" for replays in plan.what_if.values()]
            shown = rate(plan, point.denied / total)
            rows.append([str(point.cals), f"{point.denied:,}", f"{point.never_served:,}", shown, *changed])
    widths = [max(len(row[column]) for row in rows) for column in range(len(headings))]
    marks = {plan.advice.plain: f"below {percent(plan.below)}", plan.advice.recommended: "recommended"}
    if plan.now.session is not None:
        marks[plan.now.session] = "you have"
    lines = ["  " + "   ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return [line + _mark(marks, row[0]) for line, row in zip(lines, rows, strict=True)]


def _mark(marks: dict[int, str], cals: str) -> str:
    return f"   {marks[int(cals)]}" if cals.isdigit() and int(cals) in marks else ""


def _shown(plan: Plan) -> set[int]:
    """Returns the numbers to show: near the needed one, the present one, the 1 % and 5 % points, and the peak."""
    advice, total = plan.advice, plan.replays.total
    shown = {0, advice.recommended, advice.low, advice.high, plan.curve[-1].cals, plan.now.session or 0}
    shown |= set(range(advice.plain - 2, advice.plain + 3))
    for share in (0.05, 0.01):
        shown.add(next(point.cals for point in plan.curve if point.denied <= share * total))
    return shown


def _mix(plan: Plan) -> list[str]:
    if plan.mixes.refused:
        return [plan.mixes.refused]
    headings, rows = mixes(plan)
    if not rows:
        return []
    cells = [headings, *rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headings))]
    lines = ["   ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return [f"  {line}" for line in lines]


def mixes(plan: Plan) -> tuple[list[str], list[list[str]]]:
    """Returns headings and rows of the table of mixes; without a column that would be empty."""
    shown = plan.mixes.rows
    has_new = any(row.new_people is not None for row in shown)
    is_known = plan.prices is not None and purchase.present(plan) is not None
    headings = [
        "in all",
        "price",
        *(["to buy"] if is_known else []),
        "denied",
        "worst month",
        *(["people who are new"] if has_new else []),
        "",
    ]
    rows = []
    for row in shown:
        rates = [rate(plan, row.rate), rate(plan, row.worst_month)]
        if has_new:
            rates.append("-" if row.new_people is None else rate(plan, row.new_people))
        prices = [row.price, *([purchase.price(plan, purchase.counts(row))] if is_known else [])]
        rows.append([mix(row, width=3), *map(_price, prices), *rates, _LABELS.get(row.label, row.label)])
    return headings, rows


def _price(value: float | None) -> str:
    return "-" if value is None else f"{value:,.10g}"


_LABELS = {NOW: "you have", KEPT: "your Named CALs kept"}


def mix(row: Row, width: int = 0) -> str:
    """Writes 20 Named + 6 Session."""
    document = f" + {row.document} Document" if row.document else ""
    return f"{row.named} Named{document} + {row.session:>{width}} Session"


def named_heading(plan: Plan) -> str:
    """Says whom the list of people names; "" if there is none."""
    listed = plan.mixes.candidates
    if not listed:
        return ""
    if plan.mixes.are_owners:
        return "has a Named CAL and keeps it"
    return f"would get {'a Document or Named CAL' if any(it.kind == 'document' for it in listed) else 'a Named CAL'}"


def _named(plan: Plan) -> list[str]:
    lines, listed = [], plan.mixes.candidates
    if listed:
        lines.append(f"{named_heading(plan)} (hours a week, weeks present, Session CALs saved):")
        lines += [f"  {_candidate(plan, number, each)}" for number, each in enumerate(listed[:_CANDIDATES], 1)]
        if len(listed) > _CANDIDATES:
            lines.append(f"  and {len(listed) - _CANDIDATES} more (--json names all)")
    if plan.hardly_used:
        users = ", ".join(name(plan, user) for user in plan.hardly_used)
        lines.append(f"have a Named CAL and hardly use it: {len(plan.hardly_used)} of {plan.now.named} ({users})")
    return lines


def _candidate(plan: Plan, number: int, each: Candidate) -> str:
    return (
        f"{number:>3} {name(plan, each.user):30} {each.hours:6.1f} h {each.weeks:4} weeks   saves"
        f" {each.saves:.1f} Session CALs{'   Document CAL' if each.kind == 'document' else ''}"
    )


def proof(plan: Plan, *, with_names: bool) -> str:
    """Says how a plan of the first half would have done in the second, and who would have been denied."""
    made = plan.proof
    if made is None:
        return "proof: one half of the time has no visits, so nothing can be proved"
    right = f"{made.right} would have been {'enough' if made.right <= made.planned else 'needed'} to stay below"
    return (
        f"proof: planned on {date(plan, plan.since)} to {date(plan, made.split - 1)} alone: {made.planned} Session"
        f" CALs. With them {percent(made.rate)} would have been denied after that; {right} {percent(plan.below)}"
        f"{_denied(plan, made.denied, with_names=with_names)}"
    )


def _denied(plan: Plan, denied: Mapping[str, int], *, with_names: bool) -> str:
    """Says who would have been denied, or without names how many."""
    users = [user for user in denied if not is_anonymous(user)]
    browsers = len(denied) - len(users)
    named = users[:_DENIED] if with_names and not plan.estimated else []  # an estimated visit is nobody's in particular
    said = [f"{name(plan, user)} ({_times(denied[user])})" for user in named]
    rest = len(users) - len(said)
    if rest:
        said.append(f"{rest} {'more ' if said else ''}{'user' if rest == 1 else 'users'}")
    if browsers:
        said.append(f"{browsers} {'browser' if browsers == 1 else 'browsers'} without sign-in")
    return f". Denied would have been {', '.join(said)}" if said else ""


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def notes_of(plan: Plan, *, with_names: bool) -> list[str]:
    """Returns what must be known about the data."""
    notes = [note.written(with_names=with_names) for note in plan.prepared.notes]
    if plan.closed is not None:
        idle = plan.replays.rules.clocks.idle_timeout / 60
        notes.append(
            "QlikView frees a CAL when the browser is closed. calgate, the gateway in front of it, cannot see that, so"
            f" the CAL stays taken until it has not been used for {idle:.0f} minutes (idle_timeout): {plan.closed}"
            f" Session CALs would be enough for this history without calgate, {plan.advice.plain} are needed with it"
        )
    return notes


def _notes(plan: Plan, *, with_names: bool) -> list[str]:
    notes = notes_of(plan, with_names=with_names)
    if plan.prepared.excluded:
        notes.append(
            f"excluded: {', '.join(plan.prepared.excluded)}"
            if with_names
            else f"{len(plan.prepared.excluded)} users excluded"
        )
    return ["notes:", *(f"  {note}" for note in notes)] if notes else []


def as_json(plan: Plan, *, with_names: bool) -> dict[str, object]:
    """Returns the plan for programs; times are Unix seconds."""
    advice, proof = plan.advice, plan.proof
    return {
        "source": plan.source,
        "since": plan.since,
        "until": plan.until,
        "weeks": plan.advice.weeks,
        "visits": plan.prepared.visits,
        "wishes": plan.replays.total,
        "people": plan.prepared.people,
        "now": {
            "named": plan.now.named,
            "session": plan.now.session,
            "denied": plan.now.denied,
            "rate": plan.now.rate,
            "worst_month": plan.now.worst_month,
        },
        "estimated": plan.estimated,
        "curve": [[point.cals, point.denied, point.never_served, point.low, point.high] for point in plan.curve],
        "recommended": {
            "session": advice.recommended,
            "as_it_was": advice.plain,
            "low": advice.low if advice.is_certain else None,
            "high": advice.high if advice.is_certain else None,
            "trend": advice.trend,
            "below": plan.below,
        },
        "mix": [_row(row) for row in plan.mixes.rows],
        "named": [
            {"user": name(plan, it.user), "kind": it.kind, "hours": it.hours, "weeks": it.weeks, "saves": it.saves}
            for it in (plan.mixes.candidates if with_names else ())
        ],
        "hardly_used": [name(plan, user) for user in plan.hardly_used] if with_names else len(plan.hardly_used),
        "proof": None if proof is None else _proof(plan, proof, with_names=with_names),
        "notes": [*notes_of(plan, with_names=with_names), *([plan.mixes.refused] if plan.mixes.refused else [])],
        "by_hour_of_week": [list(day) for day in plan.by_hour_of_week],
        "what_if": {text: _what_if(plan, text) for text in plan.what_if},
    }


def _proof(plan: Plan, proof: Proof, *, with_names: bool) -> dict[str, object]:
    users = {name(plan, user): count for user, count in proof.denied.items() if not is_anonymous(user)}
    return {
        "planned": proof.planned,
        "rate": proof.rate,
        "right": proof.right,
        "split": proof.split,
        "denied": users if with_names and not plan.estimated else len(users),
    }


def _row(row: Row) -> dict[str, object]:
    return {
        "named": row.named,
        "document": row.document,
        "session": row.session,
        "price": row.price,
        "rate": row.rate,
        "worst_month": row.worst_month,
        "new_people": row.new_people,
        "label": row.label,
    }


def _what_if(plan: Plan, change: str) -> dict[str, object]:
    replays = plan.what_if[change]
    made: Sequence[tuple[int, int]] = sorted((cals, len(it.denied)) for cals, it in replays.made().items())
    return {"session": plan.what_if_need[change], "curve": [list(pair) for pair in made]}
