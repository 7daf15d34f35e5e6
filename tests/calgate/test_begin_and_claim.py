"""A sign-in with its first claim: both go to the store at once, and a failure of either takes the other back."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from calgate.app import Gateway, open_gateway
from calgate.authentication.session import Session
from calgate.authentication.sessions import Sessions
from calgate.config.reader import read
from calgate.licensing.leases import Licensing
from calgate.plugin.errors import Unavailable
from calgate.plugin.licensing import Lease
from support.gateway_process import POOLS, DocumentServer, Exchange, curl, document_server, write_settings

pytestmark = pytest.mark.server
KEY, ACCEPT = "dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@asynccontextmanager
async def site(folder: Path, *, license: str = "session = { in_license = 1 }") -> AsyncIterator[tuple[Gateway, str]]:
    """A gateway in this process with one CAL, and its URL."""
    async with document_server() as server, _gateway(folder, server, license) as (gateway, url):
        yield gateway, url


@asynccontextmanager
async def _gateway(folder: Path, server: DocumentServer, license: str) -> AsyncIterator[tuple[Gateway, str]]:
    async with open_gateway(read(write_settings(folder, server.port, license=license))) as gateway:
        await gateway.rules.wait(30)
        async with await asyncio.get_running_loop().create_server(gateway.server, "127.0.0.1", 0) as listener:
            yield gateway, f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
            await gateway.server.shutdown(0.1)


async def test_claim_does_not_wait_for_the_session_to_be_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimed = asyncio.Event()
    store, claim = Sessions.store, Licensing.claim

    async def store_after_the_claim(sessions: Sessions, session: Session) -> None:
        await asyncio.wait_for(claimed.wait(), 10)
        await store(sessions, session)

    async def claim_and_note(*claiming: object) -> Lease:
        lease = await claim(*claiming)  # type: ignore[arg-type]
        claimed.set()
        return lease

    monkeypatch.setattr(Sessions, "store", store_after_the_claim)
    monkeypatch.setattr(Licensing, "claim", claim_and_note)
    async with site(tmp_path) as (_, url):
        reply = await curl(f"{url}/docs/a", user="alice")
        assert reply.status == 200
        assert "calgate=" in str(reply.values("set-cookie"))


async def test_session_that_cannot_be_stored_gives_the_cal_back_and_sets_no_cookie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settled: list[bool | None] = []
    settle = Licensing.settle

    def settle_and_note(licensing: Licensing, session: Session, lease: Lease, *, served: bool | None) -> None:
        settled.append(served)
        settle(licensing, session, lease, served=served)

    async def fail(sessions: Sessions, session: Session) -> None:
        await asyncio.sleep(0.1)  # the claim is made in this time
        raise Unavailable("the store is away")

    async with site(tmp_path) as (gateway, url):
        with monkeypatch.context() as broken:
            broken.setattr(Licensing, "settle", settle_and_note)
            broken.setattr(Sessions, "store", fail)
            reply = await curl(f"{url}/docs/a", user="alice")
        assert reply.status == 503
        assert reply.values("set-cookie") == []
        assert settled == [False]
        assert gateway.sessions.known() == []
        await gateway.licensing.finish()
        assert (await curl(f"{url}/docs/a", user="bob")).status == 200, "the only CAL is free again"


async def test_user_without_a_cal_is_signed_in_before_the_denial_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Sessions.store

    async def store_late(sessions: Sessions, session: Session) -> None:
        await asyncio.sleep(0.1)  # the claim is denied in this time
        await store(sessions, session)

    async with site(tmp_path) as (_, url):
        assert (await curl(f"{url}/docs/a", user="alice")).status == 200
        monkeypatch.setattr(Sessions, "store", store_late)
        denied = await curl(f"{url}/docs/a", user="bob")
        assert (denied.status, denied.json["code"]) == (403, "no-cal")
        cookie = next(c for c in denied.values("set-cookie") if "calgate=" in c).partition(";")[0]
        assert (await curl(f"{url}/portal", "-H", f"Cookie: {cookie}")).status == 200


async def test_document_whose_session_ends_while_its_cal_is_claimed_is_refused_and_holds_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = Licensing.claim

    async with site(tmp_path) as (gateway, url):
        portal = await curl(f"{url}/portal", user="alice")
        cookie = next(c for c in portal.values("set-cookie") if "calgate=" in c).partition(";")[0]

        async def claim_as_the_session_ends(licensing: Licensing, *claiming: Any) -> Lease:
            lease = await claim(licensing, *claiming)
            await gateway.sessions.end(claiming[1].key, "signed out")
            return lease

        with monkeypatch.context() as ending:
            ending.setattr(Licensing, "claim", claim_as_the_session_ends)
            assert (await curl(f"{url}/docs/a", "-H", f"Cookie: {cookie}")).status == 401
        await gateway.licensing.finish()
        assert (await curl(f"{url}/docs/a", user="bob")).status == 200, "the only CAL is free again"


async def test_cal_that_is_claimed_again_as_its_user_signs_out_is_released(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with site(tmp_path, license='session = { in_license = 1, minimum = "5m" }') as (gateway, url):
        opened = await curl(f"{url}/docs/a", user="alice")
        cookie = next(c for c in opened.values("set-cookie") if "calgate=" in c).partition(";")[0]
        await gateway.licensing.finish()
        allocator: Any = gateway.licensing._allocator
        claim = allocator.claim

        async def claim_after_the_sign_out(*claiming: Any, **more: Any) -> Lease:
            assert (await curl(f"{url}/_calgate/sign-out", "-X", "POST", "-b", cookie)).status == 303
            lease: Lease = await claim(*claiming, **more)
            return lease

        with monkeypatch.context() as leaving:
            leaving.setattr(allocator, "claim", claim_after_the_sign_out)
            assert (await curl(f"{url}/docs/b", "-b", cookie)).status == 401
        await gateway.licensing.finish()
        [pool] = [pool for pool in await allocator.pools("demo") if pool.limit]
        assert pool.free_at is not None
        assert pool.free_at < time.time() + 300, "it comes back after its minimum, not after the idle timeout"


async def test_websocket_whose_session_ends_while_its_cookies_are_noted_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key and its answer are those of RFC 6455, section 1.3."""

    async def switch(exchange: Exchange) -> None:
        lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade", "Set-Cookie: a=1"]
        exchange.writer.write("\r\n".join([*lines, f"Sec-WebSocket-Accept: {ACCEPT}", "", ""]).encode())

    async with document_server() as server, _gateway(tmp_path, server, POOLS) as (_, url):
        portal = await curl(f"{url}/portal", user="alice")
        cookie = next(c for c in portal.values("set-cookie") if "calgate=" in c).partition(";")[0]
        server.behaviour = switch

        async def note_as_the_session_ends(sessions: Sessions, session: Session, headers: object) -> None:
            await sessions.end(session.key, "signed out")

        monkeypatch.setattr(Sessions, "note_cookies", note_as_the_session_ends)
        fields = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {KEY}"]
        words = [word for field in (*fields, f"Cookie: {cookie}") for word in ("-H", field)]
        assert (await curl(f"{url}/live", "--max-time", "10", *words)).status == 401
