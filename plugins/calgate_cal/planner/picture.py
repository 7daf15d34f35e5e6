"""The pictures of a plan (SVG, by hand): use over time, denials against seats, and the map of the week."""

from collections.abc import Sequence

from calgate_cal.planner import curve
from calgate_cal.planner.plan import Plan

WIDTH, HEIGHT = 720, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 104, 14, 30  # the names of the lines stand on the right
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_CELL = 25
_LINE = 13  # between the labels of two lines


def use_over_time(plan: Plan) -> str:
    """Draws the Session CALs that were wanted at once on each day, with what there is now and what is recommended."""
    peaks = _daily_peaks(plan)
    first, last = min(peaks), max(peaks)
    lines = {"recommended": plan.advice.recommended}
    if plan.now.session is not None:
        lines["you have"] = plan.now.session
    most = max([*peaks.values(), *lines.values(), 1])
    width = max(1.0, (WIDTH - _LEFT - _RIGHT) / (last - first + 1))
    bars = [
        f'<rect class="bar" x="{_across(day - first, last - first + 1):.1f}" y="{_up(peak, most):.1f}"'
        f' width="{max(0.6, width * 0.8):.1f}" height="{_up(0, most) - _up(peak, most):.1f}"/>'
        for day, peak in sorted(peaks.items())
    ]
    days = [f'<text x="{_LEFT}" y="{HEIGHT - 8}">{plan.calendar.date(first):%d %b %Y}</text>']
    if last > first:
        end = f"{plan.calendar.date(last):%d %b %Y}"
        days.append(f'<text x="{WIDTH - _RIGHT}" y="{HEIGHT - 8}" text-anchor="end">{end}</text>')
    return _svg([*_scale(most), *bars, *_levels(lines, most), *days], "Session CALs wanted at once, day by day")


def _daily_peaks(plan: Plan) -> dict[int, int]:
    made = curve.one_pass(plan.replays.wishes, plan.replays.rules.clocks, plan.replays.rules.named)
    peaks: dict[int, int] = {}
    for begin, seat in zip(made.leases.begins, made.seat, strict=True):
        day = plan.calendar.slot(begin).day
        peaks[day] = max(peaks.get(day, 0), seat)
    return peaks


def _levels(lines: dict[str, int], most: int) -> list[str]:
    drawn: list[str] = []
    written: list[float] = []  # where labels stand, from the highest line down
    for number, (label, cals) in sorted(enumerate(lines.items()), key=lambda line: -line[1][1]):
        y = _up(cals, most)
        written.append(max(y + 4, written[-1] + _LINE) if written else y + 4)
        drawn.append(
            f'<line class="level{number}" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="label{number}" x="{WIDTH - _RIGHT + 6}" y="{written[-1]:.1f}">{label}: {cals}</text>'
        )
    return drawn


def denials(plan: Plan) -> str:
    """Draws the rate against the number of Session CALs, with the band of weeks drawn again."""
    total = max(1, plan.replays.total)
    last = max(point.cals for point in plan.curve)
    most = max(0.02, min(1.0, plan.now.rate * 1.2 if plan.now.session is not None else 0.2))
    shown = [point for point in plan.curve if point.denied / total <= most * 1.6]
    first = shown[0].cals

    def at(cals: float, rate: float) -> str:
        x = _across(cals - first, max(1, last - first))
        return f"{x:.1f},{_up(min(rate, most), most):.1f}"

    band = [
        *(at(point.cals, (point.high or point.denied) / total) for point in shown),
        *(at(point.cals, (point.low or 0) / total) for point in reversed(shown) if point.low is not None),
    ]
    line = " ".join(at(point.cals, point.denied / total) for point in shown)
    below = _up(plan.below, most)
    marks = [
        f'<circle class="mark" cx="{x}" cy="{y}" r="5"/>'
        f'<text x="{float(x) + 8:.1f}" y="{float(y) - 8:.1f}">{label}</text>'
        for cals, label in _marked(plan).items()
        for x, y in [at(cals, plan.replays.rate(cals)).split(",")]
        if cals >= first
    ]
    axis = [
        f'<text x="{at(cals, 0).partition(",")[0]}" y="{HEIGHT - 8}" text-anchor="middle">{cals}</text>'
        for cals in _ticks(first, last)
    ]
    scale = [
        f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{_up(rate, most):.1f}" y2="{_up(rate, most):.1f}"/>'
        f'<text x="{_LEFT - 6}" y="{_up(rate, most) + 4:.1f}" text-anchor="end">{rate:.0%}</text>'
        for rate in (0, most / 2, most)
    ]
    return _svg(
        [
            *(*scale, f'<polygon class="band" points="{" ".join(band)}"/>'),
            f'<line class="level1" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{below:.1f}" y2="{below:.1f}"/>',
            *(f'<polyline class="curve" points="{line}"/>', *marks, *axis),
        ],
        "Share of visits denied, by number of Session CALs",
    )


def _marked(plan: Plan) -> dict[int, str]:
    marks = {plan.advice.recommended: f"recommended: {plan.advice.recommended}"}
    if plan.now.session is not None:
        marks.setdefault(plan.now.session, f"you have: {plan.now.session}")
    return marks


def _ticks(first: int, last: int) -> Sequence[int]:
    step = max(1, (last - first) // 8)
    return range(first, last + 1, step)


def week_map(plan: Plan) -> str:
    """Draws the rate of each hour of the week, the darker the higher."""
    worst = max([rate for day in plan.by_hour_of_week for rate in day] + [0.0001])
    cells = []
    for day, rates in enumerate(plan.by_hour_of_week):
        cells.append(f'<text x="{_LEFT - 8}" y="{day * 22 + 38}" text-anchor="end">{_DAYS[day]}</text>')
        for hour, rate in enumerate(rates):
            what = f"{_DAYS[day]} {hour:02}-{hour + 1:02}: {rate:.1%}"
            cells.append(
                f'<rect class="cell" x="{_LEFT + hour * _CELL}" y="{day * 22 + 24}" width="{_CELL - 2}" height="20"'
                f' fill-opacity="{0.06 + 0.94 * rate / worst:.2f}"><title>{what}</title></rect>'
            )
            if rate >= 0.005:
                cells.append(
                    f'<text class="{"on" if rate > worst * 0.55 else "off"}" x="{_LEFT + hour * _CELL + 11}"'
                    f' y="{day * 22 + 38}" text-anchor="middle">{rate * 100:.0f}</text>'
                )
    hours = [
        f'<text x="{_LEFT + hour * _CELL + 11}" y="16" text-anchor="middle">{hour:02}</text>'
        for hour in range(0, 24, 2)
    ]
    return _svg([*hours, *cells], "Share of visits denied (in percent), by hour of the week", 185)


def _svg(parts: Sequence[str], title: str, height: int = HEIGHT) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{title}">'
        f"<title>{title}</title>{''.join(parts)}</svg>"
    )


def _up(value: float, most: float) -> float:
    return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * value / most


def _across(value: float, count: float) -> float:
    return _LEFT + (WIDTH - _LEFT - _RIGHT) * value / count


def _scale(most: int) -> list[str]:
    return [
        f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{_up(mark, most):.1f}" y2="{_up(mark, most):.1f}"/>'
        f'<text x="{_LEFT - 6}" y="{_up(mark, most) + 4:.1f}" text-anchor="end">{mark}</text>'
        for mark in sorted({0, most // 2, most})
    ]
