"""A report as a picture (SVG): the peak of every hour, a line a kind."""

from collections.abc import Sequence
from xml.sax.saxutils import escape

from calgate_cal.planner.clock import Calendar
from calgate_cal.report import HOUR, Report

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 960, 420, 48, 56, 40
_COLORS = {"named": "#1f6feb", "document": "#8250df", "session": "#1a7f37", "usage": "#bc4c00"}


def svg(report: Report, calendar: Calendar) -> str:
    """Draws a self-contained picture that any browser opens."""
    most = max((max(peaks) for peaks in report.hours.values()), default=1) or 1
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="system-ui, sans-serif"'
        ' font-size="13"><rect width="100%" height="100%" fill="#fff"/>',
        f'<text x="{LEFT}" y="24" font-size="16">{escape(report.license)}: most CALs in use in each hour</text>',
        *_scale(most),
        *_days(report, calendar),
        *(_line(kind, peaks, most, number) for number, (kind, peaks) in enumerate(report.hours.items())),
        "</svg>",
    ]
    return "\n".join(parts)


def _y(value: float, most: int) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / most


def _x(hour: float, hours: float) -> float:
    return LEFT + (WIDTH - LEFT - 16) * hour / max(hours, 1)


def _scale(most: int) -> Sequence[str]:
    marks = sorted({0, most // 2, most})
    return [
        f'<line x1="{LEFT}" x2="{WIDTH - 16}" y1="{_y(mark, most):.1f}" y2="{_y(mark, most):.1f}" stroke="#d0d7de"/>'
        f'<text x="{LEFT - 8}" y="{_y(mark, most) + 4:.1f}" text-anchor="end">{mark}</text>'
        for mark in marks
    ]


def _days(report: Report, calendar: Calendar) -> Sequence[str]:
    hours = (report.until - report.begin) / HOUR
    first, last = calendar.slot(report.begin).day, calendar.slot(report.until).day
    step = max(1, round((last - first) / 8))
    midnights = [calendar.midnight(day) for day in range(first, last + 1, step)]
    return [
        f'<text x="{_x(max(0.0, at - report.begin) / HOUR, hours):.1f}" y="{HEIGHT - 14}">'
        f"{calendar.local(at):%d %b}</text>"
        for at in midnights
    ]


def _line(kind: str, peaks: Sequence[int], most: int, number: int) -> str:
    points = " ".join(
        f"{_x(hour + edge, len(peaks)):.1f},{_y(peak, most):.1f}" for hour, peak in enumerate(peaks) for edge in (0, 1)
    )
    color = _COLORS[kind]
    return (
        f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="2"/>'
        f'<text x="{LEFT + 110 * number}" y="44" fill="{color}">{kind}: peak {max(peaks)}</text>'
    )
