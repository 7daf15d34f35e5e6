"""Plugins that the core does not know: the README's, to the letter, sign-ons for one server, and sign-in methods."""

import asyncio
import hashlib
import hmac
import re
from pathlib import Path

import pytest

from support.gateway_process import DocumentServer, Exchange, Reply, calgate, cookie_of, curl, gateway, write_settings
from support.plugins import install

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
SIGN_ON = 'sign_on = { plugin = "signed", secret = "s3cret" }\n'


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The README's module and entry point, where Python finds installed packages."""
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    entry = re.search(r"^signed = \"(.*)\"$", README, re.MULTILINE)
    assert entry is not None
    monkeypatch.setenv("PYTHONPATH", str(install(tmp_path / "site", {"signed": entry[1]}, {entry[1]: code})))


def write_with_it(folder: Path, upstream: int, sign_on: str = SIGN_ON) -> Path:
    file = write_settings(folder, upstream)
    file.write_text(re.sub(r"^sign_on = .*\n", sign_on, file.read_text(), flags=re.MULTILINE))
    return file


@pytest.mark.usefixtures("installed")
async def test_strangers_sign_on_sends_its_header_and_owns_it(server: DocumentServer, tmp_path: Path) -> None:
    async with gateway(write_with_it(tmp_path, server.port)) as gate:
        reply = await curl(f"{gate.url}/portal", "-H", "x-signed-user: boss", user="alice")
    assert reply.status == 200
    (value,) = server.seen[-1].values("X-Signed-User")
    said, _, proof = value.rpartition(" ")
    assert said.startswith("demo\\alice ")
    assert proof == hmac.new(b"s3cret", said.encode(), hashlib.sha256).hexdigest()
    assert "boss" not in str(server.seen[-1].fields)


@pytest.mark.usefixtures("installed")
async def test_sign_on_headers_are_made_for_each_request_unless_they_are_per_person(
    server: DocumentServer, tmp_path: Path
) -> None:
    async with gateway(write_with_it(tmp_path, server.port)) as gate:
        cookie = await cookie_of(gate, "alice")
        times = set()
        for _ in range(2):
            assert (await curl(f"{gate.url}/portal", "-H", f"Cookie: {cookie}")).status == 200
            times.add(server.seen[-1].values("X-Signed-User")[0].split()[1])
            await asyncio.sleep(1.1)
        assert len(times) == 2


@pytest.mark.usefixtures("installed")
async def test_strangers_settings_are_checked_like_ours(server: DocumentServer, tmp_path: Path) -> None:
    file = write_with_it(tmp_path, server.port, 'sign_on = { plugin = "signed", secet = "s3cret" }\n')
    code, _, said = await calgate("run", "-c", str(file))
    assert code == 2
    assert "routes[1].sign_on.secet: unknown key; did you mean 'secret'?" in said
    assert "routes[1].sign_on.secret: is missing" in said


async def test_sign_on_that_is_not_installed_is_a_fault_that_names_those_that_are(
    server: DocumentServer, tmp_path: Path
) -> None:
    code, _, said = await calgate("run", "-c", str(write_with_it(tmp_path, server.port)))
    assert code == 2
    assert "no sign-on plugin 'signed' is installed; there is assertion, delegation, headers" in said


# ---------------------------------------------------------------- a sign-on to one document server

ONE_TIME = """
import os
from contextlib import asynccontextmanager
from calgate.plugin import Section

role = "sign-on"

class Config(Section):
    pass

class OneTime:
    owned = frozenset({"x-ticket"})
    exclusive = True
    made = 0

    async def introduce(self, server, person, grant, lease):
        self.made += 1
        return {"X-Ticket": f"{os.getpid()}-{self.made} {server.name} {person.account}"}

    def why_rejected(self, server, status, headers):
        return "it does not know the key" if status == 401 and headers["www-authenticate"] == "Ticket" else None

@asynccontextmanager
async def start(config, services):
    yield OneTime()
"""


@pytest.fixture
def one_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = install(tmp_path / "site", {"one-time": "strangers_tickets"}, {"strangers_tickets": ONE_TIME})
    monkeypatch.setenv("PYTHONPATH", str(site))


def write_one_time(folder: Path, upstream: int, *, listen: str = "", more: str = "") -> Path:
    file = write_settings(folder, upstream, listen=listen, more=more)
    text = re.sub(r"^sign_on = .*\n", 'sign_on = { plugin = "one-time" }\n', file.read_text(), flags=re.MULTILINE)
    file.write_text(text)
    return file


