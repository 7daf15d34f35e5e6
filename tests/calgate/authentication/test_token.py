"""The uses that an API token allows, and a gateway's copy of it."""

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import pytest_asyncio

from calgate.authentication.token import Token, from_fields, to_fields, token_in
from calgate.authentication.token_store import TokenStore
from calgate.authentication.tokens import Tokens
from calgate.plugin.errors import AuthenticationFailed, Forbidden, Refusal, SignInNeeded, Unavailable
from calgate.plugin.licensing import Lease
from calgate.plugin.services import Store
from calgate.store import StoreSection, open_store
from calgate.telemetry.metrics import Metrics
from support.redis_servers import Server

TOKEN = Token(
    "key",
    "id",
    "CORP",
    "svc-report",
    "S-1-5-21-1-2-3-1105",
    "root",
    1000.0,
    2000.0,
    frozenset({"/reports"}),
    (ip_network("10.0.0.0/8"), ip_network("fd00::/8")),
    console="reader",
)


def test_token_is_valid_until_its_end_or_its_revocation() -> None:
    TOKEN.demand_valid(1999.9)
    with pytest.raises(AuthenticationFailed, match="has expired"):
        TOKEN.demand_valid(2000.0)
    with pytest.raises(AuthenticationFailed, match="is revoked"):
        replace(TOKEN, revoked=1500.0).demand_valid(1600.0)


@pytest.mark.parametrize("address", ["192.0.2.1", "::1", "", "unix:", "10.0.0"])
def test_token_is_refused_from_any_other_network(address: str) -> None:
    with pytest.raises(Forbidden):
        TOKEN.demand_network(address)
    replace(TOKEN, networks=()).demand_network(address)


@pytest.mark.parametrize("address", ["10.1.2.3", "::ffff:10.1.2.3", "fd00::1%eth0"])
def test_token_is_accepted_from_its_networks(address: str) -> None:
    TOKEN.demand_network(address)


def test_token_is_for_its_routes_and_gives_no_credentials_of_the_user_unless_it_says_so() -> None:
    TOKEN.demand_route("/reports", delegates=False)
    with pytest.raises(Forbidden):
        TOKEN.demand_route("/", delegates=False)
    with pytest.raises(Forbidden, match="--delegate"):
        TOKEN.demand_route("/reports", delegates=True)
    replace(TOKEN, delegates=True).demand_route("/reports", delegates=True)


def test_record_of_a_token_says_all_that_it_is() -> None:
    token = replace(TOKEN, delegates=True, may_remove=True)
    assert from_fields("key", to_fields(token) | {"created": "1000000"}) == token


def test_identity_is_the_sid_where_there_is_one() -> None:
    assert TOKEN.identity.sid == "S-1-5-21-1-2-3-1105"
    assert replace(TOKEN, person_key="corp\\svc-report").identity.sid is None


@pytest.mark.parametrize("value", [b"Bearer abc", b"Basic calgate_x", b"Bearer", b"", None, b"Bearer calgate_x y"])
def test_other_authorization_is_no_token(value: bytes | None) -> None:
    assert token_in(value) is None


# ------------------------------------------------------------ the copies of one gateway


@pytest_asyncio.fixture
async def store(server: Server, tmp_path: Path) -> AsyncIterator[Store]:
    async with open_store(StoreSection(url=server.url), tmp_path) as opened:
        yield opened


class Clock:
    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


def request_with(secret: str, address: str = "10.1.2.3") -> Any:
    headers = SimpleNamespace(by_name={b"authorization": b"Bearer " + secret.encode()})
    return SimpleNamespace(
        headers=headers, scheme="https", address=address, reference="r", log_refusal=lambda *a, **k: None
    )


class Poll:
    """An open exchange."""

    lease: Lease | None = None
    outlives_expiry = False
    ended_by: Refusal | None = None

    def end(self, refusal: Refusal, reason: str) -> None:
        self.ended_by = refusal


class DeafStore:
    """A store whose events are lost, and that can go away."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.prefix = store.prefix
        self.is_away = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def listen(self, on_event: object) -> None:
        pass

    async def call(self, *args: Any, **options: Any) -> Any:
        if self.is_away:
            raise Unavailable("away")
        return await self._store.call(*args, **options)


async def test_revocation_ends_what_is_open_though_its_event_was_lost(store: Store) -> None:
    clock = Clock()
    tokens = Tokens(cast(Store, DeafStore(store)), 60.0, None, Metrics(), clock)
    known = TokenStore(store)
    token, secret = await known.new(replace(TOKEN, until=clock.now + 3600))
    session = await tokens.session(request_with(secret))
    poll = Poll()
    session.open(poll)
    await known.revoke(token)
    await tokens.keep_once()
    assert poll.ended_by is None, "the copy is still believed"
    clock.now += 20
    await tokens.keep_once()
    assert isinstance(poll.ended_by, SignInNeeded)
    assert tokens.sessions == []
    with pytest.raises(AuthenticationFailed, match="is revoked"):
        await tokens.session(request_with(secret))


async def test_token_that_expires_ends_what_is_open(store: Store) -> None:
    clock = Clock()
    tokens = Tokens(store, 60.0, None, Metrics(), clock)
    _, secret = await TokenStore(store).new(replace(TOKEN, until=clock.now + 5))
    await tokens.session(request_with(secret))
    clock.now += 6
    with pytest.raises(AuthenticationFailed, match="has expired"):
        await tokens.session(request_with(secret))
    await tokens.keep_once()
    assert tokens.sessions == []


async def test_known_token_serves_for_the_grace_time_while_the_store_is_away(store: Store) -> None:
    clock, away = Clock(), DeafStore(store)
    tokens = Tokens(cast(Store, away), 60.0, None, Metrics(), clock)
    known = TokenStore(store)
    _, secret = await known.new(replace(TOKEN, until=clock.now + 3600))
    _, other = await known.new(replace(TOKEN, until=clock.now + 3600))
    await tokens.session(request_with(secret))
    away.is_away = True
    clock.now += 30
    assert await tokens.session(request_with(secret))
    with pytest.raises(Unavailable):
        await tokens.session(request_with(other))
    clock.now += 60
    with pytest.raises(Unavailable):
        await tokens.session(request_with(secret))


async def test_store_has_no_token_itself(store: Store) -> None:
    _, secret = await TokenStore(store).new(replace(TOKEN, until=time.time() + 3600))
    keys = [key async for key in store.redis.scan_iter(match=f"{store.prefix}:*")]
    values = [await store.redis.hgetall(key) for key in keys if await store.redis.type(key) in (b"hash", "hash")]
    assert values
    assert secret not in repr(values)
    assert secret not in repr(keys)
