"""A plan as one HTML file for whoever signs the purchase: no scripts, no fonts, no external links, two A4 pages."""

from collections.abc import Sequence
from html import escape

from calgate_cal.planner import picture, text
from calgate_cal.planner.plan import Plan

_NAMES = 24  # users that fit on the second page
_NOTES = 8

STYLE = """
:root { --card: #fff; --ink: #1c2321; --soft: #55605c; --line: #dfe3de; --accent: #0f6b5c; --tint: #e3f0ed;
  --warn: #9c3324 }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 46rem; padding: 1.5rem; color: var(--ink); background: var(--card);
  overflow-wrap: anywhere;
  font: .95rem/1.45 "Segoe UI", system-ui, -apple-system, "Helvetica Neue", "DejaVu Sans", sans-serif }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .4rem } h2 { font-size: 1rem; margin: 1.2rem 0 .3rem }
p { margin: .3rem 0 } .soft, figcaption { color: var(--soft) } figure { margin: 0; break-inside: avoid }
.answer { border: 1px solid var(--line); border-top: 4px solid var(--accent); border-radius: 8px; padding: 1rem 1.2rem }
.proof { background: var(--tint); border-radius: 8px; padding: .6rem .9rem; break-inside: avoid }
table { border-collapse: collapse; width: 100%; font-size: .9rem; break-inside: avoid }
th, td { text-align: right; padding: .2rem .5rem; border-bottom: 1px solid var(--line) }
th:first-child, td:first-child { text-align: left } tr.chosen { font-weight: 600; background: var(--tint) }
svg { width: 100%; height: auto; font-size: 11px; fill: var(--ink) }
.label0, .label1 { paint-order: stroke; stroke: #fff; stroke-width: 4px }
.bar, .cell { fill: var(--accent) } .grid { stroke: var(--line) } .band { fill: var(--accent); fill-opacity: .18 }
.curve { fill: none; stroke: var(--accent); stroke-width: 2 } .mark { fill: var(--accent); stroke: #fff }
.level0 { stroke: var(--ink); stroke-dasharray: 5 3 } .level1 { stroke: var(--warn); stroke-dasharray: 2 3 }
.label1 { fill: var(--warn) } .on { fill: #fff } .off { fill: var(--soft) }
.names { columns: 2; margin: .3rem 0; padding-left: 1.6rem; font-size: .85rem }
ul { margin: .3rem 0; padding-left: 1.2rem }
@media print {
  @page { size: A4; margin: 13mm }
  body { padding: 0; font-size: 9.5pt; max-width: none }
  h2 { margin-top: 8pt }
  svg { height: 46mm }
  .second { break-before: page }
}
"""


def html(plan: Plan, *, with_names: bool) -> str:
    """Writes the page; every name in it is escaped."""
    now = "".join(f"<p>{escape(line)}</p>" for line in text.now(plan))
    missed = plan.proof is not None and plan.proof.missed(plan.below)
    proof = f'<p class="proof">{escape(text.proof(plan))}</p>'
    return "".join(
        [
            '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>How many CALs to buy</title><style>{STYLE}</style></head><body>",
            proof if missed else "",
            f'<section class="answer"><h1>{escape(answer(plan))}</h1>{now}',
            f'<p class="soft">{escape(text.heading(plan)[0])}</p></section>',
            _figure("Session CALs wanted at once, day by day", picture.use_over_time(plan)),
            _figure("Visits denied, by number of Session CALs", picture.denials(plan), _band(plan)),
            _figure(f"When visits are denied with {_judged(plan)} Session CALs (percent)", picture.week_map(plan)),
            '<div class="second"></div>',
            _numbers(plan),
            _mix(plan),
            _named(plan) if with_names else "",
            "" if missed else f"<h2>Proof on your own data</h2>{proof}",
            _what_if(plan),
            _notes(plan),
            _method(plan),
            "</body></html>",
        ]
    )


