"""The guard against password guessing: limits hold for all gateways together, and a stranger locks nobody out."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from click.testing import CliRunner

from calgate.plugin.changes import ChangeLog
from calgate.plugin.errors import AccountRefused, AuthenticationFailed, TooManySignIns, Unavailable
from calgate.plugin.identity import Identity, NtlmAttempt, NtlmProof
from calgate.plugin.services import Services
from calgate.store import RedisStore, StoreSection, open_store
from calgate_negotiate import guard as guard_module
from calgate_negotiate.commands import commands
from calgate_negotiate.guard import Guard, GuardReport, GuardSection, Keys, Limit, UndecidedError
from calgate_negotiate.handshake import Mechanisms, NegotiateAuthenticator
from calgate_negotiate.ntlm import PluginVerifier, canonical
from calgate_negotiate.settings import Config
from calgate_negotiate.winbind import Membership, trusted_names
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
    """Counts the attempts that a domain controller would see; raises `error` if there is one."""

    def __init__(self) -> None:
        self.tries = 0
        self.bad = 0
        self.error: Exception | None = None

    async def check(self, *, right: bool) -> NtlmProof:
        self.tries += 1
        if self.error is not None:
            raise self.error
        if not right:
            self.bad += 1
            raise AuthenticationFailed("wrong")
        self.bad = 0
        return NtlmProof(Identity("CORP", "alice", "ntlm"), bytes(16))


async def attempt(
    guard: Guard, domain: Domain, address: str, *, right: bool = False, account: str = "corp\\alice"
) -> str:
    try:
        await guard.verify(account, address, lambda: domain.check(right=right))
    except AuthenticationFailed:
        return "wrong"
    except TooManySignIns as refusal:
        return "wait" if 0 < refusal.retry_after <= 600 else f"waits {refusal.retry_after}"
    return "in"


async def test_guesser_has_to_wait_after_four_failures_and_can_then_try_again(store: RedisStore) -> None:
    guard, domain = Guard(store, SECTION, passed_on=False), Domain()
    said = [await attempt(guard, domain, HERE) for _ in range(6)]
    assert said == ["wrong"] * 4 + ["wait"] * 2
    assert domain.tries == 4
    await asyncio.sleep(0.35)
    assert await attempt(guard, domain, HERE, right=True) == "in"


async def test_owner_signs_in_from_another_address_while_a_guesser_waits(store: RedisStore) -> None:
    guard, domain = Guard(store, SECTION, passed_on=False), Domain()
    for _ in range(6):
        await attempt(guard, domain, ELSEWHERE)
    assert await attempt(guard, domain, HERE, right=True) == "in"


async def test_account_is_never_locked_in_the_domain_by_strangers_at_many_addresses(store: RedisStore) -> None:
    """The domain locks after five failures; it sees four in a row at most."""
    guard, domain = Guard(store, SECTION, passed_on=True), Domain()
    for number in range(50):
        await attempt(guard, domain, f"198.51.100.{number}")
    assert domain.bad == 3


async def test_account_is_never_locked_in_the_domain_by_slow_strangers(store: RedisStore) -> None:
    """The domain's count restarts only after a whole window without a failure (MS-SAMR, badPwdCount)."""
    limit = Limit(failures=4, within=1.5, wait=1.5)
    guard, domain = Guard(store, GuardSection(account=limit, address=limit), passed_on=True), Domain()
    assert await attempt(guard, domain, HERE) == "wrong"
    await asyncio.sleep(1)
    assert await attempt(guard, domain, HERE) == "wrong"
    await asyncio.sleep(0.7)
    for number in range(10):
        await attempt(guard, domain, f"198.51.100.{number}")
    assert domain.bad == 3


async def test_known_address_keeps_an_attempt_that_strangers_cannot_use_up(store: RedisStore) -> None:
    guard, domain = Guard(store, SECTION, passed_on=True), Domain()
    assert await attempt(guard, domain, HERE, right=True) == "in"
    for number in range(50):
        await attempt(guard, domain, f"198.51.100.{number}")
    assert await attempt(guard, domain, HERE, right=True) == "in"
    assert await attempt(guard, domain, ELSEWHERE) == "wrong"  # a success restarts the count, as in the domain


