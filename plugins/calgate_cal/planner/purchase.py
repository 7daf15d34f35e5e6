"""The purchase that a plan leads to: the CALs to buy, the price, and the CALs that the site has then."""

from collections.abc import Mapping

from calgate_cal.planner.mix_table import Row
from calgate_cal.planner.plan import Plan

Counts = Mapping[str, int]  # CALs by kind

_KINDS = {"named": "Named", "document": "Document", "session": "Session"}


def counts(row: Row) -> Counts:
    """Returns the CALs of a mix."""
    return {"named": row.named, "document": row.document, "session": row.session}


def present(plan: Plan) -> Counts | None:
    """Returns the CALs that there are now; None if that is not known."""
    now = plan.now
    return None if now.session is None else {"named": now.named, "document": 0, "session": now.session}


def price(plan: Plan, wanted: Counts) -> float | None:
    """Returns the price of the CALs to add; None if the price or the present number is not known."""
    have, prices = present(plan), plan.prices
    if have is None or prices is None:
        return None
    each = {"named": prices.named, "document": prices.document or 0.0, "session": prices.session}
    return sum(max(0, count - have[kind]) * each[kind] for kind, count in wanted.items())


def answer(plan: Plan, below: str) -> tuple[str, str]:
    """Returns the purchase and its effect. `below`: the rate of denials to stay below, as it is written."""
    best, have = plan.mixes.cheapest, present(plan)
    why = f"keep{'s' if best else ''} denials below {below}{', also as use grows' if plan.advice.trend else ''}"
    if best is None:
        wanted: Counts = {"named": plan.now.named, "document": 0, "session": plan.advice.recommended}
        why = f"they {why}"
    else:
        wanted = counts(best)
        why = f"this is the cheapest mix found that {why}"
    if have is None:
        total = "" if best is None or best.price is None else f", for {best.price:,.10g} in all"
        return f"You need {_listed(wanted)}{total}.", f"{why[:1].upper()}{why[1:]}."
    bought = {kind: count - have[kind] for kind, count in wanted.items() if count > have[kind]}
    then = _listed(wanted, have)
    if not bought:
        return "Buy nothing.", f"{then} are enough: {why}."
    cost = price(plan, wanted)
    return f"Buy {_listed(bought)}{'' if cost is None else f' for {cost:,.10g}'}.", f"You then have {then}: {why}."


def _listed(wanted: Counts, have: Counts | None = None) -> str:
    """Writes 15 Named CALs (5 more than now) and 9 Session CALs (as now)."""
    written = [
        f"{count} {_KINDS[kind]} CAL{'' if count == 1 else 's'}{'' if have is None else _change(count, have[kind])}"
        for kind, count in wanted.items()
        if count or (have is not None and have[kind])
    ]
    return " and ".join([", ".join(written[:-1]), *written[-1:]] if len(written) > 1 else written) or "no CAL"


def _change(count: int, had: int) -> str:
    if count == had:
        return " (as now)"
    return f" ({abs(count - had)} {'more' if count > had else 'fewer'} than now)"
