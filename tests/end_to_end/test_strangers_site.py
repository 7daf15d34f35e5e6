"""A site without any of calgate's own plugins: strangers' plugins fill every role."""

import json
from pathlib import Path

import pytest

from support.gateway_process import DocumentServer, Reply, calgate, curl, gateway
from support.plugins import install
from support.ports import free_port

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
