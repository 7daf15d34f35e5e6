"""Guessing is stopped, by all gateways together, and nobody is locked or shut out by a stranger."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from click.testing import CliRunner

from calgate.plugin.errors import AccountRefused, AuthenticationFailed, TooManySignIns, Unavailable
from calgate.plugin.identity import Identity, NtlmAttempt, NtlmProof
from calgate.plugin.services import Services
from calgate.store import RedisStore, StoreSection, open_store
from calgate_negotiate import guard as guard_module
from calgate_negotiate.commands import commands
from calgate_negotiate.guard import Guard, GuardReport, GuardSection, Keys, Limit
from calgate_negotiate.handshake import Mechanisms, NegotiateAuthenticator
from calgate_negotiate.ntlm import UsersVerifier, canonical
from calgate_negotiate.settings import Config
from calgate_users.directory import UsersDirectory
from support.handshakes import PEER, ntlm_client, shake
from support.redis_servers import Server
from support.users_file import write

HERE, ELSEWHERE, THIRD = "192.0.2.7", "198.51.100.9", "203.0.113.5"
SECTION = GuardSection(
    account=Limit(failures=4, within=600.0, wait=0.3), address=Limit(failures=10, within=600.0, wait=0.3)
)


@asynccontextmanager
async def store_of(server: Server, folder: Path) -> AsyncIterator[RedisStore]:
    async with open_store(StoreSection(url=server.url), folder) as store:
        yield store


@pytest_asyncio.fixture
async def store(server: Server, tmp_path: Path) -> AsyncIterator[RedisStore]:
    async with store_of(server, tmp_path) as opened:
        yield opened


class Domain:
    """Counts what a domain controller would see. alice's password is right when `knows` says so."""

    def __init__(self) -> None:
        self.tries = 0
        self.bad = 0
        self.answer: Exception | None = None

    async def check(self, *, right: bool) -> NtlmProof:
        self.tries += 1
        if self.answer is not None:
            raise self.answer
        if not right:
            self.bad += 1
            raise AuthenticationFailed("wrong")
        self.bad = 0
        return NtlmProof(Identity("CORP", "alice", "ntlm"), bytes(16))


async def attempt(
    guard: Guard, domain: Domain, address: str, *, right: bool = False, account: str = "corp\\alice"
) -> str:
    try:
        await guard.prove(account, address, lambda: domain.check(right=right))
    except AuthenticationFailed:
        return "wrong"
    except TooManySignIns as refusal:
        return "wait" if 0 < refusal.retry_after <= 600 else f"waits {refusal.retry_after}"
    return "in"


async def test_a_guesser_waits_after_four_failures_and_then_may_try_again(store: RedisStore) -> None:
    guard, domain = Guard(store, SECTION, passed_on=False), Domain()
    said = [await attempt(guard, domain, HERE) for _ in range(6)]
    assert said == ["wrong"] * 4 + ["wait"] * 2
    assert domain.tries == 4
    await asyncio.sleep(0.35)
    assert await attempt(guard, domain, HERE, right=True) == "in"


async def test_the_owner_at_another_address_is_not_shut_out(store: RedisStore) -> None:
    guard, domain = Guard(store, SECTION, passed_on=False), Domain()
    for _ in range(6):
        await attempt(guard, domain, ELSEWHERE)
    assert await attempt(guard, domain, HERE, right=True) == "in"


async def test_strangers_at_many_addresses_never_lock_an_account_in_the_domain(store: RedisStore) -> None:
    """The domain locks at five; whoever tries, from wherever, it sees four in a row at most."""
    guard, domain = Guard(store, SECTION, passed_on=True), Domain()
    for number in range(50):
        await attempt(guard, domain, f"198.51.100.{number}")
    assert domain.bad == 3


async def test_strangers_who_take_their_time_do_not_lock_it_either(store: RedisStore) -> None:
    """The domain's count begins anew only after a whole window without a failure (MS-SAMR, badPwdCount)."""
    limit = Limit(failures=4, within=1.5, wait=1.5)
    guard, domain = Guard(store, GuardSection(account=limit, address=limit), passed_on=True), Domain()
    assert await attempt(guard, domain, HERE) == "wrong"
    await asyncio.sleep(1)
    assert await attempt(guard, domain, HERE) == "wrong"
    await asyncio.sleep(0.7)
    for number in range(10):
        await attempt(guard, domain, f"198.51.100.{number}")
    assert domain.bad == 3


