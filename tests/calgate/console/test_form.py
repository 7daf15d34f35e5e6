"""The fields of queries, of pages' forms and of programs' JSON."""

from collections.abc import Mapping, Sequence
from unittest.mock import Mock

import pytest
from aiohttp import StreamReader
from aiohttp.test_utils import make_mocked_request

from calgate.console.form import read_form, read_query

JSON, FORM = "application/json", "application/x-www-form-urlencoded"


async def read(body: bytes, content_type: str = JSON) -> tuple[Mapping[str, str], Sequence[str]]:
    payload = StreamReader(Mock(_reading_paused=False), 2**16)
    payload.feed_data(body)
    payload.feed_eof()
    return await read_form(make_mocked_request("POST", "/", headers={"Content-Type": content_type}, payload=payload))


@pytest.mark.parametrize(
    ("query", "user"),
    [("100%2541", "100%41"), ("a%26b%3D1%23%2B", "a&b=1#+"), ("J%C3%BCrgen+A", "Jürgen A"), ("%252526", "%2526")],
)
def test_query_is_decoded_once(query: str, user: str) -> None:
    assert read_query(make_mocked_request("GET", f"/?user={query}")) == {"user": user}


def test_query_with_too_many_fields_is_refused() -> None:
    with pytest.raises(ValueError, match="fields"):
        read_query(make_mocked_request("GET", f"/?{'a=1&' * 101}"))


async def test_json_is_read_as_a_page_would_send_it() -> None:
    assert await read(b'{"user": "a", "limit": 5, "document": null, "row": ["x", "y"]}') == (
        {"user": "a", "limit": "5"},
        ["x", "y"],
    )
    assert await read(b'{"row": "one"}') == ({}, ["one"])
    assert await read(b"") == ({}, [])


async def test_form_has_its_rows_in_order() -> None:
    assert await read(b"user=a%26b&row=x&row=y&document=", FORM) == (
        {"user": "a&b", "document": "", "row": "y"},
        ["x", "y"],
    )


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"{",
        b'{"user": true}',
        b'{"user": ["a", "b"]}',
        b'{"user": {}}',
        b'{"row": [["x"]]}',
        b'{"row": {}}',
        b'{"user": "\\ud800"}',
        b'{"row": ["\\udfff"]}',
        b'{"user": ' + b"[" * 100000,
        b"\xff\xfe{",
    ],
)
async def test_json_of_another_form_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        await read(body)
