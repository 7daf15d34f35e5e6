"""The gateway in front of a real domain: Kerberos by curl, groups and account states by LDAP."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from support.certificates import Authority
from support.domain import DOMAIN, HOST, OLD_HOST, PASSWORD, Lab, run
from support.domain_gateway import Front, front
from support.gateway_process import Reply, calgate, curl

NEGOTIATE = ("--negotiate", "-u", ":")
As = Callable[[str], None]


@pytest.fixture
def signed_in_to_windows_as(domain: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> As:
    """Gives the clients of a test a user's tickets, including one for the gateway."""

    def become(account: str) -> None:
        for name, value in domain.ticket(account, tmp_path).items():
            monkeypatch.setenv(name, value)
        run("kvno", "-q", f"HTTP/{HOST}")

    return become


@pytest_asyncio.fixture
async def gate(domain: Lab, tmp_path: Path) -> AsyncIterator[Front]:
    async with front(domain, tmp_path) as running:
        await ready(running)
        yield running


@pytest.fixture
def someone(domain: Lab) -> Iterator[str]:
    """An account in app-users for one test to change."""
    domain.samba_tool("user", "create", "someone", PASSWORD)
    domain.samba_tool("group", "addmembers", "app-users", "someone")
    yield "someone"
    domain.samba_tool("user", "delete", "someone")


async def ready(running: Front, within: float = 15) -> float:
    """Waits until the gateway reports that it is ready. Returns the seconds."""
    began = time.monotonic()
    while time.monotonic() - began < within:
        if (await curl(f"{running.url}/_calgate/health")).status == 200:
            return time.monotonic() - began
        await asyncio.sleep(0.1)
    raise AssertionError(running.gate.log.read_text())


async def ask(running: Front, path: str = "/docs/Sales") -> Reply:
    return await curl(running.url + path, *NEGOTIATE)


async def test_member_nested_four_deep_is_let_in_and_named_to_the_document_server(
    gate: Front, signed_in_to_windows_as: As
) -> None:
    signed_in_to_windows_as("alice")
    reply = await ask(gate)
    assert reply.status == 200
    assert gate.users() == ["CORP\\alice"]
    (mutual,) = reply.values("www-authenticate")
    assert mutual.startswith("Negotiate "), "the gateway proves itself too"
    (entry,) = gate.gate.decisions("signed in")
    assert (entry["user"], entry["mechanism"]) == ("CORP\\alice", "kerberos")


async def test_user_in_none_of_the_groups_is_refused_by_the_rule(gate: Front, signed_in_to_windows_as: As) -> None:
    signed_in_to_windows_as("carol")
    reply = await ask(gate)
    assert (reply.status, reply.json["code"]) == (403, "forbidden")
    (mutual,) = reply.values("www-authenticate")
    assert mutual.startswith("Negotiate "), "signed in all the same: the gateway's own token, and no new challenge"
    assert gate.users() == []


async def test_user_in_a_thousand_groups_is_let_in(gate: Front, signed_in_to_windows_as: As) -> None:
    signed_in_to_windows_as("many1000")
    assert (await ask(gate)).status == 200
    assert gate.users() == ["CORP\\many1000"]


async def test_request_without_a_ticket_gets_one_challenge_and_a_page(gate: Front) -> None:
    reply = await ask(gate)
    assert reply.status == 401
    assert reply.values("www-authenticate") == ["Negotiate"]
    assert gate.users() == []


async def test_rc4_ticket_is_refused_and_the_log_has_the_remedy(
    domain: Lab, tmp_path: Path, rc4_keytab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = tmp_path / "both.keytab"
    both.write_bytes(domain.keytab.read_bytes() + rc4_keytab.read_bytes()[2:])
    for name, value in domain.ticket("alice", tmp_path).items():
        if name != "KRB5_CONFIG":  # it keeps the one that allows RC4
            monkeypatch.setenv(name, value)
    async with front(domain, tmp_path, keytab=str(both)) as running:
        await ready(running)
        reply = await curl(running.url.replace(HOST, OLD_HOST) + "/docs/Sales", *NEGOTIATE)
        assert (reply.status, reply.json["code"]) == (401, "sign-in-failed")
        (entry,) = running.gate.decisions("sign-in failed")
        assert f"the ticket for HTTP/{OLD_HOST} is encrypted with rc4, not AES: allow AES for the account" in str(
            entry["reason"]
        )
        assert "has RC4 keys as well as AES keys" in running.gate.log.read_text()
        assert running.users() == []


async def test_ntlm_has_a_code_of_its_own_if_only_kerberos_is_on(gate: Front) -> None:
    reply = await curl(f"{gate.url}/", "-H", "Authorization: Negotiate TlRMTVNTUAABAAAAB4IIogAAAAAAAAAAAAAAAAAAAAA=")
    assert (reply.status, reply.json["code"]) == (401, "ntlm-off")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (["user", "disable", "someone"], "account-disabled"),
        (["user", "setexpiry", "someone", "--days=-1"], "account-expired"),
        (None, "account-locked"),
    ],
)
async def test_account_state_is_enforced_whatever_the_ticket_says(
    domain: Lab, gate: Front, signed_in_to_windows_as: As, someone: str, change: list[str] | None, code: str
) -> None:
    signed_in_to_windows_as(someone)
    if change is not None:
        domain.samba_tool(*change)
    else:
        for _ in range(6):
            await curl(f"ldaps://dc1.{DOMAIN}", "-u", f"CORP\\{someone}:wrong", "--cacert", str(domain.ca))
    reply = await ask(gate)
    assert (reply.status, reply.json["code"]) == (403, code)
    assert gate.users() == []