@pytest.mark.usefixtures("one_time")
async def test_each_try_has_a_ticket_of_its_own_on_a_connection_of_one_person(
    server: DocumentServer, tmp_path: Path
) -> None:
    """Four people at once, while the document server drops kept connections."""
    used: set[asyncio.StreamWriter] = set()

    async def answer(exchange: Exchange) -> None:
        if exchange.path == "/stale" and exchange.writer in used:
            exchange.writer.close()
            return
        used.add(exchange.writer)
        await exchange.answer()

    server.behaviour = answer
    people = ("alice", "bob", "carol", "dave")
    async with gateway(write_one_time(tmp_path, server.port)) as gate:
        cookies = {user: await cookie_of(gate, user) for user in people}
        for path in ("/portal", "/stale", "/portal"):
            answers = await asyncio.gather(
                *(
                    curl(f"{gate.url}{path}", "-H", f"Cookie: {cookies[user]}", "-H", "x-ticket: boss")
                    for user in people
                )
            )
            assert {reply.status for reply in answers} == {200}
    tickets = [exchange.values("X-Ticket") for exchange in server.seen]
    assert {len(values) for values in tickets} == {1}
    assert len({values[0] for values in tickets}) == len(tickets), "a ticket was sent twice"
    assert {values[0].split()[1] for values in tickets} == {f"http://127.0.0.1:{server.port}"}
    owners: dict[asyncio.StreamWriter, set[str]] = {}
    for exchange in server.seen:
        owners.setdefault(exchange.writer, set()).add(exchange.values("X-Ticket")[0].split()[2])
    assert {len(names) for names in owners.values()} == {1}
    assert len(owners) < len(tickets), "connections are kept"


