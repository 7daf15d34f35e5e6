"""Several domain controllers: the next one where one fails, and never our own account locked."""

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


@pytest.mark.parametrize("mood", ["silent", "silent searching", "resetting", "busy"])
async def test_the_next_server_answers_within_three_seconds(
    pool_of: Callable[..., Pool], serve: Servers, mood: str
) -> None:
    first, second = serve(), serve()
    first.mood = mood
    began = time.monotonic()
    assert await pool_of(first, second).ask(top) is not None
    assert time.monotonic() - began < 3
    assert second.searches == [BASE]


@pytest.mark.parametrize("mood", ["silent searching", "resetting", "busy"])
async def test_a_server_that_fails_under_a_kept_connection_costs_no_answer(
    pool_of: Callable[..., Pool], serve: Servers, mood: str
) -> None:
    first, second = serve(), serve()
    pool = pool_of(first, second)
    assert await pool.ask(top) is not None
    first.mood = mood
    began = time.monotonic()
    assert await asyncio.gather(*(pool.ask(top) for _ in range(4)))
    assert time.monotonic() - began < 3


async def test_a_server_that_is_off_is_passed_over(pool_of: Callable[..., Pool], serve: Servers) -> None:
    first, second = serve(), serve()
    first.stop()
    assert await pool_of(first, second).ask(top) is not None


async def test_a_server_that_failed_is_asked_last_until_it_has_rested(
    pool_of: Callable[..., Pool], serve: Servers, clock: Clock
) -> None:
    first, second = serve(), serve()
    first.mood = "busy"
    pool = pool_of(first, second)
    for _ in range(8):
        await pool.ask(top)
    assert len(first.searches) <= 4  # once a thread at most
    first.mood, clock.ahead = "well", REST + 1000
    before = len(first.searches)
    await pool.ask(top)
    assert len(first.searches) == before + 1


async def test_an_idle_connection_that_was_hung_up_on_is_made_anew_to_the_same_server(
    pool_of: Callable[..., Pool], serve: Servers
) -> None:
    first, second = serve(), serve()
    pool = pool_of(first, second)
    await pool.ask(top)
    first.hang_up()
    for _ in range(4):
        assert await pool.ask(top) is not None
    assert not second.searches


async def test_nobody_answers_is_unavailable_and_over_when_one_answers_again(
    pool_of: Callable[..., Pool], serve: Servers, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve()
    server.mood = "busy"
    pool = pool_of(server)
    for _ in range(3):
        with pytest.raises(Unavailable) as caught:
            await pool.ask(top)
        assert caught.value.code == "directory-unavailable"
    assert sum("nobody answers" in record.message for record in caplog.records) == 1
    server.mood, clock.ahead = "well", PAUSE
    assert await pool.ask(top) is not None
    assert "answers again" in caplog.text


async def test_after_nobody_answered_nobody_waits_for_timeouts(pool_of: Callable[..., Pool], serve: Servers) -> None:
    server = serve()
    server.mood = "silent"
    pool = pool_of(server)
    with pytest.raises(Unavailable):
        await pool.ask(top)
    began = time.monotonic()
    for _ in range(50):
        with pytest.raises(Unavailable):
            await pool.ask(top)
    assert time.monotonic() - began < 1


async def test_a_wrong_password_is_tried_once_and_not_by_every_thread(
    pool_of: Callable[..., Pool], serve: Servers
) -> None:
    """Five tries would lock the account in the domain."""
    first, second = serve(password="other"), serve(password="other")
    pool = pool_of(first, second)
    answers = await asyncio.gather(*(pool.ask(top) for _ in range(8)), return_exceptions=True)
    assert all(isinstance(answer, Unavailable) for answer in answers)
    assert len(first.binds) + len(second.binds) == 1
    assert "refuses ldap.bind's user or password" in str(answers[0])


async def test_a_new_password_is_tried_at_once(pool_of: Callable[..., Pool], serve: Servers, secret: Path) -> None:
    server = serve()
    pool = pool_of(server, bind={"user": "svc", "password": {"file": str(secret)}})
    with pytest.raises(Unavailable):
        await pool.ask(top)
    secret.write_text("right\n")
    assert await pool.ask(top) is not None
    assert server.binds == ["wrong", "right"]


async def test_a_password_that_has_become_empty_is_refused_before_any_server_takes_it_for_anonymous(
    configure: Configure, serve: Servers, tmp_path: Path
) -> None:
    """The settings are refused with an empty one; the file may be emptied later."""
    password = tmp_path / "ldap.secret"
    password.write_text("right")
    config = configure(serve(), bind={"user": "svc", "password": {"file": str(password)}})
    password.write_text("\n")
    with pytest.raises(ValueError, match="password is empty"):
        Pool(config)


async def test_start_tls_comes_before_the_password(pool_of: Callable[..., Pool], serve: Servers) -> None:
    server = serve(tls_first=False)
    assert await pool_of(server).ask(top) is not None
    assert server.binds == ["right"]
    assert not server.was_bound_in_the_open


@pytest.mark.parametrize("tls_first", [True, False])
async def test_a_certificate_of_another_authority_is_refused_before_the_password(
    pool_of: Callable[..., Pool], serve: Servers, tmp_path: Path, tls_first: bool
) -> None:
    server = serve(tls_first=tls_first)
    with pytest.raises(Unavailable, match="certificate is not accepted"):
        await pool_of(server, ca=Authority(tmp_path, "Another CA").file).ask(top)
    assert not server.binds


async def test_a_certificate_for_another_name_is_refused_before_the_password(
    pool_of: Callable[..., Pool], authority: Authority
) -> None:
    server = LdapServer(authority.sign("dc7.corp.example"), {})
    try:
        with pytest.raises(Unavailable, match="certificate is not accepted"):
            await pool_of(server).ask(top)
        assert not server.binds
    finally:
        server.stop()


@pytest.mark.parametrize("content", [None, "not a certificate"])
async def test_a_ca_file_of_no_use_is_told_at_start(
    configure: Configure, serve: Servers, tmp_path: Path, content: str | None
) -> None:
    ca = tmp_path / "ca.pem"
    if content is not None:
        ca.write_text(content)
    with pytest.raises(ValueError, match=r"ldap\.ca .* cannot be used"):
        Pool(configure(serve(), ca=ca))
