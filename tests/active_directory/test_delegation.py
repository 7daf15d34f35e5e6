"""Kerberos delegation: Apache behind the gateway has an SPN of its own, and sees the user as themselves."""

import asyncio
import base64
import hashlib
import os
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from calgate.plugin.access import Grant
from calgate.plugin.checks import CheckContext, Finding
from calgate.plugin.errors import AccountRefused, Forbidden, Refusal
from calgate.plugin.identity import Person
from calgate.plugin.services import Services
from calgate.plugin.sign_on import DocumentServer
from calgate_delegation.check import check
from calgate_delegation.open_tickets import open_tickets
from calgate_delegation.settings import Config
from calgate_delegation.sign_on import Delegation
from support.domain import DOMAIN, HOST, OLD_HOST, PASSWORD, Lab
from support.domain_delegation import REALM, SERVICE, apache, docs_keytab, in_front_of, seen
from support.domain_directory import directory, named
from support.gateway_process import DocumentServer as RecordingServer
from support.gateway_process import Exchange, Gateway, curl, document_server

__all__ = ["apache", "docs_keytab"]  # fixtures

FIVE = ("alice", "bob", "carol", "björn", "many1000")


async def sign_in(gate: Gateway, lab: Lab, folder: Path, account: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Signs in by Kerberos and returns the session cookie."""
    for name, value in (await asyncio.to_thread(lab.ticket, account, folder)).items():
        monkeypatch.setenv(name, value)
    reply = await curl(f"http://{HOST}:{gate.port}/", "--negotiate", "-u", ":")
    assert reply.status == 200, (account, reply, gate.log.read_text()[-2000:])
    return next(cookie for cookie in reply.values("set-cookie") if "calgate=" in cookie).partition(";")[0]


# ---------------------------------------------------------------- the whole gateway


async def test_apache_sees_each_user_as_themselves_however_they_signed_in(
    domain: Lab, apache: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with in_front_of(domain, tmp_path, apache, OLD_HOST, "HTTP/{host}") as gate:
        url = f"http://{HOST}:{gate.port}"
        for account in ("alice", "björn", "many1000"):
            cookie = await sign_in(gate, domain, tmp_path, account, monkeypatch)
            for path in ("/", "/", "/bound/"):  # a token that came twice would be a replay
                reply = await curl(url + path, "-H", f"Cookie: {cookie}")
                assert (reply.status, seen(reply.values("x-seen"))) == (200, [f"{account}@{REALM}"]), (account, path)
        for name in ("CORP\\bob", f"carol@{DOMAIN}"):
            reply = await curl(url, "--ntlm", "-u", f"{name}:{PASSWORD}")
            account = name.rpartition("\\")[2].partition("@")[0]
            assert (reply.status, seen(reply.values("x-seen"))) == (200, [f"{account}@{REALM}"])
        kept = list((tmp_path / "state").glob("delegation-*/client.keytab"))
        assert {stat.S_IMODE(file.stat().st_mode) for file in kept} == {0o600}
    assert list((tmp_path / "state").glob("delegation-*")) == [], "keys stay behind"


async def test_server_that_trusts_its_connections_never_sees_one_user_as_another(
    domain: Lab, docs_keytab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As IIS does with authPersistNonNTLM: the first user of a connection is the user of all its requests."""
    async with document_server() as server:
        trusting(server, docs_keytab)
        async with in_front_of(domain, tmp_path, server.port) as gate:
            cookies = {account: await sign_in(gate, domain, tmp_path, account, monkeypatch) for account in FIVE}

            async def ask(account: str, number: int) -> tuple[str, str]:
                await asyncio.sleep(number % 7 / 100)  # so that they overlap in ever new ways
                head = await exchange_at(gate, f"GET /{number} HTTP/1.1", cookies[account])
                return account, head.partition("X-Seen: ")[2].partition("\r\n")[0].partition("@")[0]

            answers = await asyncio.gather(*(ask(FIVE[number % 5], number) for number in range(200)))
            assert [pair for pair in answers if pair[0] != pair[1]] == []
            upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            upgrade += f"Sec-WebSocket-Key: {base64.b64encode(b'0123456789abcdef').decode()}\r\n"
            head = await exchange_at(gate, "GET /socket HTTP/1.1", cookies["carol"], upgrade)
            assert head.startswith("HTTP/1.1 101")
            assert f"X-Seen: carol@{REALM}" in head
        tokens = [exchange.values("authorization")[0] for exchange in server.seen]
        assert len(set(tokens)) == len(tokens)


def trusting(server: RecordingServer, keytab: Path) -> None:
    """Lets a document server verify the first token of a connection, and trust the connection from then on."""
    from gssapi import Credentials, raw

    acceptor = Credentials(usage="accept", store={"keytab": f"FILE:{keytab}"})
    known: dict[asyncio.StreamWriter, str] = {}

    async def answer(exchange: Exchange) -> None:
        if exchange.writer not in known:
            token = base64.b64decode(exchange.values("authorization")[0].removeprefix("Negotiate "))
            accepted = raw.accept_sec_context(token, acceptor)
            known[exchange.writer] = raw.display_name(accepted.initiator_name, name_type=False).name.decode()
        fields = [f"X-Seen: {known[exchange.writer].encode().decode('latin-1')}"]
        if exchange.path == "/socket":
            key = exchange.values("sec-websocket-key")[0].encode()
            proof = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
            accept = f"Sec-WebSocket-Accept: {base64.b64encode(proof).decode()}"
            lines = ["HTTP/1.1 101 Switching Protocols", "Connection: Upgrade", "Upgrade: websocket", accept, *fields]
            exchange.writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
            return
        await exchange.answer(fields=fields)

    server.behaviour = answer


async def exchange_at(gate: Gateway, request_line: str, cookie: str, more: str = "") -> str:
    """Sends one request and returns the head of the response, as UTF-8."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
    host = f"Host: {HOST}:{gate.port}\r\nOrigin: http://{HOST}:{gate.port}\r\n"
    writer.write(f"{request_line}\r\n{host}Cookie: {cookie}\r\n{more}\r\n".encode())
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
    writer.close()
    return head.decode("utf-8")


async def test_document_server_with_another_key_is_a_bad_gateway_with_a_page(
    domain: Lab, docs_keytab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def reject(exchange: Exchange) -> None:
        await exchange.answer(status="401 Unauthorized", fields=["WWW-Authenticate: Negotiate"])

    async with document_server() as server:
        trusting(server, docs_keytab)
        async with in_front_of(domain, tmp_path, server.port) as gate:
            cookie = await sign_in(gate, domain, tmp_path, "alice", monkeypatch)
            server.behaviour = reject
            reply = await curl(f"http://{HOST}:{gate.port}/", "-H", f"Cookie: {cookie}", "-H", "Accept: text/html")
            assert (reply.status, b"<h1" in reply.body, reply.values("www-authenticate")) == (502, True, [])
            log = gate.log.read_text()
            assert "it refused the Kerberos ticket" in log
            assert f"must be the one that holds the SPN {SERVICE} (in IIS" in log


# ---------------------------------------------------------------- tickets, in this process


@pytest.fixture
def config(domain: Lab, docs_keytab: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    for name in ("KRB5CCNAME", "KRB5_CONFIG"):  # which `open_tickets` sets: put back afterwards
        monkeypatch.setenv(name, os.environ.get(name, ""))
    return Config(keytab=domain.keytab, account=f"gateway@{REALM}")


class Events:
    """The part of the store that the sign-on uses."""

    def __init__(self) -> None:
        self.listeners: list[Callable[..., None]] = []

    def listen(self, on_event: Callable[..., None]) -> None:
        self.listeners.append(on_event)


def user_of(token: bytes, keytab: Path) -> str:
    """Returns who the document server sees."""
    from gssapi import Credentials, raw

    acceptor = Credentials(usage="accept", store={"keytab": f"FILE:{keytab}"})
    accepted = raw.accept_sec_context(token, acceptor)
    return str(raw.display_name(accepted.initiator_name, name_type=False).name.decode())


def test_tickets_of_whoever_runs_the_gateway_are_never_used(
    domain: Lab, config: Config, docs_keytab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SPNEGO takes the default credential in silence if it cannot use the one that it was given."""
    carols = domain.ticket("carol", tmp_path)["KRB5CCNAME"]
    with open_tickets(config, tmp_path) as tickets:
        monkeypatch.setenv("KRB5CCNAME", carols)
        token = tickets.token(tickets.impersonate("bob"), "bob", SERVICE)
        assert user_of(token, docs_keytab) == f"bob@{REALM}"


async def test_token_that_is_sent_twice_is_a_replay(domain: Lab, config: Config, apache: int, tmp_path: Path) -> None:
    """This is why every attempt needs its own token, even the retry of a request that was not read."""
    with open_tickets(config, tmp_path) as tickets:
        token = tickets.token(tickets.impersonate("alice"), "alice", SERVICE)
    header = f"Authorization: Negotiate {base64.b64encode(token).decode()}"
    replies = [await curl(f"http://{OLD_HOST}:{apache}/", "-H", header) for _ in range(2)]
    assert [reply.status for reply in replies] == [200, 401]


def test_process_has_no_default_tickets_once_delegation_is_on(
    domain: Lab, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gssapi

    monkeypatch.setenv("KRB5CCNAME", domain.ticket("carol", tmp_path)["KRB5CCNAME"])
    assert str(gssapi.Credentials(usage="initiate").name).startswith("carol@")
    with open_tickets(config, tmp_path), pytest.raises(gssapi.exceptions.GSSError):
        _ = gssapi.Credentials(usage="initiate").name


@pytest.mark.parametrize(
    ("account", "code"),
    [
        ("disabled", "account-disabled"),
        ("expired", "account-expired"),
        ("locked", "account-locked"),
        ("pwexpired", "password-expired"),
        ("nobody-of-this-name", "account-unknown"),
    ],
)
def test_state_of_the_account_is_the_reason_why_there_is_no_ticket(
    config: Config, tmp_path: Path, account: str, code: str
) -> None:
    with open_tickets(config, tmp_path) as tickets, pytest.raises(AccountRefused) as refused:
        tickets.token(tickets.impersonate(account), account, SERVICE)
    assert refused.value.code == code


def test_services_that_the_domain_does_not_name_are_refused(config: Config, tmp_path: Path) -> None:
    with open_tickets(config, tmp_path) as tickets:
        alice = tickets.impersonate("alice")
        with pytest.raises(AccountRefused, match="does not let gateway@") as refused:
            tickets.token(alice, "alice", f"ldap/dc1.{DOMAIN}")
        assert refused.value.code == "not-delegated"
        with pytest.raises(Refusal, match="no account holds HTTP/nowhere"):
            tickets.token(alice, "alice", "HTTP/nowhere")


@asynccontextmanager
async def delegation(lab: Lab, config: Config, folder: Path) -> AsyncIterator[tuple[Delegation, Events]]:
    async with directory(lab) as people:
        events = Events()
        services = Services(events, folder, directory=people)  # type: ignore[arg-type]
        with open_tickets(config, folder) as tickets:
            sign_on = Delegation(config, services, tickets)
            try:
                yield sign_on, events
            finally:
                sign_on.close()


def person(account: str, key: str, domain: str = "CORP") -> Person:
    return Person(key, domain, account, account, frozenset())


async def test_user_of_another_domain_is_not_taken_for_the_user_of_that_name_in_ours(
    domain: Lab, config: Config, docs_keytab: Path, tmp_path: Path
) -> None:
    async with directory(domain) as people, delegation(domain, config, tmp_path) as (sign_on, _):
        alice = await people.look_up(named("alice"))
        assert alice is not None
        assert user_of(await sign_on.token(alice, SERVICE), docs_keytab) == f"alice@{REALM}"
        for other in (
            person("alice", "S-1-5-21-1-2-3-1104", "PARTNER"),
            person("alice", "S-1-5-21-1-2-3-1104"),
            person("alice", alice.key, "PARTNER"),
            person("alice", "CORP\\alice"),
            person("alice/admin", alice.key),
            person("alice@PARTNER.EXAMPLE.NET", alice.key),
        ):
            with pytest.raises(Forbidden):
                await sign_on.token(other, SERVICE)


async def test_tickets_of_a_person_are_kept_until_the_person_changes(
    domain: Lab, config: Config, docs_keytab: Path, tmp_path: Path
) -> None:
    async with directory(domain) as people, delegation(domain, config, tmp_path) as (sign_on, events):
        alice = await people.look_up(named("alice"))
        assert alice is not None
        impersonated: list[str] = []
        tickets = sign_on._tickets
        original = tickets.impersonate
        tickets.impersonate = lambda account: (impersonated.append(account), original(account))[1]  # type: ignore[method-assign,func-returns-value]
        server, grant = DocumentServer(f"http://{OLD_HOST}", OLD_HOST), Grant("r", None)
        sent = [(await sign_on.introduce(server, alice, grant, None))["Authorization"] for _ in range(3)]
        assert (impersonated, len(set(sent))) == (["alice"], 3)
        for listener in events.listeners:
            listener(Changed("person-changed", alice.key))
        await sign_on.introduce(server, alice, grant, None)
        assert impersonated == ["alice", "alice"]


async def test_user_who_was_refused_is_passed_on_as_soon_as_the_domain_allows_it(
    domain: Lab, config: Config, docs_keytab: Path, tmp_path: Path
) -> None:
    async with directory(domain) as people, delegation(domain, config, tmp_path) as (sign_on, _):
        alice, bob = await people.look_up(named("alice")), await people.look_up(named("bob"))
        assert alice is not None
        assert bob is not None
        assert await sign_on.token(bob, SERVICE)
        domain.samba_tool("delegation", "for-any-protocol", "gateway", "off")
        try:
            with pytest.raises(AccountRefused):
                await sign_on.token(alice, SERVICE)
        finally:
            domain.samba_tool("delegation", "for-any-protocol", "gateway", "on")
        assert user_of(await sign_on.token(alice, SERVICE), docs_keytab) == f"alice@{REALM}"


class Changed:
    def __init__(self, topic: str, subject: str) -> None:
        self.topic, self.subject, self.reason = topic, subject, ""


# ---------------------------------------------------------------- calgate check


async def findings(lab: Lab, config: Config, folder: Path, user: str | None = "alice") -> list[Finding]:
    async with directory(lab) as people:
        services = Services(Events(), folder, directory=people)  # type: ignore[arg-type]
        servers = [DocumentServer(f"http://{OLD_HOST}:1", OLD_HOST)]
        login = (user, "") if user else None
        context = CheckContext(services, (), registry=people, login=login, servers=servers)
        return [finding async for finding in check(config, context)]


@contextmanager
def changed(lab: Lab, change: tuple[str, ...], back: tuple[str, ...]) -> Iterator[None]:
    lab.samba_tool(*change)
    try:
        yield
    finally:
        lab.samba_tool(*back)


async def test_check_requests_a_real_ticket_in_the_name_of_the_given_user(
    domain: Lab, config: Config, tmp_path: Path
) -> None:
    found = await findings(domain, config, tmp_path)
    assert [finding.level for finding in found] == ["ok", "ok"]
    assert "in the name of CORP\\alice" in found[1].what
    assert [finding.level for finding in await findings(domain, config, tmp_path, None)] == ["ok", "note"]


async def test_check_tells_the_causes_of_one_refusal_apart(domain: Lab, config: Config, tmp_path: Path) -> None:
    """The KDC says BADOPTION to each of them."""
    any_protocol = ("delegation", "for-any-protocol", "gateway")
    with changed(domain, (*any_protocol, "off"), (*any_protocol, "on")):
        kerberos_only = await findings(domain, config, tmp_path)
    listed = ("delegation", "del-service", "gateway", SERVICE), ("delegation", "add-service", "gateway", SERVICE)
    with changed(domain, *listed):
        nothing = await findings(domain, config, tmp_path)
        with changed(
            domain,
            ("delegation", "add-principal", "docs", "gateway"),
            ("delegation", "del-principal", "docs", "gateway"),
        ):
            by_service = await findings(domain, config, tmp_path, None)
    with changed(
        domain,
        ("user", "sensitive", "alice", "on"),
        ("user", "sensitive", "alice", "off"),
    ):
        sensitive = await findings(domain, config, tmp_path)
    unknown = await findings(domain, config.model_copy(update={"service": "HTTP/nowhere"}), tmp_path)
    assert [finding.level for finding in kerberos_only] == ["fail", "untried"]
    assert "use any authentication protocol" in kerberos_only[0].remedy
    assert "msDS-AllowedToDelegateTo" in nothing[0].remedy
    assert (by_service[0].level, "resource-based" in by_service[0].what) == ("ok", True)
    assert [finding.level for finding in sensitive] == ["ok", "fail"]
    assert "CORP\\alice cannot be delegated" in sensitive[1].remedy
    assert "setspn -S HTTP/nowhere" in unknown[0].remedy
