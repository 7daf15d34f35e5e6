"""A gateway with a console and people of every role, for tests."""

import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from calgate_users import edit, ntlmv2
from support.gateway_process import PASSWORD, DocumentServer, Gateway, Reply, curl, gateway, has_status, write_settings
from support.ports import free_port
from support.waiting import until

PEOPLE = {"root": "admins", "helen": "helpdesk", "rita": "readers"}
ADMIN = "/_calgate/admin/"
SECTION = """
[console]
{place}
admins = ["DEMO\\\\admins"]
helpdesk = ["DEMO\\\\helpdesk"]
readers = ["DEMO\\\\readers"]
networks = ["{network}"]
"""


class Console:
    """A gateway with a console, and its visitors' sessions."""

    def __init__(self, gate: Gateway, url: str) -> None:
        self.gate = gate
        self.url = url
        self._cookies: dict[str, str] = {}

    async def cookie(self, user: str) -> str:
        if user not in self._cookies:
            reply = await curl(self.url + ADMIN, user=user)
            [cookie] = [c for c in reply.values("set-cookie") if "calgate=" in c]
            self._cookies[user] = cookie.partition(";")[0]
        return self._cookies[user]

    async def get(self, user: str, path: str, *options: str, accept: str = "application/json") -> Reply:
        cookie = await self.cookie(user)
        return await curl(f"{self.url}{ADMIN}{path}", "-H", f"Cookie: {cookie}", "-H", f"Accept: {accept}", *options)

    async def token(self, user: str) -> str:
        return str((await self.get(user, "queue")).json["token"])

    async def post(
        self, user: str, path: str, values: Mapping[str, object], *options: str, token: str | None = None
    ) -> Reply:
        headers = {"Origin": self.url, "Content-Type": "application/json", "Accept": "application/json"}
        headers["X-Calgate-Token"] = await self.token(user) if token is None else token
        words = [word for name, value in headers.items() for word in ("-H", f"{name}: {value}")]
        cookie = await self.cookie(user)
        data = ("-H", f"Cookie: {cookie}", "-d", json.dumps(values))
        return await curl(f"{self.url}{ADMIN}{path}", *words, *data, *options)

    async def parts(self, user: str, path: str) -> list[dict[str, Any]]:
        parts = (await self.get(user, path)).json["parts"]
        assert isinstance(parts, list)
        return parts

    async def rows(self, user: str, path: str) -> list[dict[str, object]]:
        parts = await self.parts(user, path)
        return [row for part in parts if part["kind"] == "table" for row in part["rows"]]


def write(
    folder: Path,
    upstream: int,
    *,
    place: str,
    network: str = "127.0.0.0/8",
    more: str = "",
    store: str = "",
    listen: str = "",
) -> Path:
    """Writes the settings of a gateway with a console."""
    for name, group in PEOPLE.items():
        nt_hash = ntlmv2.nt_hash(PASSWORD)
        edit.add(folder / "users.toml", name, domain="DEMO", display_name=None, groups=(group,), nt_hash=nt_hash)
    section = SECTION.format(place=place, network=network)
    return write_settings(folder, upstream, more=section + more, store=store, listen=listen)


async def until_served(console: Console) -> None:
    """Waits until the console's process serves: the gateway does not wait for it."""
    await until(lambda: has_status(console.get("root", ""), 200))


@contextlib.asynccontextmanager
async def running(folder: Path, server: DocumentServer, *, store: str = "", listen: str = "") -> AsyncIterator[Console]:
    port = free_port()
    file = write(folder, server.port, place=f'bind = "127.0.0.1:{port}"', store=store, listen=listen)
    async with gateway(file) as gate:
        console = Console(gate, f"http://127.0.0.1:{port}")
        await until_served(console)
        yield console
