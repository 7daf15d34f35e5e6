"""A request as the pipeline sees it."""

import asyncio
from types import SimpleNamespace
from typing import cast
from unittest.mock import Mock

import pytest
from aiohttp import StreamReader

from calgate.http import request
from calgate.http.request import Request
from calgate.plugin.errors import RequestTimeout


async def test_stalled_body_is_a_request_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """If it counted as the document server's failure, three such clients would have the server marked down."""
    monkeypatch.setattr(request, "_BODY_PATIENCE", 0.01)
    content = StreamReader(Mock(_reading_paused=False), 2**16, loop=asyncio.get_running_loop())
    content.feed_data(b"half")
    asked = SimpleNamespace(
        raw=SimpleNamespace(content=content),
        connection=SimpleNamespace(begin_upload=lambda: None, end_upload=lambda: None),
    )
    body = Request.body(cast(Request, asked))
    assert await anext(body) == b"half"
    with pytest.raises(RequestTimeout):
        await anext(body)
