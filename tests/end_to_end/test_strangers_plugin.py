"""Plugins that the core does not know: the README's, to the letter, and a site without any of calgate's own."""

import asyncio
import hashlib
import hmac
import json
import re
from pathlib import Path

import pytest

from support.gateway_process import DocumentServer, Exchange, Reply, calgate, cookie_of, curl, gateway, write_settings
from support.plugins import install
from support.ports import free_port

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

    def why_rejected(self, status, headers):
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


# ---------------------------------------------------------------- a site without any of calgate's plugins

NONE_OF_OURS = """
import importlib.metadata as metadata, sys

every = metadata.entry_points
metadata.entry_points = lambda **given: [point for point in every(**given) if not point.value.startswith("calgate_")]

class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("calgate_"):
            raise ImportError(f"{name} is not installed")

sys.meta_path.insert(0, Nothing())
"""

TOKENS = """
from contextlib import asynccontextmanager
from calgate.plugin import Authenticated, AuthenticationFailed, Finding, Identity, Section

role = "authenticator"

class Config(Section):
    prefix: str

class Handshake:
    def __init__(self, prefix):
        self.prefix = prefix

    async def step(self, scheme, credentials):
        assert scheme == "Bearer"
        if not credentials.startswith(self.prefix):
            raise AuthenticationFailed("not one of our tokens")
        return Authenticated(Identity("STAFF", credentials.removeprefix(self.prefix), "token"))

class Tokens:
    schemes = ['Bearer realm="strangers"']

    def __init__(self, prefix):
        self.prefix = prefix

    def begin(self, peer):
        return Handshake(self.prefix)

@asynccontextmanager
async def start(config, services):
    yield Tokens(config.prefix)

def explain(scheme, credentials):
    return [Finding("ok", "token", f"of {credentials}")] if scheme == "Bearer" else []
"""

PEOPLE = """
import logging
from contextlib import asynccontextmanager
from calgate.plugin import Finding, Person, Section

role = "directory"
logger = logging.getLogger(__name__)

class Config(Section):
    members: tuple[str, ...]

class People:
    def __init__(self, members):
        self.members = members

    async def look_up(self, identity):
        logger.info("looked up %s", identity.account)
        if identity.account not in self.members:
            return None
        return Person(identity.account, "STAFF", identity.account, "", frozenset({"g1"}))

    async def resolve(self, groups):
        return {name: "g1" if name == "staff" else None for name in groups}

@asynccontextmanager
async def start(config, services):
    yield People(config.members)

async def check(config, context):
    yield Finding("ok", "people", f"{len(config.members)} of them")
"""

SEATS = """
from contextlib import asynccontextmanager
from calgate.plugin import Lease, LicenseInfo, NoCal, Pool, Section

role = "allocator"

class Config(Section):
    seats: int

class Seats:
    groups = frozenset()
    licenses = {"only": LicenseInfo()}

    def __init__(self, seats):
        self.seats, self.taken = seats, {}

    async def claim(self, license, claimant, document, *, reference):
        if claimant.user not in self.taken and len(self.taken) == self.seats:
            raise NoCal("all taken", license=license, document=document, pools=await self.pools(license))
        return self.taken.setdefault(claimant.user, Lease(license, "session", claimant, document, id=claimant.user))

    async def held(self, license, claimant, document):
        return self.taken.get(claimant.user)

    async def settle(self, lease, *, served):
        pass

    async def touch(self, activity):
        return []

    async def release(self, license, claimant):
        self.taken.pop(claimant.user, None)

    async def pools(self, license):
        return [Pool("session", self.seats, len(self.taken))]

@asynccontextmanager
async def start(config, services):
    yield Seats(config.seats)
"""

NAME_TAG = """
from contextlib import asynccontextmanager
from calgate.plugin import Section

role = "sign-on"
default_for = "sign_on"

class Config(Section):
    header: str

class NameTag:
    per_person = True

    def __init__(self, header):
        self.header, self.owned = header, frozenset({header.lower()})

    async def headers(self, person, grant, lease):
        return {self.header: person.account}

@asynccontextmanager
async def start(config, services):
    yield NameTag(config.header)
"""

BROKEN = "import something_that_nobody_has"

SITE = """
state_dir = "{folder}/state"
[listen]
bind = "127.0.0.1:{port}"
[tokens]
prefix = "secret-"
[people]
members = ["ann", "bob", "cyd"]
[seats]
seats = 1
[[access]]
name = "staff"
groups = ["staff"]
[[routes]]
upstreams = ["http://127.0.0.1:{upstream}"]
license = "only"
opens = '^/docs/(?P<document>[^?/]+)$'
sign_on = {{ header = "X-Name-Tag" }}
"""