async def test_simultaneous_guesses_are_limited_like_consecutive_ones(store: RedisStore) -> None:
    guard, domain = Guard(store, SECTION, passed_on=True), Domain()
    said = await asyncio.gather(*(attempt(guard, domain, f"198.51.100.{n % 50}") for n in range(100)))
    assert said.count("wrong") == 3
    assert domain.tries == 3


async def test_simultaneous_right_attempts_all_succeed(store: RedisStore) -> None:
    """Fifty right attempts of one user at once: they wait for each other, and none is refused."""
    guard, domain = Guard(store, SECTION, passed_on=True), Domain()
    said = await asyncio.gather(*(attempt(guard, domain, HERE, right=True) for _ in range(50)))
    assert said == ["in"] * 50


async def test_next_attempt_is_refused_while_earlier_ones_hang(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attempt that hangs can turn out wrong, so another one could exceed the limit."""
    monkeypatch.setattr(guard_module, "PATIENCE", 0.1)
    guard, domain, answered = Guard(store, SECTION, passed_on=True), Domain(), asyncio.Event()

    async def hang() -> NtlmProof:
        await answered.wait()
        return await domain.check(right=False)

    async def attempt_slowly(address: str) -> None:
        with pytest.raises(AuthenticationFailed):
            await guard.verify("corp\\alice", address, hang)

    async with asyncio.TaskGroup() as group:
        for number in range(3):
            group.create_task(attempt_slowly(f"198.51.100.{number}"))
        await asyncio.sleep(0.1)
        assert await attempt(guard, domain, HERE, right=True) == "wait"
        answered.set()


class SlowDomain(Domain):
    """Holds every attempt back until `release`; `is_right` decides all of them."""

    def __init__(self, *, is_right: bool) -> None:
        super().__init__()
        self.release = asyncio.Event()
        self.begun = asyncio.Semaphore(0)
        self._is_right = is_right

    async def verify(self) -> NtlmProof:
        self.begun.release()
        await self.release.wait()
        return await self.check(right=self._is_right)


async def hang_up(guard: Guard, domain: SlowDomain, address: str) -> None:
    """Begins an attempt, and closes the connection while the domain is at work on it."""
    attempting = asyncio.ensure_future(guard.verify("corp\\alice", address, domain.verify))
    await domain.begun.acquire()
    attempting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempting


async def test_wrong_attempts_are_counted_when_the_client_hangs_up(
    store: RedisStore, caplog: pytest.LogCaptureFixture
) -> None:
    guard, slow, domain = Guard(store, SECTION, passed_on=True), SlowDomain(is_right=False), Domain()
    for number in range(3):
        await hang_up(guard, slow, f"198.51.100.{number}")
    slow.release.set()
    await guard.close()
    assert (slow.tries, slow.bad) == (3, 3)
    assert await attempt(guard, domain, HERE) == "wait"
    assert domain.tries == 0
    assert caplog.text.count("corp\\alice from 198.51.100.0 failed after the client had closed the connection") == 1


async def test_hanging_up_never_lets_more_guesses_through_than_waiting_does(store: RedisStore) -> None:
    guard, domain = Guard(store, SECTION, passed_on=True), Domain()
    for number in range(25):
        attempting = asyncio.ensure_future(attempt(guard, domain, f"198.51.100.{number}"))
        await asyncio.sleep(number % 5 * 0.001)  # from before the first command to the store until after the last
        attempting.cancel()
        await asyncio.gather(attempting, return_exceptions=True)
    await guard.close()
    assert domain.bad <= 3
    await attempt(guard, domain, HERE)
    assert domain.bad <= 3


async def test_right_attempts_leave_nothing_counted_when_the_client_hangs_up(store: RedisStore) -> None:
    guard, domain = Guard(store, SECTION, passed_on=True), Domain()
    for _ in range(10):
        slow = SlowDomain(is_right=True)
        slow.release.set()
        await hang_up(guard, slow, HERE)
    await guard.close()
    assert await attempt(guard, domain, HERE, right=True) == "in"


async def test_attempt_of_a_client_that_hung_up_while_it_waited_reaches_no_verifier(store: RedisStore) -> None:
    guard, slow, domain = Guard(store, SECTION, passed_on=True), SlowDomain(is_right=True), Domain()
    holding = [asyncio.create_task(guard.verify("corp\\alice", f"198.51.100.{n}", slow.verify)) for n in range(3)]
    for _ in holding:
        await slow.begun.acquire()
    waiting = asyncio.ensure_future(attempt(guard, domain, HERE))
    await asyncio.sleep(0.05)
    waiting.cancel()
    slow.release.set()
    await asyncio.gather(*holding)
    await guard.close()
    assert domain.tries == 0
    assert await attempt(guard, domain, HERE, right=True) == "in"


async def test_attempt_with_an_unknown_outcome_is_counted(store: RedisStore) -> None:
    """The domain was silent, and may have counted the attempt by now."""
    guard, domain = Guard(store, SECTION, passed_on=True), Domain()
    domain.error = UndecidedError("silent")
    for _ in range(3):
        with pytest.raises(Unavailable):
            await attempt(guard, domain, HERE)
    assert await attempt(guard, domain, HERE) == "wait"
    assert domain.tries == 3


async def test_attempts_of_a_gateway_that_died_lapse(store: RedisStore) -> None:
    guard, domain = Guard(store, SECTION, passed_on=True), Domain()
    keys = Keys(store.prefix).of("corp\\alice", HERE)
    long_ago = 1000  # ms of 1970: an attempt that began then and never ended
    for key in keys[4:]:
        await store.redis.zadd(key, {f"lost{number}": long_ago for number in range(10)})
    assert await attempt(guard, domain, HERE, right=True) == "in"


async def test_address_has_to_wait_after_failures_of_many_accounts(store: RedisStore) -> None:
    guard, domain = Guard(store, SECTION, passed_on=False), Domain()
    said = [await attempt(guard, domain, HERE, account=f"corp\\u{n}") for n in range(14)]
    assert said == ["wrong"] * 10 + ["wait"] * 4


@pytest.mark.parametrize("error", [Unavailable("down"), AccountRefused("disabled")])
async def test_attempt_without_a_password_check_is_not_counted(store: RedisStore, error: Exception) -> None:
    guard, domain = Guard(store, SECTION, passed_on=True), Domain()
    domain.error = error
    for _ in range(20):
        with pytest.raises(type(error)):
            await attempt(guard, domain, HERE)
    assert domain.tries == 20


async def test_success_deletes_the_counts_of_its_account(store: RedisStore) -> None:
    guard, domain = Guard(store, SECTION, passed_on=True), Domain()
    for _ in range(4):
        assert await attempt(guard, domain, HERE) == "wrong"
        assert await attempt(guard, domain, HERE) == "wrong"
        assert await attempt(guard, domain, HERE, right=True) == "in"


async def test_two_gateways_count_together(server: Server, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        domain = Domain()
        stores = [await stack.enter_async_context(store_of(server, tmp_path / name)) for name in "ab"]
        gateways = [Guard(store, SECTION, passed_on=True) for store in stores]
        said = [await attempt(gateways[n % 2], domain, f"198.51.100.{n}") for n in range(8)]
    assert said == ["wrong"] * 3 + ["wait"] * 5


async def test_guard_stops_attempts_before_the_verifier_whatever_the_spelling(
    store: RedisStore, tmp_path: Path
) -> None:
    guard = Guard(store, SECTION, passed_on=False)
    gateway = NegotiateAuthenticator(
        Mechanisms(ntlm_verifier=PluginVerifier(UsersDirectory(write(tmp_path))), guard=guard)
    )
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
def test_canonical_name_is_the_same_for_every_spelling_of_an_account(domain: str, account: str) -> None:
    tried = NtlmAttempt(domain, account, "", b"", b"", b"")
    member = Membership("GATEWAY", "CORP", "corp.example")
    assert canonical(tried, "CORP", member.netbios) == "corp\\alice"


@pytest.mark.parametrize("setting", ["PARTNER", "partner.example.net"])
@pytest.mark.parametrize("known", [(), ("PARTNER", "partner.example.net")])
@pytest.mark.parametrize(
    ("domain", "account"),
    [("PARTNER", "dora"), ("partner.example.net", "Dora"), ("", "dora@PARTNER.EXAMPLE.NET"), ("", "dora@partner")],
)
def test_trusted_domain_has_one_name_however_it_is_written(
    setting: str, known: tuple[str, ...], domain: str, account: str
) -> None:
    member = Membership("GATEWAY", "CORP", "corp.example", trusted_names({setting: known}))
    attempt = NtlmAttempt(domain, account, "", b"", b"", b"")
    assert canonical(attempt, "CORP", member.netbios) == "partner\\dora"
    assert member.netbios(domain or account.partition("@")[2]) == "PARTNER"
    assert [member.netbios(other) for other in ("EVIL", "evil.example", "GATEWAY", "")] == [None] * 4


def test_canonical_name_is_the_same_for_any_blanks_within_the_account() -> None:
    tried = [NtlmAttempt("CORP", f"Mary{blanks}Ann", "", b"", b"", b"") for blanks in (" ", "  ", "\u2003 ")]
    assert {canonical(one, "CORP") for one in tried} == {"corp\\mary ann"}


# ---------------------------------------------------------------- commands


class CommandContext:
    """Opens the store of a test."""

    def __init__(self, server: Server, folder: Path) -> None:
        self._server = server
        self._folder = folder

    def document_of(self, method: str, target: str) -> str | None:
        return None

    def read(self, file: Path) -> Config:
        return Config(ntlm="users", guard=SECTION)

    def open(self, file: Path) -> AbstractAsyncContextManager[tuple[Any, Services]]:
        @asynccontextmanager
        async def opened() -> AsyncIterator[tuple[Any, Services]]:
            async with store_of(self._server, self._folder) as store:
                yield self.read(file), Services(store=store, state_dir=self._folder)

        return opened()


async def test_blocked_command_lists_a_block_and_lift_removes_it(
    server: Server, store: RedisStore, tmp_path: Path
) -> None:
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
    await asyncio.to_thread(run, "lift", "CORP\\Alice", "--reason", "typed on the wrong keyboard")
    [change] = [change async for change in ChangeLog(store).latest()]
    assert (change.what, change.subject, change.reason) == (
        *("block-lifted", "CORP\\Alice"),
        "typed on the wrong keyboard",
    )
    assert json.loads(await asyncio.to_thread(run, "blocked", "--json")) == []
    assert await attempt(guard, domain, HERE, right=True) == "in"
    missing = await asyncio.to_thread(
        CliRunner().invoke, commands(CommandContext(server, tmp_path)), ["lift", "CORP\\nobody"]
    )
    assert missing.exit_code == 1
    assert "no failures are counted" in missing.output


async def test_blocked_command_prints_markup_characters_as_they_are(
    server: Server, store: RedisStore, tmp_path: Path
) -> None:
    guard, domain = Guard(store, GuardSection(), passed_on=False), Domain()
    for _ in range(5):
        await attempt(guard, domain, HERE, account="corp\\alice[b]:key:")
    result = await asyncio.to_thread(CliRunner().invoke, commands(CommandContext(server, tmp_path)), ["blocked"])
    assert "corp\\alice[b]:key:" in result.output


async def test_ntlm_command_counts_sign_ins_by_user_and_address(
    server: Server, store: RedisStore, tmp_path: Path
) -> None:
    guard, domain = Guard(store, SECTION, passed_on=True), Domain()
    for address in (HERE, HERE, THIRD):
        await attempt(guard, domain, address, right=True)
    assert [row[:3] for row in await GuardReport(store, SECTION).ntlm_sign_ins()] == [
        ("CORP\\alice", HERE, 2),
        ("CORP\\alice", THIRD, 1),
    ]
    shown = await asyncio.to_thread(CliRunner().invoke, commands(CommandContext(server, tmp_path)), ["ntlm"])
    assert "CORP\\alice" in shown.output
