"""Draws values over time as SVG: a line for each series, its limit dashed. No script is needed to read it."""

from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo

from markupsafe import Markup

from calgate.plugin.screens import Chart, Series, Step

_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 960, 300, 44, 16, 28
_MARKS = 6  # times below the chart
_HOUR = 3600.0  # seconds
_DAY, _SPARK = 24, 24  # hours, and the height of a line of one day


def draw(chart: Chart, zone: tzinfo = UTC) -> Markup:
    """Returns the picture; colors come from the page's style, by the class of each line."""
    most = max([1, *(max([*one.values, *_limits(one)], default=0) for one in chart.series)])
    hours = max([1, *(len(one.values) for one in chart.series)])
    parts = [
        Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(
            _WIDTH, _HEIGHT, chart.title
        )
    ]
    for mark in sorted({0, most // 2, most}):
        y = _y(mark, most)
        parts.append(
            Markup(
                '<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>'
                '<text x="{}" y="{:.1f}" text-anchor="end">{}</text>'
            ).format(_LEFT, _WIDTH, y, y, _LEFT - 8, y + 4, mark)
        )
    marks = min(_MARKS, hours)
    for number in range(marks):
        hour = hours * number // marks
        at = datetime.fromtimestamp(chart.begin + hour * _HOUR, UTC).astimezone(zone)
        text = at.strftime("%d %b %H:%M" if hours <= 72 else "%d %b")
        parts.append(Markup('<text class="at" x="{:.1f}" y="{}">{}</text>').format(_x(hour, hours), _HEIGHT - 6, text))
    for number, one in enumerate(chart.series):
        parts += _line(number, one, chart.begin, most, hours)
    return Markup("").join([*parts, Markup("</svg>")])


def spark(values: Sequence[int], limit: int) -> Markup:
    """Returns the use of today as a small line from midnight to midnight."""
    most = max([1, limit, *values])
    points = " ".join(
        f"{(hour + edge) * 100 / max(_DAY, len(values)):.2f},{_SPARK * (1 - value / most):.2f}"
        for hour, value in enumerate(values)
        for edge in (0, 1)
    )
    return Markup(
        '<svg class="spark" viewBox="0 -1 100 {}" preserveAspectRatio="none" role="img" aria-label="{}">'
        '<line class="grid" x1="0" x2="100" y1="{}" y2="{}"/><polyline class="line" points="{}"/></svg>'
    ).format(_SPARK + 2, f"Use of today by hour; most in use: {max(values)}", _SPARK, _SPARK, points)


def _line(number: int, series: Series, begin: float, most: int, hours: int) -> list[Markup]:
    points = " ".join(
        f"{_x(hour + edge, hours):.1f},{_y(value, most):.1f}"
        for hour, value in enumerate(series.values)
        for edge in (0, 1)
    )
    drawn = [Markup('<polyline class="line line-{}" points="{}"/>').format(number, points)]
    if any(_limits(series)):
        limit = Markup('<polyline class="limit line-{}" points="{}"><title>{}</title></polyline>')
        title = f"limit of {series.label}: {', then '.join(map(str, _limits(series)))}"
        drawn.append(limit.format(number, _limit_line(series, begin, most, hours), title))
    return drawn


def _limit_line(series: Series, begin: float, most: int, hours: int) -> str:
    """Returns the points of a line that is level between two changes of the limit."""
    steps = series.limit_steps or [Step(begin, series.limit or 0)]
    starts = [min(_WIDTH, max(_LEFT, _x((step.at - begin) / _HOUR, hours))) for step in steps]
    ends = [*starts[1:], float(_WIDTH)]
    return " ".join(
        f"{x:.1f},{_y(step.limit, most):.1f}"
        for step, start, end in zip(steps, starts, ends, strict=True)
        for x in (start, end)
    )


def _limits(series: Series) -> Sequence[int]:
    return [step.limit for step in series.limit_steps] or [series.limit or 0]


def _y(value: float, most: int) -> float:
    return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * value / most


def _x(hour: float, hours: int) -> float:
    return _LEFT + (_WIDTH - _LEFT) * hour / hours
