"""The inputs of visitors and programs of the console: any text in any field, in pages' forms and as JSON."""

import json
from collections.abc import AsyncIterator
from urllib.parse import quote

import aiohttp
import pytest
import pytest_asyncio

from calgate.endpoints.console import IDENTITY
from calgate.endpoints.console_socket import reachable
from support.console_site import ADMIN, Console, running
from support.gateway_process import document_server

pytestmark = pytest.mark.asyncio(loop_scope="module")

ODD = (
    *("<b>\"x\" & 'y' 100%41 #1</b>", "\u202eגבא ümläut 監査", "a" * 256, "\\", "%", "-1", "9" * 19, "9" * 20 + "-1"),
    *("(|)*", "S-1-5-21-1", "CN=a,DC=b", "@", "x\r\ny", "\x00", '["demo"]', "0x10", "١٢", "null", "*", "[", "a" * 8000),
)
FIELDS = {
    "holders": ("search", "kind", "unused", "sort", "from", "license", "csv"),
    "denials": ("reference", "user", "document", "group", "days", "before"),
    "queue": ("license",),
    "use": ("days", "license"),
    "log": ("search", "what", "before", "csv"),
    "person": ("user",),
    "sessions": ("search", "from", "csv"),
    "why": ("user", "user=alice&document", "user=alice&path", "user=alice&address", "user=alice&at"),
    "settings": ("search",),
    "changes": ("search",),
    "confirm": ("change",),
}
ACTIONS = {
    "holders/assign": ("user", "document", "license", "row"),
    "holders/remove": ("row",),
    "holders/undo": ("row",),
    "holders/end": ("row",),
    "holders/force": ("row",),
    "queue/dismiss": ("row",),
    "use/limit": ("limit", "kind", "license"),
    "use/dynamic": ("switch", "kind", "document", "license"),
    "use/allocate": ("document", "count", "license"),
    "sessions/end": ("row",),
    "sessions/end-all": ("user", "address"),
    "sign-ins/lift": ("row",),
    "servers/drain": ("row",),
    "servers/restore": ("row",),
}
NO_TEXT: tuple[object, ...] = (True, {}, [["x"]], "\ud800", ["\ud800"])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def console(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Console]:
    async with document_server() as server, running(tmp_path_factory.mktemp("console"), server) as started:
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def process(console: Console) -> AsyncIterator[aiohttp.ClientSession]:
    """The console's process without the gateway in front: a thousand requests, each without a sign-in."""
    said = {"name": "DEMO\\root", "key": "demo\\root", "role": "admin", "address": "127.0.0.1"}
    said |= {"token": "", "host": "", "removal": "yes"}
    headers = {IDENTITY: json.dumps(said | {"ways": []}), "Accept": "application/json"}
    with reachable(console.gate.settings.parent / "state") as path:
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(path), headers=headers) as http:
            yield http


async def test_no_text_in_any_field_is_a_bug_of_a_screen(process: aiohttp.ClientSession) -> None:
    for screen, fields in FIELDS.items():
        for field in fields:
            for text in ODD:
                async with process.get(f"http://console{ADMIN}{screen}?{field}={quote(text, safe='')}") as reply:
                    assert reply.status in (200, 404), (screen, field, text, await reply.text())


async def test_no_text_in_any_action_is_a_bug_and_only_text_is_taken(process: aiohttp.ClientSession) -> None:
    whole = {"kind": "document", "switch": "x", "count": "9", "limit": "999", "document": "a.qvw", "user": "nobody"}
    for action, fields in ACTIONS.items():
        for field in fields:
            for value in (*ODD, *NO_TEXT, None, 7):
                async with process.post(f"http://console{ADMIN}{action}", json=whole | {field: value}) as reply:
                    expected = {400} if value in NO_TEXT else {404, 409}
                    assert reply.status in expected, (action, field, value, await reply.text())
