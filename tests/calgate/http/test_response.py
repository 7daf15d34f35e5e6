"""Responses to clients that have disconnected."""

from types import SimpleNamespace
from typing import cast

import pytest
from aiohttp import HttpVersion11

from calgate.http.connection import RawRequest
from calgate.http.response import Response


class Endless:
    """A body that is not whole yet."""

    length: int | None = None
    is_closed = False

    async def read(self) -> bytes:
        return b"more"

    def take_whole(self) -> bytes | None:
        return None

    def close(self) -> None:
        self.is_closed = True


class Gone:
    """A client that has disconnected, which its request does not know yet."""

    def begin_response(self) -> None:
        """The connection notes that a response begins."""

    def send(self, data: bytes, more: bytes = b"") -> None:
        raise ConnectionResetError("the client is gone")


async def test_body_stream_is_closed_where_the_client_has_disconnected() -> None:
    """Else its connection to the document server would be in use for ever."""
    request = SimpleNamespace(connection=Gone(), method="GET", version=HttpVersion11, keep_alive=True)
    source = Endless()
    with pytest.raises(ConnectionResetError):
        await Response(200, [], body_stream=source).prepare(cast(RawRequest, request))
    assert source.is_closed