async def test_stopped_domain_controller_is_503_and_recovery_takes_seconds(
    domain: Lab, gate: Front, signed_in_to_windows_as: As
) -> None:
    signed_in_to_windows_as("bob")
    assert (await ask(gate)).status == 200
    signed_in_to_windows_as("alice")
    domain.do("dc", "stop")
    try:
        reply = await ask(gate)
        assert (reply.status, reply.json["code"]) == (503, "directory-unavailable")
        assert reply.values("retry-after")
    finally:
        domain.do("dc", "start")
    began = time.monotonic()
    while (reply := await ask(gate)).status == 503:
        assert time.monotonic() - began < 10
        await asyncio.sleep(0.2)
    assert reply.status == 200
    assert "responds again" in gate.gate.log.read_text()


async def test_stopped_domain_controller_under_load_is_503_until_it_is_back(
    domain: Lab, tmp_path: Path, signed_in_to_windows_as: As
) -> None:
    """Nothing is cached, so every sign-in queries the directory; the time to recover is asserted."""
    signed_in_to_windows_as("alice")
    async with front(domain, tmp_path, ldap='cache = "1ms"') as running:
        await ready(running)
        statuses: list[tuple[float, int]] = []
        over = asyncio.Event()

        async def load() -> None:
            while not over.is_set():
                status = (await ask(running, "/")).status
                statuses.append((time.monotonic(), status))

        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(load())
            await asyncio.sleep(0.5)
            await asyncio.to_thread(domain.do, "dc", "stop")
            await asyncio.sleep(1)
            await asyncio.to_thread(domain.do, "dc", "start")
            back = time.monotonic()
            await asyncio.sleep(6)
            over.set()
        assert {status for _at, status in statuses} == {200, 503}
        last_503 = max(at for at, status in statuses if status == 503)
        assert last_503 - back < 4
        assert statuses[-1][1] == 200


async def test_gateway_starts_without_its_directory_and_is_ready_once_it_responds(
    domain: Lab, tmp_path: Path, signed_in_to_windows_as: As
) -> None:
    """After a power failure everything starts at the same time."""
    signed_in_to_windows_as("alice")
    domain.do("dc", "stop")
    try:
        async with front(domain, tmp_path) as running:
            assert (await curl(f"{running.url}/_calgate/health")).status == 503
            assert (await ask(running)).status == 503
            domain.do("dc", "start")
            assert await ready(running) < 10
            assert (await ask(running)).status == 200
    finally:
        domain.do("dc", "start")


async def test_users_are_let_in_over_start_tls(domain: Lab, tmp_path: Path, signed_in_to_windows_as: As) -> None:
    async with front(domain, tmp_path, servers=f'"ldap://dc1.{DOMAIN}"') as running:
        await ready(running)
        signed_in_to_windows_as("alice")
        assert (await ask(running)).status == 200


@pytest.mark.parametrize("scheme", ["ldap", "ldaps"])
async def test_directory_with_a_certificate_of_another_ca_is_never_used(
    domain: Lab, tmp_path: Path, signed_in_to_windows_as: As, scheme: str
) -> None:
    other = Authority(tmp_path, "Another CA").file
    async with front(domain, tmp_path, servers=f'"{scheme}://dc1.{DOMAIN}"', ca=str(other)) as running:
        signed_in_to_windows_as("alice")
        assert (await ask(running)).status == 503
        assert "certificate is not accepted" in running.gate.log.read_text()


async def test_keytab_rotation_under_load_fails_no_sign_in(
    domain: Lab, tmp_path: Path, signed_in_to_windows_as: As, rotate: Callable[[Path], None]
) -> None:
    """The account's password changes during sign-ins with old and then new tickets; nothing is restarted."""
    keytab = tmp_path / "http.keytab"
    keytab.write_bytes(domain.keytab.read_bytes())
    signed_in_to_windows_as("bob")
    async with front(domain, tmp_path, keytab=str(keytab)) as running:
        await ready(running)
        statuses: list[int] = []
        rotated = asyncio.Event()

        async def load() -> None:
            while not rotated.is_set() or "CORP\\alice" not in running.users()[-8:]:
                statuses.append((await ask(running, "/")).status)

        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(load())
            await asyncio.to_thread(rotate, keytab)
            await asyncio.to_thread(signed_in_to_windows_as, "alice")
            rotated.set()
        assert set(statuses) == {200}
        assert {"CORP\\bob", "CORP\\alice"} == set(running.users())


async def test_change_in_the_directory_takes_effect_at_once_after_ending_the_sessions(
    domain: Lab, tmp_path: Path, signed_in_to_windows_as: As, someone: str
) -> None:
    """Without ending them it would take effect after `cache`, an hour here."""
    signed_in_to_windows_as(someone)
    async with front(domain, tmp_path, ldap='cache = "1h"') as running:
        await ready(running)
        assert (await ask(running)).status == 200
        domain.samba_tool("user", "disable", someone)
        assert (await ask(running)).status == 200
        code, out, _ = await calgate("sessions", "end", f"CORP\\{someone}", "-c", str(running.gate.settings))
        assert (code, "ended" in out) == (0, True)
        assert (await ask(running)).status == 403
