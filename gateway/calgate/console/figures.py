"""The figures of a chart: as JSON for the script that draws it, and as a table for everybody."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo
from itertools import groupby
from operator import itemgetter

from calgate.plugin.screens import Cell, Chart, Column, Curve, Series, Step, Table

_HOUR = 3600.0  # seconds
_BY_HOUR = 7 * 24  # hours; the table of a longer time has a row a day


def plot(chart: Chart | Curve, zone_name: str) -> str:
    """Returns what `static/charts.js` draws."""
    if isinstance(chart, Curve):
        return json.dumps(
            {"kind": "curve", "across": chart.across, "up": chart.up, "points": chart.points, "now": chart.now}
        )
    made: dict[str, object] = {"kind": "time", "begin": chart.begin, "zone": zone_name, "marks": None}
    made["series"] = [
        {"label": one.label, "values": one.values, "limits": [(step.at, step.limit) for step in steps(one, chart)]}
        for one in chart.series
    ]
    if chart.marks is not None:
        made["marks"] = {"label": chart.marks.label, "values": chart.marks.values}
    return json.dumps(made)


def steps(series: Series, chart: Chart) -> Sequence[Step]:
    """Returns each limit of a series with the time from which it is in force; nothing for one without a limit."""
    if series.limit_steps:
        return series.limit_steps if any(step.limit for step in series.limit_steps) else ()
    return [Step(chart.begin, series.limit)] if series.limit else ()


def table(chart: Chart, zone: tzinfo) -> Table:
    """Returns the most of every hour, or of every day where there are many hours, newest first; marks are summed."""
    count = max([len(one.values) for one in (*chart.series, *([chart.marks] if chart.marks else ()))], default=0)
    by_hour = count <= _BY_HOUR
    form = "%Y-%m-%d %H:%M" if by_hour else "%Y-%m-%d"
    starts = [
        (datetime.fromtimestamp(chart.begin + hour * _HOUR, UTC).astimezone(zone).strftime(form), hour)
        for hour in range(count)
    ]
    rows = [_row(chart, text, [hour for _, hour in group]) for text, group in groupby(starts, itemgetter(0))]
    columns = [Column("time", "Hour" if by_hour else "Day", is_short=True)]
    for number, one in enumerate(chart.series):
        columns.append(Column(f"most-{number}", one.label, is_number=True))
        if steps(one, chart):
            columns.append(Column(f"limit-{number}", f"{one.label}, limit", is_number=True))
    if chart.marks is not None:
        columns.append(Column("marks", chart.marks.label, is_number=True))
    return Table(f"{chart.title}: figures", columns, rows[::-1])


def _row(chart: Chart, time: str, hours: Sequence[int]) -> dict[str, Cell]:
    row: dict[str, Cell] = {"time": time}
    for number, one in enumerate(chart.series):
        row[f"most-{number}"] = max(one.values[hours[0] : hours[-1] + 1], default=0)
        end = chart.begin + (hours[-1] + 1) * _HOUR
        in_force = [step.limit for step in steps(one, chart) if step.at < end]
        row[f"limit-{number}"] = in_force[-1] if in_force else None
    if chart.marks is not None:
        row["marks"] = sum(chart.marks.values[hours[0] : hours[-1] + 1])
    return row
