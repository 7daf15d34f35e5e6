"""Reads a time as an administrator writes it. Pure."""

import time
from zoneinfo import ZoneInfo

from calgate.plugin.options import read_time

_FORMS = ("%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M", "%Y-%m-%d")


def read_moment(text: str, zone: str) -> float:
    """Returns the Unix time; the present for "" or "now". Raises ValueError with an example."""
    if text in ("", "now"):
        return time.time()
    for form in _FORMS:
        try:
            return read_time(text, form).replace(tzinfo=ZoneInfo(zone)).timestamp()
        except ValueError:
            continue
    raise ValueError(f"a time is written like 2026-01-10 10:42, in {zone}, not {text[:40]}")