async def test_who_has_signed_in_from_there_before_keeps_a_try_that_strangers_cannot_use_up(store: RedisStore) -> None:
    guard, domain = Guard(store, SECTION, passed_on=True), Domain()
    assert await attempt(guard, domain, HERE, right=True) == "in"
    for number in range(50):
        await attempt(guard, domain, f"198.51.100.{number}")
    assert await attempt(guard, domain, HERE, right=True) == "in"
    assert await attempt(guard, domain, ELSEWHERE) == "wrong"  # a success starts the count anew, as in the domain


async def test_a_hundred_guesses_at_once_are_not_all_let_through(store: RedisStore) -> None:
    guard, domain = Guard(store, SECTION, passed_on=True), Domain()
    said = await asyncio.gather(*(attempt(guard, domain, f"198.51.100.{n % 50}") for n in range(100)))
    assert said.count("wrong") == 3
    assert domain.tries == 3


async def test_a_browsers_connections_that_sign_in_at_once_are_all_let_in(store: RedisStore) -> None:
    """Fifty right answers of one person together: they wait for each other, and nobody is told to come back later."""
    guard, domain = Guard(store, SECTION, passed_on=True), Domain()
    said = await asyncio.gather(*(attempt(guard, domain, HERE, right=True) for _ in range(50)))
    assert said == ["in"] * 50


