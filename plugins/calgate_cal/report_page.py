"""A report as one HTML file, for mail and print: no scripts, no fonts, no external links, and no user's name."""

from html import escape

from calgate_cal import plot
from calgate_cal.planner.clock import Calendar
from calgate_cal.planner.page import STYLE, table
from calgate_cal.planner.text import percent
from calgate_cal.report import Report, claimants

_NEXT_TO_THE_ANSWER = 8  # numbers of CALs


def html(report: Report, calendar: Calendar) -> str:
    """Writes the page."""
    begin, end = (f"{calendar.local(at):%Y-%m-%d %H:%M}" for at in (report.since, report.until))
    denied = (
        f"{report.episodes:,} of the wishes for a Session CAL were denied ({percent(report.rate)}), of"
        f" {claimants(report.denied_users, report.denied_browsers)}, in {report.attempts:,} attempts."
        if report.episodes
        else "Nobody was denied a CAL."
    )
    return "".join(
        [
            '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(report.license)}: CALs in use</title><style>{STYLE}</style></head><body>",
            f'<section class="answer"><h1>{escape(denied)}</h1>',
            f"<p>With {report.below} Session CALs less than 1 % would have been denied; there are"
            f" {report.now.get('session', 0)}. {report.visits:,} visits were served.</p>",
            f'<p class="soft">{escape(report.license)}, {begin} to {end} ({calendar.local(report.until):%Z})</p>',
            "</section>",
            f"<figure><h2>CALs in use, hour by hour</h2>{plot.svg(report, calendar)}</figure>" if report.hours else "",
            _in_use(report),
            _what_if(report),
            '<p class="soft">calgate cals plan says how many CALs to buy, and proves it on your own data.</p>',
            "</body></html>",
        ]
    )


def _in_use(report: Report) -> str:
    are_public = any(use.browsers for use in report.uses)
    rows = [
        [
            *(
                use.kind,
                str(report.now.get(use.kind, "")),
                str(use.users),
                *([str(use.browsers)] if are_public else []),
            ),
            *(str(use.peak), str(use.p95), str(use.median)),
            f"{max(use.by_hour, key=lambda hour: use.by_hour[hour]):02}:00",
        ]
        for use in report.uses
    ]
    headings = ["", "limit", "users", *(["without sign-in"] if are_public else [])]
    headings += ["peak", "95 % of hours", "median hour", "busiest hour"]
    return "<h2>In use</h2>" + table(headings, rows) if rows else ""


def _what_if(report: Report) -> str:
    shown = {0, report.now.get("session", 0), max(report.what_if, default=0)}
    rows = [
        (cals, [str(cals), f"{denied:,}"])
        for cals, denied in report.what_if.items()
        if cals in shown or abs(cals - report.below) <= _NEXT_TO_THE_ANSWER
    ]
    chosen = next((number for number, (cals, _) in enumerate(rows) if cals == report.below), None)
    return "<h2>With so many Session CALs</h2>" + table(["Session CALs", "denied"], [row for _, row in rows], chosen)
