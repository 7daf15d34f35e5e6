"""Requests to the console's process, as a worker of the gateway forwards them; no gateway runs."""

import json
from collections.abc import Mapping, Sequence
from unittest.mock import Mock
from urllib.parse import urlencode

from aiohttp import StreamReader, web
from aiohttp.test_utils import make_mocked_request

from calgate.console.server import ConsoleServer
from calgate.endpoints import ADMIN
from calgate.endpoints.console import IDENTITY

WAYS = [["Sign in with your password", "/_calgate/sign-in/password"]]


async def request_of(
    server: ConsoleServer,
    path: str,
    removal: str,
    accept: str,
    form: Mapping[str, str | Sequence[str]] | None = None,
    key: str = "S-1",
) -> web.Response:
    who = {"name": "CORP\\root", "key": key, "role": "admin", "address": "::1", "token": "t", "host": "h"}
    said = json.dumps(who | {"removal": removal, "ways": WAYS})
    headers = {IDENTITY: said, "Accept": accept}
    body = StreamReader(Mock(_reading_paused=False), 2**16)
    if form is not None:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
        body.feed_data(urlencode(form, doseq=True).encode())
    body.feed_eof()
    request = make_mocked_request("GET" if form is None else "POST", ADMIN + path, headers=headers, payload=body)
    response = await server.respond(request)
    assert isinstance(response, web.Response)
    return response