async def test_tries_that_hang_are_waited_for_and_then_the_next_is_refused(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What hangs may turn out wrong, so one more could be one too many."""
    monkeypatch.setattr(guard_module, "PATIENCE", 0.1)
    guard, domain, answered = Guard(store, SECTION, passed_on=True), Domain(), asyncio.Event()

    async def hang() -> NtlmProof:
        await answered.wait()
        return await domain.check(right=False)

    async def try_slowly(address: str) -> None:
        with pytest.raises(AuthenticationFailed):
            await guard.prove("corp\\alice", address, hang)

    async with asyncio.TaskGroup() as group:
        for number in range(3):
            group.create_task(try_slowly(f"198.51.100.{number}"))
        await asyncio.sleep(0.1)
        assert await attempt(guard, domain, HERE, right=True) == "wait"
        answered.set()


async def test_a_client_that_goes_away_in_the_middle_leaves_nothing_counted(store: RedisStore) -> None:
    guard, never = Guard(store, SECTION, passed_on=True), asyncio.Event()

    async def hang() -> NtlmProof:
        await never.wait()
        raise AssertionError

    for _ in range(10):
        trying = asyncio.ensure_future(guard.prove("corp\\alice", HERE, hang))
        await asyncio.sleep(0.02)
        trying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await trying
    assert await attempt(guard, Domain(), HERE, right=True) == "in"


async def test_a_gateway_that_dies_in_the_middle_of_a_try_blocks_nobody_for_long(store: RedisStore) -> None:
    guard, domain = Guard(store, SECTION, passed_on=True), Domain()
    keys = Keys(store.prefix).of("corp\\alice", HERE)
    long_ago = 1000  # ms of 1970: a try that began then, and whose end nobody told
    for key in keys[4:]:
        await store.redis.zadd(key, {f"lost{number}": long_ago for number in range(10)})
    assert await attempt(guard, domain, HERE, right=True) == "in"


async def test_one_address_that_tries_many_accounts_waits(store: RedisStore) -> None:
    guard, domain = Guard(store, SECTION, passed_on=False), Domain()
    said = [await attempt(guard, domain, HERE, account=f"corp\\u{n}") for n in range(14)]
    assert said == ["wrong"] * 10 + ["wait"] * 4


@pytest.mark.parametrize("answer", [Unavailable("down"), AccountRefused("disabled")])
async def test_what_is_no_guess_is_not_counted(store: RedisStore, answer: Exception) -> None:
    guard, domain = Guard(store, SECTION, passed_on=True), Domain()
    domain.answer = answer
    for _ in range(20):
        with pytest.raises(type(answer)):
            await attempt(guard, domain, HERE)
    assert domain.tries == 20


async def test_a_success_ends_what_was_counted(store: RedisStore) -> None:
    guard, domain = Guard(store, SECTION, passed_on=True), Domain()
    for _ in range(4):
        assert await attempt(guard, domain, HERE) == "wrong"
        assert await attempt(guard, domain, HERE) == "wrong"
        assert await attempt(guard, domain, HERE, right=True) == "in"


async def test_two_gateways_count_as_one(server: Server, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        domain = Domain()
        stores = [await stack.enter_async_context(store_of(server, tmp_path / name)) for name in "ab"]
        gateways = [Guard(store, SECTION, passed_on=True) for store in stores]
        said = [await attempt(gateways[n % 2], domain, f"198.51.100.{n}") for n in range(8)]
    assert said == ["wrong"] * 3 + ["wait"] * 5


async def test_it_stands_before_the_prover(store: RedisStore, tmp_path: Path) -> None:
    guard = Guard(store, SECTION, passed_on=False)
    gateway = NegotiateAuthenticator(Mechanisms(prover=UsersVerifier(UsersDirectory(write(tmp_path))), guard=guard))
    spellings = ("DEMO\\alice", "demo\\ALICE", "alice@demo", "alice")
    for user in spellings:
        with pytest.raises(AuthenticationFailed):
            await shake(gateway.begin(PEER), ntlm_client(user, "wrong"), "NTLM")
    with pytest.raises(TooManySignIns):
        await shake(gateway.begin(PEER), ntlm_client("DEMO\\alice"), "NTLM")


@pytest.mark.parametrize(
    ("domain", "account"),
    [("", "alice"), ("CORP", "ALICE"), ("corp.example", "alice"), ("", "alice@corp.example"), ("", "Alice@CORP")],
)
def test_an_account_is_counted_under_one_name(domain: str, account: str) -> None:
    tried = NtlmAttempt(domain, account, "", b"", b"", b"")
    assert canonical(tried, "CORP", "corp.example") == "corp\\alice"


def test_blanks_within_a_name_make_no_further_names() -> None:
    tried = [NtlmAttempt("CORP", f"Mary{blanks}Ann", "", b"", b"", b"") for blanks in (" ", "  ", "\u2003 ")]
    assert {canonical(one, "CORP") for one in tried} == {"corp\\mary ann"}


# ---------------------------------------------------------------- what an administrator sees


class CommandContext:
    """Opens the store of a test."""

    def __init__(self, server: Server, folder: Path) -> None:
        self._server = server
        self._folder = folder

    def read(self, file: Path) -> Config:
        return Config(ntlm="users", guard=SECTION)

    def open(self, file: Path) -> AbstractAsyncContextManager[tuple[Any, Services]]:
        @asynccontextmanager
        async def opened() -> AsyncIterator[tuple[Any, Services]]:
            async with store_of(self._server, self._folder) as store:
                yield self.read(file), Services(store=store, state_dir=self._folder)

        return opened()


async def test_an_administrator_sees_a_block_and_lifts_it(server: Server, store: RedisStore, tmp_path: Path) -> None:
    patient = GuardSection(account=Limit(failures=4), address=Limit(failures=40))
    guard, domain = Guard(store, patient, passed_on=True), Domain()
    for _ in range(6):
        await attempt(guard, domain, HERE)
    for _ in range(2):
        await attempt(guard, domain, HERE, account="corp\\bob")

    def run(*words: str) -> str:
        result = CliRunner().invoke(commands(CommandContext(server, tmp_path)), list(words))
        assert result.exit_code == 0, result.output
        return result.output

    blocks = json.loads(await asyncio.to_thread(run, "blocked", "--json"))
    assert [(block["kind"], block["account"], block["failures"]) for block in blocks] == [("account", "corp\\alice", 3)]
    assert "corp\\alice" in await asyncio.to_thread(run, "blocked")
    await asyncio.to_thread(run, "lift", "CORP\\Alice")
    assert json.loads(await asyncio.to_thread(run, "blocked", "--json")) == []
    assert await attempt(guard, domain, HERE, right=True) == "in"
    missing = await asyncio.to_thread(
        CliRunner().invoke, commands(CommandContext(server, tmp_path)), ["lift", "CORP\\nobody"]
    )
    assert missing.exit_code == 1
    assert "nothing is counted against" in missing.output


async def test_whatever_a_stranger_typed_is_shown_as_it_is(server: Server, store: RedisStore, tmp_path: Path) -> None:
    guard, domain = Guard(store, GuardSection(), passed_on=False), Domain()
    for _ in range(5):
        await attempt(guard, domain, HERE, account="corp\\alice[b]:key:")
    result = await asyncio.to_thread(CliRunner().invoke, commands(CommandContext(server, tmp_path)), ["blocked"])
    assert "corp\\alice[b]:key:" in result.output


async def test_who_still_signs_in_by_ntlm_is_counted(server: Server, store: RedisStore, tmp_path: Path) -> None:
    guard, domain = Guard(store, SECTION, passed_on=True), Domain()
    for address in (HERE, HERE, THIRD):
        await attempt(guard, domain, address, right=True)
    assert [row[:3] for row in await GuardReport(store, SECTION).ntlm_sign_ins()] == [
        ("CORP\\alice", HERE, 2),
        ("CORP\\alice", THIRD, 1),
    ]
    shown = await asyncio.to_thread(CliRunner().invoke, commands(CommandContext(server, tmp_path)), ["ntlm"])
    assert "CORP\\alice" in shown.output
