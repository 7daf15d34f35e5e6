"""Draws values over time as SVG: a line for each series, its limit dashed. No script is needed to read it."""

from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo

from markupsafe import Markup

from calgate.console.figures import steps
from calgate.plugin.screens import Chart, Curve, Series

_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 960, 300, 44, 16, 28
_MARKS = 6  # times below the chart
_MOST_POINTS = 160  # more would run into each other
_HOUR = 3600.0  # seconds
_DAY, _SPARK = 24, 24  # hours, and the height of a line of one day


def draw(chart: Chart | Curve, zone: tzinfo = UTC) -> Markup:
    """Returns the picture; colors come from the page's style, by the class of each line."""
    drawn = _curve(chart) if isinstance(chart, Curve) else _over_time(chart, zone)
    begin = Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">')
    return Markup("").join([begin.format(_WIDTH, _HEIGHT, chart.title), *drawn, Markup("</svg>")])


def _over_time(chart: Chart, zone: tzinfo) -> list[Markup]:
    most = max([1, *(max([*one.values, *_limits(one, chart)], default=0) for one in chart.series)])
    hours = max([1, *(len(one.values) for one in chart.series)])
    parts = _scale(most)
    marks = min(_MARKS, hours)
    for number in range(marks):
        hour = hours * number // marks
        at = datetime.fromtimestamp(chart.begin + hour * _HOUR, UTC).astimezone(zone)
        text = at.strftime("%d %b %H:%M" if hours <= 72 else "%d %b")
        parts.append(Markup('<text class="at" x="{:.1f}" y="{}">{}</text>').format(_x(hour, hours), _HEIGHT - 6, text))
    for number, one in enumerate(chart.series):
        parts += _line(number, one, chart, most, hours)
    if chart.marks is not None:
        parts += _marks(chart.marks, hours)
    return parts


def _marks(marks: Series, hours: int) -> list[Markup]:
    """Returns a point for each hour that has one; where there are many hours, for several together."""
    together = max(1, hours // _MOST_POINTS)
    point = Markup('<circle class="mark" cx="{:.1f}" cy="{}" r="4"><title>{}: {}</title></circle>')
    return [
        point.format(_x(hour + together / 2, hours), _TOP - 8, marks.label, count)
        for hour in range(0, len(marks.values), together)
        if (count := sum(marks.values[hour : hour + together]))
    ]


def _curve(curve: Curve) -> list[Markup]:
    if not curve.points:
        return []
    most = max([1, *(up for _, up in curve.points)])
    first, last = curve.points[0][0], curve.points[-1][0]
    at = [(across, _x(across - first, max(1, last - first)), _y(up, most)) for across, up in curve.points]
    points = " ".join(f"{x:.1f},{y:.1f}" for _, x, y in at)
    parts = [*_scale(most), Markup('<polyline class="line line-0" points="{}"/>').format(points)]
    for across, x, y in at:
        if across == curve.now:
            now = Markup('<circle class="mark" cx="{:.1f}" cy="{:.1f}" r="5"><title>{}</title></circle>')
            parts.append(now.format(x, y, f"{curve.across}: {across} as it is now"))
        anchor = "end" if across == last else "start" if across == first else "middle"
        text = Markup('<text class="at" x="{:.1f}" y="{}" text-anchor="{}">{}</text>')
        parts.append(text.format(x, _HEIGHT - 6, anchor, across))
    return parts


def _scale(most: int) -> list[Markup]:
    line = Markup(
        '<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>'
        '<text x="{}" y="{:.1f}" text-anchor="end">{}</text>'
    )
    heights = [(mark, _y(mark, most)) for mark in sorted({0, most // 2, most})]
    return [line.format(_LEFT, _WIDTH, y, y, _LEFT - 8, y + 4, mark) for mark, y in heights]


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


def _line(number: int, series: Series, chart: Chart, most: int, hours: int) -> list[Markup]:
    together = max(1, hours // _WIDTH)  # nobody sees more than a step a pixel, and a year has 9600
    peaks = [(hour, max(series.values[hour : hour + together])) for hour in range(0, len(series.values), together)]
    points = " ".join(
        f"{_x(min(hour + edge, hours), hours):.1f},{_y(peak, most):.1f}"
        for hour, peak in peaks
        for edge in (0, together)
    )
    drawn = [Markup('<polyline class="line line-{}" points="{}"/>').format(number, points)]
    if limits := _limits(series, chart):
        limit = Markup('<polyline class="limit line-{}" points="{}"><title>{}</title></polyline>')
        title = f"limit of {series.label}: {', then '.join(map(str, limits))}"
        drawn.append(limit.format(number, _limit_line(series, chart, most, hours), title))
    return drawn


def _limit_line(series: Series, chart: Chart, most: int, hours: int) -> str:
    """Returns the points of a line that is level between two changes of the limit."""
    known = steps(series, chart)
    starts = [min(_WIDTH, max(_LEFT, _x((step.at - chart.begin) / _HOUR, hours))) for step in known]
    ends = [*starts[1:], float(_WIDTH)]
    return " ".join(
        f"{x:.1f},{_y(step.limit, most):.1f}"
        for step, start, end in zip(known, starts, ends, strict=True)
        for x in (start, end)
    )


def _limits(series: Series, chart: Chart) -> Sequence[int]:
    return [step.limit for step in steps(series, chart)]


def _y(value: float, most: int) -> float:
    return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * value / most


def _x(hour: float, hours: int) -> float:
    return _LEFT + (_WIDTH - _LEFT) * hour / hours