def answer(plan: Plan) -> str:
    """Returns the sentence for the manager who signs."""
    cheapest = next((row for row in plan.mix if row.label == "cheapest" and row.named), None)
    if cheapest is not None and cheapest.price is not None:
        return (
            f"Buy {cheapest.named} Named and {cheapest.session} Session CALs: the cheapest mix that keeps denials below"
            f" {text.percent(plan.below)}."
        )
    named = f" and keep {plan.now.named} Named CALs" if plan.now.named else ""
    have = plan.now.session
    enough = f"Your {have} Session CALs are enough" if have is not None and have >= plan.advice.recommended else ""
    return (
        f"{enough}: {plan.advice.recommended} keep denials below {text.percent(plan.below)}."
        if enough
        else f"Have {plan.advice.recommended} Session CALs{named}: that keeps denials below {text.percent(plan.below)}."
    )


def _figure(title: str, svg: str, caption: str = "") -> str:
    told = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f"<figure><h2>{escape(title)}</h2>{svg}{told}</figure>"


def _band(plan: Plan) -> str:
    if not plan.advice.is_certain:
        return "Too few whole weeks to show how certain this is: 4 are needed."
    return f"Band: 80 % of draws of the same weeks. Dotted line: {text.percent(plan.below)}."


def _judged(plan: Plan) -> int:
    return plan.now.session if plan.now.session is not None else plan.advice.recommended


def _numbers(plan: Plan) -> str:
    advice = plan.advice
    sure = f"{advice.low} to {advice.high}" if advice.is_certain else "4 weeks are needed to say how sure"
    grows = f"use grows {text.percent(advice.trend)} in as long again" if advice.trend else ""
    rows = [["As it was", str(advice.plain), sure], ["Recommended", str(advice.recommended), grows]]
    if plan.now.session is not None:
        rows.append(["You have", str(plan.now.session), f"{text.percent(plan.now.rate)} denied"])
    rows.append(["Nobody denied", str(plan.curve[-1].cals), ""])
    return "<h2>The number of Session CALs</h2>" + table(["", "Session CALs", ""], rows)


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], chosen: int | None = None) -> str:
    """Writes a table of escaped cells; the row `chosen` stands out."""
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    body = "".join(
        f"<tr{' class=chosen' if number == chosen else ''}>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>"
        for number, row in enumerate(rows)
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _mix(plan: Plan) -> str:
    if not plan.mix:
        return f"<p class=soft>{escape(plan.mix_refused)}</p>" if plan.mix_refused else ""
    rows = [
        [
            f"{text.mix(row)}{f' ({row.label})' if row.label else ''}",
            "-" if row.price is None else f"{row.price:,.10g}",
            *(text.percent(row.rate), text.percent(row.worst_month)),
            "-" if row.new_people is None else text.percent(row.new_people),
        ]
        for row in plan.mix
    ]
    chosen = next((number for number, row in enumerate(plan.mix) if row.label == "cheapest"), None)
    return "<h2>Mixes</h2>" + table(["", "price", "denied", "worst month", "new people"], rows, chosen)


def _named(plan: Plan) -> str:
    if not plan.named:
        return ""
    items = "".join(
        f"<li>{escape(text.name(plan, it.user))}: {it.hours:.1f} h a week, saves {it.saves:.1f}</li>"
        for it in plan.named[:_NAMES]
    )
    more = f"<p class=soft>and {len(plan.named) - _NAMES} more</p>" if len(plan.named) > _NAMES else ""
    return f'<h2>Who would get a Named CAL</h2><ol class="names">{items}</ol>{more}'


def _what_if(plan: Plan) -> str:
    if not plan.what_if:
        return ""
    rows = [[change, str(plan.what_if_need[change])] for change in plan.what_if]
    return "<h2>What if</h2>" + table(["", f"Session CALs below {text.percent(plan.below)}"], rows)


def _notes(plan: Plan) -> str:
    notes = text.notes_of(plan)
    items = "".join(f"<li>{escape(note)}</li>" for note in notes[:_NOTES])
    return f"<h2>What to know about the data</h2><ul>{items}</ul>" if items else ""


def _method(plan: Plan) -> str:
    return (
        "<h2>How it was worked out</h2><p class=soft>Every visit of the history was played again with each number of"
        " Session CALs: a user who comes while all are taken is denied. A user who tries again within an hour counts"
        " once. The recommended number is the 90th percentile when whole weeks are drawn again and again, with the"
        " trend of use. The proof plans with the first half only and plays the second."
        f"{' Figures marked ~ rest on an estimate.' if plan.estimated else ''}</p>"
    )
