"""Dates of cookies as browsers read them; most are from the suite of RFC 6265's author (abarth/http-state)."""

from datetime import UTC, datetime

import pytest

from calgate.http.cookie_dates import read_date


@pytest.mark.parametrize(
    ("text", "date"),
    [
        (b"Mon, 10-Dec-2007 17:02:24 GMT", datetime(2007, 12, 10, 17, 2, 24, tzinfo=UTC)),
        (b"Wed, 09 Dec 2009 16:27:23 GMT", datetime(2009, 12, 9, 16, 27, 23, tzinfo=UTC)),
        (b"Thursday, 01-Jan-70 00:00:00 GMT", datetime(1970, 1, 1, tzinfo=UTC)),
        (b"Mon Dec 24 16:32:30 1977 GMT", datetime(1977, 12, 24, 16, 32, 30, tzinfo=UTC)),
        (b"Mon, 10-Dec-2007 17:02:24 -0800", datetime(2007, 12, 10, 17, 2, 24, tzinfo=UTC)),  # no time zones
        (b"10 december 69 1:2:3", datetime(2069, 12, 10, 1, 2, 3, tzinfo=UTC)),
        (b"Thu, 01 Jan 1970", None),
        (b"Thu, 31 Feb 2009 16:27:23 GMT", None),
        (b"Mon, 10 Dec 1600 17:02:24 GMT", None),
        (b"Mon, 10 Dec 2007 24:00:00 GMT", None),
        (b"Mon, 10 Dec 20070 17:02:24 GMT", None),
        (b"0", None),
        (b"-1", None),
        (b"", None),
        (b"\xff" * 100, None),
    ],
)
def test_date_is_read_as_browsers_read_it(text: bytes, date: datetime | None) -> None:
    assert read_date(text) == (date.timestamp() if date is not None else None)
