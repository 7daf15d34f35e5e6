"""The date of a cookie's Expires attribute as browsers read it (RFC 6265, section 5.1.1). Pure.

Other readers know time zones, which browsers ignore, and accept dates without a time; browsers keep such a cookie.
"""

import re
from datetime import UTC, datetime

_DELIMITERS = re.compile(rb"[\x09\x20-\x2f\x3b-\x40\x5b-\x60\x7b-\x7e]+")
_TIME = re.compile(rb"(\d{1,2}):(\d{1,2}):(\d{1,2})(?!\d)")
_DAY = re.compile(rb"(\d{1,2})(?!\d)")
_YEAR = re.compile(rb"(\d{2,4})(?!\d)")
_MONTHS = (b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec")
_FIRST_YEAR = 1601


def read_date(text: bytes) -> float | None:
    """Returns the Unix time; None for a date that a browser ignores: the cookie lasts as long as the browser."""
    time: tuple[int, ...] = ()
    day = month = year = 0
    for token in filter(None, _DELIMITERS.split(text)):
        if not time and (match := _TIME.match(token)):
            time = tuple(map(int, match.groups()))
        elif not day and (match := _DAY.match(token)):
            day = int(match[1])
        elif not month and token[:3].lower() in _MONTHS:
            month = _MONTHS.index(token[:3].lower()) + 1
        elif not year and (match := _YEAR.match(token)):
            year = _whole_year(int(match[1]))
    if not time or year < _FIRST_YEAR:
        return None
    try:
        return datetime(year, month, day, time[0], time[1], time[2], tzinfo=UTC).timestamp()
    except ValueError:
        return None


def _whole_year(year: int) -> int:
    """Returns the year that two digits stand for: 70 to 99 are of the last century."""
    if year < 70:
        return year + 2000
    return year + 1900 if year < 100 else year
