"""Several domain controllers: failover, and never a locked bind account."""

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from calgate.plugin.errors import Unavailable
from calgate_ldap import Config
from calgate_ldap.connection import Connection, Entry
from calgate_ldap.pool import PAUSE, REST, Pool
from support.certificates import Authority
from support.ldap_data import BASE
from support.ldap_server import LdapServer

Configure = Callable[..., Config]
Servers = Callable[..., LdapServer]


class Clock:
    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pool_of(configure: Configure, clock: Clock) -> Iterator[Callable[..., Pool]]:
    pools: list[Pool] = []

    def make(*servers: LdapServer, **more: object) -> Pool:
        pools.append(Pool(configure(*servers, **more), clock))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


def top(connection: Connection) -> Entry | None:
    return connection.read(BASE, ["objectSid"])


@pytest.mark.alone
@pytest.mark.parametrize("mood", ["silent", "silent searching", "resetting", "busy"])
async def test_query_moves_to_the_next_server_within_three_seconds(
    pool_of: Callable[..., Pool], serve: Servers, mood: str
) -> None:
    first, second = serve(), serve()
    first.mood = mood
    began = time.monotonic()
    assert await pool_of(first, second).query(top) is not None
    assert time.monotonic() - began < 3
    assert second.searches == [BASE]


@pytest.mark.alone
@pytest.mark.parametrize("mood", ["silent searching", "resetting", "busy"])
async def test_query_succeeds_when_the_server_of_a_kept_connection_fails(
    pool_of: Callable[..., Pool], serve: Servers, mood: str
) -> None:
    first, second = serve(), serve()
    pool = pool_of(first, second)
    assert await pool.query(top) is not None
    first.mood = mood
    began = time.monotonic()
    assert await asyncio.gather(*(pool.query(top) for _ in range(4)))
    assert time.monotonic() - began < 3


async def test_query_skips_a_server_that_is_off(pool_of: Callable[..., Pool], serve: Servers) -> None:
    first, second = serve(), serve()
    first.stop()
    assert await pool_of(first, second).query(top) is not None


async def test_failed_server_is_tried_last_until_its_rest_is_over(
    pool_of: Callable[..., Pool], serve: Servers, clock: Clock
) -> None:
    first, second = serve(), serve()
    first.mood = "busy"
    pool = pool_of(first, second)
    for _ in range(8):
        await pool.query(top)
    assert len(first.searches) <= 4  # once a thread at most
    first.mood, clock.ahead = "well", REST + 1000
    before = len(first.searches)
    await pool.query(top)
    assert len(first.searches) == before + 1


async def test_closed_idle_connection_is_replaced_by_one_to_the_same_server(
    pool_of: Callable[..., Pool], serve: Servers
) -> None:
    first, second = serve(), serve()
    pool = pool_of(first, second)
    await pool.query(top)
    first.hang_up()
    for _ in range(4):
        assert await pool.query(top) is not None
    assert not second.searches


async def test_query_is_unavailable_only_while_no_server_responds(
    pool_of: Callable[..., Pool], serve: Servers, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve()
    server.mood = "busy"
    pool = pool_of(server)
    for _ in range(3):
        with pytest.raises(Unavailable) as caught:
            await pool.query(top)
        assert caught.value.code == "directory-unavailable"
    assert sum("no domain controller responds" in record.message for record in caplog.records) == 1
    server.mood, clock.ahead = "well", PAUSE
    assert await pool.query(top) is not None
    assert "responds again" in caplog.text


@pytest.mark.alone
async def test_queries_fail_at_once_after_every_server_has_failed(pool_of: Callable[..., Pool], serve: Servers) -> None:
    server = serve()
    server.mood = "silent"
    pool = pool_of(server)
    with pytest.raises(Unavailable):
        await pool.query(top)
    began = time.monotonic()
    for _ in range(50):
        with pytest.raises(Unavailable):
            await pool.query(top)
    assert time.monotonic() - began < 1


async def test_wrong_password_is_tried_once_and_not_by_every_thread(
    pool_of: Callable[..., Pool], serve: Servers
) -> None:
    """Five attempts would lock the account in the domain."""
    first, second = serve(password="other"), serve(password="other")
    pool = pool_of(first, second)
    results = await asyncio.gather(*(pool.query(top) for _ in range(8)), return_exceptions=True)
    assert all(isinstance(result, Unavailable) for result in results)
    assert len(first.binds) + len(second.binds) == 1
    assert "refuses ldap.bind's user or password" in str(results[0])


async def test_new_password_is_tried_at_once(pool_of: Callable[..., Pool], serve: Servers, secret: Path) -> None:
    server = serve()
    pool = pool_of(server, bind={"user": "svc", "password": {"file": str(secret)}})
    with pytest.raises(Unavailable):
        await pool.query(top)
    secret.write_text("right\n")
    assert await pool.query(top) is not None
    assert server.binds == ["wrong", "right"]


async def test_emptied_password_file_is_refused_before_an_anonymous_bind(
    configure: Configure, serve: Servers, tmp_path: Path
) -> None:
    """Settings with an empty password are refused; the file can be emptied later."""
    password = tmp_path / "ldap.secret"
    password.write_text("right")
    config = configure(serve(), bind={"user": "svc", "password": {"file": str(password)}})
    password.write_text("\n")
    with pytest.raises(ValueError, match="password is empty"):
        Pool(config)


async def test_start_tls_precedes_the_bind(pool_of: Callable[..., Pool], serve: Servers) -> None:
    server = serve(tls_first=False)
    assert await pool_of(server).query(top) is not None
    assert server.binds == ["right"]
    assert not server.was_bound_in_the_open


@pytest.mark.parametrize("tls_first", [True, False])
async def test_certificate_of_another_ca_is_refused_before_the_bind(
    pool_of: Callable[..., Pool], serve: Servers, tmp_path: Path, tls_first: bool
) -> None:
    server = serve(tls_first=tls_first)
    with pytest.raises(Unavailable, match="certificate is not accepted"):
        await pool_of(server, ca=Authority(tmp_path, "Another CA").file).query(top)
    assert not server.binds


async def test_certificate_for_another_name_is_refused_before_the_bind(
    pool_of: Callable[..., Pool], authority: Authority
) -> None:
    server = LdapServer(authority.sign("dc7.corp.example"), {})
    try:
        with pytest.raises(Unavailable, match="certificate is not accepted"):
            await pool_of(server).query(top)
        assert not server.binds
    finally:
        server.stop()


@pytest.mark.parametrize("content", [None, "not a certificate"])
async def test_start_fails_with_an_unusable_ca_file(
    configure: Configure, serve: Servers, tmp_path: Path, content: str | None
) -> None:
    ca = tmp_path / "ca.pem"
    if content is not None:
        ca.write_text(content)
    with pytest.raises(ValueError, match=r"ldap\.ca: .* cannot be used"):
        Pool(configure(serve(), ca=ca))