async def test_ticket_is_made_for_each_request_on_connections_that_users_share(
    server: DocumentServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even for those that could be decided from memory: they would be sent without a ticket."""
    shared = ONE_TIME.replace("exclusive = True", "exclusive = False")
    site = install(tmp_path / "site", {"one-time": "strangers_tickets"}, {"strangers_tickets": shared})
    monkeypatch.setenv("PYTHONPATH", str(site))
    async with gateway(write_one_time(tmp_path, server.port)) as gate:
        cookies = [await cookie_of(gate, user) for user in ("alice", "bob")]
        for cookie in cookies * 3:
            assert (await curl(f"{gate.url}/portal", "-H", f"Cookie: {cookie}")).status == 200
    tickets = [exchange.values("X-Ticket")[0].split() for exchange in server.seen]
    assert [ticket[2] for ticket in tickets[2:]] == ["alice", "bob"] * 3
    assert len({ticket[0] for ticket in tickets}) == len(tickets), "a ticket was sent twice"
    assert len({exchange.writer for exchange in server.seen}) < len(tickets), "connections are kept"


@pytest.mark.usefixtures("one_time")
async def test_rejected_sign_on_is_a_bad_gateway_with_a_page(server: DocumentServer, tmp_path: Path) -> None:
    async with gateway(write_one_time(tmp_path, server.port)) as gate:
        cookie = await cookie_of(gate, "alice")

        async def reject(exchange: Exchange) -> None:
            await exchange.answer(status="401 Unauthorized", fields=["WWW-Authenticate: Ticket"])

        server.behaviour = reject
        reply = await curl(f"{gate.url}/portal", "-H", f"Cookie: {cookie}", "-H", "Accept: text/html")
        assert (reply.status, b"<h1" in reply.body) == (502, True)
        assert reply.values("www-authenticate") == []
        assert b"does not know the key" not in reply.body
        refused = gate.decisions("refused")[-1]
        assert refused["reason"] == "the document server rejected the sign-on of DEMO\\alice: it does not know the key"


@pytest.mark.usefixtures("one_time")
async def test_route_with_a_ticket_for_one_server_has_no_verdict_for_another_proxy(
    server: DocumentServer, tmp_path: Path
) -> None:
    listen, more = 'trusted_proxies = ["127.0.0.1/32"]', '[forward_auth]\nsecret = "open sesame"'
    settings = write_one_time(tmp_path, server.port, listen=listen, more=more)
    described = {"X-Calgate-Secret": "open sesame", "X-Forwarded-Method": "GET", "X-Forwarded-Uri": "/docs/sales"}
    async with gateway(settings) as gate:
        options = [word for name, value in described.items() for word in ("-H", f"{name}: {value}")]
        reply = await curl(f"{gate.url}/_calgate/auth", *options)
        assert (reply.status, reply.json["code"]) == (403, "forbidden")
        assert "another proxy cannot send it" in gate.log.read_text()
        _, out, _ = await calgate("check", "-c", str(settings))
        assert "/_calgate/auth refuses its requests" in " ".join(out.split())


# ---------------------------------------------------------------- a sign-in method

PINS = """
from contextlib import asynccontextmanager
from calgate.plugin import Authenticated, AuthenticationFailed, Identity, Redirect, Section, ShowPage
from calgate.plugin import SignInField, SignInForm

role = "sign-in"

class Config(Section):
    pin: str

class Pins:
    label = "Sign in with a PIN"
    form = SignInForm([SignInField("user", "Name", autocomplete="username")])
    needs_https = False

    def __init__(self, pin):
        self.pin = pin

    async def handle(self, request):
        if request.step == "help":
            return Redirect("https://help.example/pin", note=b"helped")
        if request.step == "" and request.method == "POST":
            asks = SignInForm([SignInField("pin", "PIN", kind="password")], button="Go", step="pin")
            return ShowPage("What is your PIN?", "It is on your badge.", asks, note=request.form["user"].encode())
        if request.step == "pin" and request.note and request.form.get("pin") == self.pin:
            return Authenticated(Identity("DEMO", request.note.decode(), "pin"), back_to=request.query.get("then", ""))
        raise AuthenticationFailed("pin: wrong, or asked in another browser")

@asynccontextmanager
async def start(config, services):
    yield Pins(config.pin)
"""


@pytest.fixture
def pins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sign-in methods of one module."""
    site = install(tmp_path / "site", dict.fromkeys(("pin", "badge"), "strangers_pins"), {"strangers_pins": PINS})
    monkeypatch.setenv("PYTHONPATH", str(site))


def note_in(reply: Reply) -> str:
    return next((one.partition(";")[0] for one in reply.values("set-cookie") if one.startswith("calgate-note=")), "")


NOT_PAGES_OF_THIS_SITE = (
    "//evil.example",
    "/%5Cevil.example",
    "https://evil.example",
    "/_calgate/sign-out",
    "javascript:1",
)


@pytest.mark.usefixtures("pins")
async def test_strangers_sign_in_method_has_the_cores_pages_notes_and_checks(
    server: DocumentServer, tmp_path: Path
) -> None:
    sections = '[pin]\npin = "4711"\n[badge]\npin = "4711"'
    async with gateway(write_settings(tmp_path, server.port, more=sections)) as gate:

        async def send(path: str, body: str, note: str = "", site: str = "same-origin") -> Reply:
            headers = ("-H", f"Sec-Fetch-Site: {site}", "-H", "Accept: text/html", "-H", f"Cookie: {note}")
            return await curl(f"{gate.url}/_calgate/sign-in/{path}", *headers, "--data", body)

        page = await curl(f"{gate.url}/docs/sales", "-H", "Accept: text/html")
        assert (page.status, page.body.count(b"Sign in with a PIN</h2>")) == (401, 2)
        assert b'action="/_calgate/sign-in/badge/"' in page.body
        asked = await send("pin/", "user=alice&to=/docs/sales")
        note = note_in(asked)
        assert (asked.status, "alice" in note) == (200, False)
        assert b'action="/_calgate/sign-in/pin/pin"' in asked.body
        assert b'name="to" value="/docs/sales"' in asked.body
        others = note_in(await send("badge/", "user=bob"))
        for refused in (
            await send("pin/pin", "pin=4711"),  # another browser
            await send("pin/pin", "pin=4711", others),  # another method's note
            await send("pin/pin", "pin=4711", f"{note[:-2]}xx"),
            await send("pin/pin", "pin=4712", note),
            await send("pin/pin", "pin=4711", note, site="cross-site"),
        ):
            assert (refused.status, refused.values("www-authenticate")) == (403, [])
            assert not [one for one in refused.values("set-cookie") if one.startswith("calgate=")]
        done = await send("pin/pin", "pin=4711&to=/docs/sales", note)
        assert (done.status, done.values("location")) == (303, ["/docs/sales"])
        cookie = next(one.partition(";")[0] for one in done.values("set-cookie") if one.startswith("calgate="))
        assert (await curl(f"{gate.url}/docs/sales", "-H", f"Cookie: {cookie}")).status == 200
        assert server.seen[-1].values("qvuser") == ["DEMO\\alice"]
        assert gate.decisions("signed in")[-1]["mechanism"] == "pin"
        for then in NOT_PAGES_OF_THIS_SITE:
            elsewhere = await send(f"pin/pin?then={then}", "pin=4711", note)
            assert elsewhere.values("location") == ["/"], then
        helped = await curl(f"{gate.url}/_calgate/sign-in/pin/help")
        assert (helped.status, helped.values("location")) == (303, ["https://help.example/pin"])
        unknown = note_in(await send("pin/", "user=nobody"))
        refused = await send("pin/pin", "pin=4711", unknown)
        assert (refused.status, gate.decisions("sign-in refused")[-1]["code"]) == (403, "account-unknown")
