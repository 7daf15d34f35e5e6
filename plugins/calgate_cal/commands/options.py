"""Types of options: percentages, durations, zones, prices and changed settings."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import tzinfo
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click

from calgate.plugin import parse_duration
from calgate_cal.planner.advice import Replays, Rules
from calgate_cal.planner.changes import with_document_cals, with_usage_cals
from calgate_cal.planner.mix import Prices
from calgate_cal.planner.plan import Change

_NUMBERS: Mapping[str, Callable[[int, Replays], Rules]] = {"usage": with_usage_cals, "document": with_document_cals}
_CLOCKS = ("minimum", "idle_timeout", "maximum", "reclaimable_after")


class Percent(click.ParamType[float]):
    """A share, written as 1%."""

    name = "percent"

    def __init__(self, *, above_zero: bool = False) -> None:
        self._above_zero = above_zero

    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        try:
            share = _decimal(value.removesuffix("%")) / 100
        except ValueError:
            share = -1.0
        if not 0 <= share <= 100:
            self.fail(f"a percentage is written like 1%, not {value}", param, ctx)
        if self._above_zero and share == 0:
            self.fail("no rate is below 0%; the last row of the table denies nobody", param, ctx)
        return share


def _decimal(text: str) -> float:
    """Reads a number in plain digits: `float` also reads digits of other scripts, 1_0 and nan. Raises ValueError."""
    if not re.fullmatch(r"[0-9]+\.?[0-9]*|\.[0-9]+", text.strip()):
        raise ValueError(f"not a number in the digits 0 to 9: {text!r}")
    return float(text)


class Length(click.ParamType[float]):
    """A duration, written as 30m."""

    name = "duration"

    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        try:
            seconds = parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if not seconds <= 36_500 * 86_400:
            self.fail(f"a duration is at most 100 years, not {value}", param, ctx)
        return seconds


class Zone(click.ParamType[tzinfo]):
    """A time zone, by its name in the IANA database."""

    name = "zone"

    def convert(self, value: str | tzinfo, param: click.Parameter | None, ctx: click.Context | None) -> tzinfo:
        if isinstance(value, tzinfo):
            return value
        try:
            return ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            self.fail(f"there is no time zone {value}; one is written like Europe/Berlin", param, ctx)


class Changed(click.ParamType[tuple[str, Change]]):
    """One setting changed, as idle_timeout=15m."""

    name = "setting=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        setting, _, wanted = value.partition("=")
        if setting == "queue" and wanted in ("on", "off"):
            return value, lambda replays: replace(replays.rules, queue=wanted == "on")
        if setting in _NUMBERS:
            if not (wanted.isascii() and wanted.isdecimal() and len(wanted) < 8):
                self.fail(f"{setting} is a number of CALs, not {wanted}", param, ctx)
            return value, partial(_NUMBERS[setting], int(wanted))
        if setting in ("reserve", "max"):
            self.fail(f"{setting} needs the users' groups, which the source does not record", param, ctx)
        if setting not in _CLOCKS:
            self.fail(
                f"{setting} cannot be changed here, but queue, {', '.join((*_NUMBERS, *_CLOCKS))} can", param, ctx
            )
        if wanted == "off" and setting in ("maximum", "reclaimable_after"):
            return value, _clock(setting, None)
        try:
            return value, _clock(setting, parse_duration(wanted))
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _clock(setting: str, value: float | None) -> Change:
    changed: dict[str, Any] = {setting: value}
    return lambda replays: replace(replays.rules, clocks=replace(replays.rules.clocks, **changed))


class Price(click.ParamType[Prices]):
    """Prices, as named=1,session=10; document=0.5 where Document CALs can be bought."""

    name = "prices"

    def convert(self, value: str | Prices, param: click.Parameter | None, ctx: click.Context | None) -> Prices:
        if isinstance(value, Prices):
            return value
        try:
            found = {
                kind.strip(): _decimal(price) for kind, _, price in (part.partition("=") for part in value.split(","))
            }
            prices = Prices(found.pop("named"), found.pop("session"), found.pop("document", None))
        except (KeyError, ValueError):
            found, prices = {"": 0.0}, Prices(0, 0)
        if found or not (0 <= prices.named < 1e12 and 0 < prices.session < 1e12 and 0 <= (prices.document or 0) < 1e12):
            self.fail(f"prices are written like named=1,session=10,document=0.5, not {value}", param, ctx)
        return prices
