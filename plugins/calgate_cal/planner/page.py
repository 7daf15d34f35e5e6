"""A plan as one HTML file for the signer of the purchase: no scripts, no fonts, no external links, two A4 pages."""

from collections.abc import Sequence
from html import escape

from calgate_cal.planner import picture, purchase, text
from calgate_cal.planner.plan import Plan

_NAMES = 14  # users that fit on the second page
_NOTES = 8
_LONGEST_NOTE = 200

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
th, td { text-align: right; padding: .2rem .5rem; border-bottom: 1px solid var(--line); overflow-wrap: normal }
th:first-child, td:first-child { text-align: left }
.mixes td + td { white-space: nowrap }
tr.chosen { font-weight: 600; background: var(--tint) }
svg { width: 100%; height: auto; font-size: 11px; fill: var(--ink) }
.bar, .cell { fill: var(--accent) } .grid { stroke: var(--line) } .band { fill: var(--accent); fill-opacity: .18 }
.curve { fill: none; stroke: var(--accent); stroke-width: 2 } .mark { fill: var(--accent); stroke: #fff }
.level0 { stroke: var(--ink); stroke-dasharray: 5 3 } .level1 { stroke: var(--warn); stroke-dasharray: 2 3 }
.label1 { fill: var(--warn) } .on { fill: #fff } .off { fill: var(--soft) }
.names { columns: 2; column-gap: 2rem; margin: .3rem 0; padding-left: 1.6rem; font-size: .85rem }
ul { margin: .3rem 0; padding-left: 1.2rem }
@media print {
  @page { size: A4; margin: 13mm }
  html { font-size: 10pt } /* tables and headings are in rem */
  body { padding: 0; font-size: 9pt; line-height: 1.35; max-width: none }
  h2 { margin-top: 6pt } p { margin: .2rem 0 } th, td { padding: .1rem .5rem } ul, .method { font-size: 8pt }
  svg { height: 46mm }
  .second { break-before: page }
}
"""


def html(plan: Plan, *, with_names: bool) -> str:
    """Writes the page; every name in it is escaped."""
    headline, brings = purchase.answer(plan, text.percent(plan.below))
    said = [f"{brings}{_growth(plan)}", *map(text.sentence, text.now(plan))]
    missed = plan.proof is not None and plan.proof.missed(plan.below)
    proof = f'<p class="proof">{escape(text.sentence(text.proof(plan, with_names=with_names)))}</p>'
    return "".join(
        [
            '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>How many CALs to buy</title><style>{STYLE}</style></head><body>",
            proof if missed else "",
            f'<section class="answer"><h1>{escape(headline)}</h1>',
            *(f"<p>{escape(line)}</p>" for line in said),
            *(f'<p class="soft">{escape(line)}</p>' for line in (text.TERMS, text.heading(plan)[0])),
            "</section>",
            _figure("Session CALs wanted at once, day by day", picture.use_over_time(plan)),
            _figure("Visits denied, by number of Session CALs", picture.denials(plan), _band(plan)),
            _figure(f"When visits are denied with {_judged(plan)} Session CALs (percent)", picture.week_map(plan)),
            '<div class="second"></div>',
            _numbers(plan),
            _mix(plan),
            _named(plan) if with_names else "",
            "" if missed else f"<h2>Proof on your own data</h2>{proof}",
            _what_if(plan),
            _notes(plan, with_names=with_names),
            _method(plan),
            "</body></html>",
        ]
    )


def _growth(plan: Plan) -> str:
    """Says how many Session CALs of the advice are for the growth of use, and not for the past."""
    advice, best = plan.advice, plan.mixes.cheapest
    wanted = advice.recommended if best is None else best.session
    if not advice.trend or wanted != advice.recommended or advice.high == wanted:
        return ""
    return f" For the past, {advice.high} Session CALs would have been enough; {text.reason(plan)}."


def _figure(title: str, svg: str, caption: str = "") -> str:
    told = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f"<figure><h2>{escape(title)}</h2>{svg}{told}</figure>"


def _band(plan: Plan) -> str:
    if not plan.advice.is_certain:
        return "Too few whole weeks to show how certain this is: 4 are needed."
    return (
        f"Band: eight of ten random draws of these weeks. Dotted line: {text.percent(plan.below)}. The recommended"
        " number includes the growth of use; the curve does not."
    )


def _judged(plan: Plan) -> int:
    return plan.now.session if plan.now.session is not None else plan.advice.recommended


def _numbers(plan: Plan) -> str:
    advice = plan.advice
    rows = [
        ["Enough for the past", str(advice.plain), text.span(plan)],
        ["Recommended", str(advice.recommended), text.reason(plan)],
    ]
    if plan.now.session is not None:
        rows.append(["You have", str(plan.now.session), text.worst(plan)])
    rows.append(["Nobody denied", str(plan.curve[-1].cals), ""])
    title = f"Session CALs for less than {text.percent(plan.below)} denied"
    beside = f", besides {plan.now.named} Named CALs" if plan.now.named else ""
    return f"<h2>{escape(title + beside)}</h2>" + table(["", "Session CALs", ""], rows)


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], chosen: int | None = None, kind: str = "") -> str:
    """Writes a table of escaped cells; the row `chosen` stands out. `kind`: a class of the style sheet."""
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    body = "".join(
        f"<tr{' class=chosen' if number == chosen else ''}>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>"
        for number, row in enumerate(rows)
    )
    return f"<table{f' class={kind}' if kind else ''}><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _mix(plan: Plan) -> str:
    if plan.mixes.refused:
        return f"<p class=soft>{escape(plan.mixes.refused)}</p>"
    if not plan.mixes.rows:
        return ""
    headings, rows = text.mixes(plan)
    rows = [[f"{row[0].strip()}{f' ({row[-1]})' if row[-1] else ''}", *row[1:-1]] for row in rows]
    chosen = next((number for number, row in enumerate(plan.mixes.rows) if row is plan.mixes.cheapest), None)
    return f"<h2>Mixes of Named and Session CALs{_prices(plan)}</h2>" + table(headings[:-1], rows, chosen, "mixes")


def _prices(plan: Plan) -> str:
    prices = plan.prices
    if prices is None:
        return ""
    document = "" if prices.document is None else f", Document {prices.document:,.10g}"
    return f" (prices: Named {prices.named:,.10g}{document}, Session {prices.session:,.10g})"


def _named(plan: Plan) -> str:
    listed = plan.mixes.candidates
    if not listed:
        return ""
    items = "".join(
        f"<li>{escape(text.name(plan, it.user))}: {it.hours:.1f} h a week, saves {it.saves:.1f}</li>"
        for it in listed[:_NAMES]
    )
    more = f"<p class=soft>and {len(listed) - _NAMES} more</p>" if len(listed) > _NAMES else ""
    title = f"Who {text.named_heading(plan)}"
    told = (
        '<p class="soft">Hours of use a week, and how many Session CALs this user holds on average while all are taken:'
        " what a Named CAL saves.</p>"
    )
    return f'<h2>{title}</h2>{told}<ol class="names">{items}</ol>{more}'


def _what_if(plan: Plan) -> str:
    if not plan.what_if:
        return ""
    rows = [[change, str(plan.what_if_need[change])] for change in plan.what_if]
    return "<h2>What if</h2>" + table(["", f"Session CALs below {text.percent(plan.below)}"], rows)


def _notes(plan: Plan, *, with_names: bool) -> str:
    items = "".join(f"<li>{escape(_short(note))}</li>" for note in text.notes_of(plan, with_names=with_names)[:_NOTES])
    return f"<h2>What to know about the data</h2><ul>{items}</ul>" if items else ""


def _short(note: str) -> str:
    """Cuts a list of lines that cannot be read, which the text output has in full, to what the page has room for."""
    return note if len(note) <= _LONGEST_NOTE else f"{note[:_LONGEST_NOTE].rpartition(' ')[0]} …"


def _method(plan: Plan) -> str:
    parts = [
        "Every visit of the history was played again with each number of Session CALs: a user who comes while all are"
        " taken is denied, and one who tries again within an hour counts once. To see how certain a number is, weeks"
        " are drawn at random a thousand times, as if the time had consisted of them; the recommended number is enough"
        " in nine of ten draws, and for the growth of use that these weeks show.",
        text.MIXES if plan.mixes.rows else "",
        "The proof makes a plan from the first half alone and plays the second half with it.",
        "Numbers marked ~ depend on an estimate." if plan.estimated else "",
    ]
    told = escape(" ".join(filter(None, parts)))
    return f'<h2>How it was worked out</h2><p class="soft method">{told}</p>'