@pytest.fixture
def strangers_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Strangers' plugins for all four roles, a broken one that nothing uses, and none of calgate's."""
    entries = {name: f"stranger_{name}" for name in ("tokens", "people", "seats", "tags", "broken")}
    code = {"tokens": TOKENS, "people": PEOPLE, "seats": SEATS, "tags": NAME_TAG, "broken": BROKEN}
    modules = {f"stranger_{name}": text for name, text in code.items()}
    site = install(tmp_path / "site", entries, modules | {"sitecustomize": NONE_OF_OURS})
    monkeypatch.setenv("PYTHONPATH", str(site))


def write_site(folder: Path, upstream: int) -> Path:
    file = folder / "calgate.toml"
    file.write_text(SITE.format(folder=folder, port=free_port(), upstream=upstream), encoding="utf-8")
    return file


@pytest.mark.usefixtures("strangers_only")
async def test_site_with_strangers_plugins_for_all_four_roles_serves(server: DocumentServer, tmp_path: Path) -> None:
    async with gateway(write_site(tmp_path, server.port)) as gate:

        async def ask(account: str) -> Reply:
            return await curl(f"{gate.url}/docs/sales", "-H", f"Authorization: Bearer secret-{account}")

        challenged = await curl(f"{gate.url}/docs/sales")
        assert (challenged.status, challenged.values("www-authenticate")) == (401, ['Bearer realm="strangers"'])
        assert (await ask("ann")).status == 200
        assert server.seen[-1].values("x-name-tag") == ["ann"]
        refused = await ask("bob")
        assert (refused.status, refused.json["code"]) == (403, "no-cal")
        assert (await ask("mallory")).json["code"] == "account-unknown"
        wrong = await curl(f"{gate.url}/docs/sales", "-H", "Authorization: Bearer stolen-ann")
        assert (wrong.status, wrong.json["code"]) == (401, "sign-in-failed")
    logged = [line for line in gate.decisions() if line.get("logger") == "stranger_people"]
    assert [line["event"] for line in logged][:2] == ["looked up ann", "looked up bob"], "under the site's level"


@pytest.mark.usefixtures("strangers_only")
async def test_check_runs_strangers_hooks_and_names_a_plugin_that_cannot_be_imported(
    server: DocumentServer, tmp_path: Path
) -> None:
    code, out, _ = await calgate("check", "-c", str(write_site(tmp_path, server.port)), "--json")
    found = {(row["level"], row["subject"]): row["what"] for row in json.loads(out)}
    assert code == 0
    assert found["ok", "people"] == "3 of them"
    assert found["warn", "settings"].startswith("broken: the plugin stranger_broken cannot be imported: ModuleNotFound")
    code, out, _ = await calgate("check", "--token", "Bearer secret-ann")
    assert code == 0
    assert "of secret-ann" in out


@pytest.mark.usefixtures("strangers_only")
@pytest.mark.parametrize(
    ("given", "instead", "fault"),
    [
        ('[tokens]\nprefix = "secret-"\n', "", "no [tokens] section: nobody can sign in"),
        ('[people]\nmembers = ["ann", "bob", "cyd"]\n', "", "no [people] section: no group can be looked up"),
        ("[seats]\nseats = 1\n", "", "routes[1].license: no [seats] section: nothing gives CALs out"),
        ("[seats]", "[broken]\n[seats]", "broken: the plugin stranger_broken cannot be imported"),
        ("[seats]", "[tags]\n[seats]", "tags: tags is a sign-on: it belongs in a route"),
        ("[seats]", "[seat]", "seat: unknown key; did you mean 'seats'?"),
        ("sign_on = { header", 'sign_on = { plugin = "people", header', "no sign-on plugin 'people' is installed"),
    ],
)
async def test_file_that_leaves_a_role_empty_or_misplaces_a_plugin_has_a_fault_in_the_sites_own_words(
    tmp_path: Path, given: str, instead: str, fault: str
) -> None:
    file = write_site(tmp_path, 1)
    text = file.read_text(encoding="utf-8")
    assert given in text
    file.write_text(text.replace(given, instead), encoding="utf-8")
    code, _, said = await calgate("run", "-c", str(file))
    assert code == 2
    assert fault in said


@pytest.mark.usefixtures("strangers_only")
async def test_license_that_the_started_allocator_does_not_have_ends_the_start_and_fails_the_check(
    tmp_path: Path,
) -> None:
    file = write_site(tmp_path, 1)
    file.write_text(file.read_text(encoding="utf-8").replace('license = "only"', 'license = "other"'), encoding="utf-8")
    code, _, said = await calgate("run", "-c", str(file))
    assert code == 1
    assert "routes[1].license: [seats] has no license 'other'; there is only" in said
    assert "Traceback" not in said
