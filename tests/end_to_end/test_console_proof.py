"""Changes in the console that take something away: people prove again who they are, if the site can demand it."""

import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import async_playwright, expect

from calgate_users import edit, ntlmv2
from support.certificates import Authority
from support.gateway_process import (
    PASSWORD,
    DocumentServer,
    Gateway,
    Reply,
    calgate,
    curl,
    document_server,
    gateway,
    write_settings,
)
from support.oidc_provider import CLIENT, SECRET, TestProvider, provider
from support.ports import free_port
from support.screenshots import ARGS, CHROMIUM

pytestmark = pytest.mark.asyncio(loop_scope="module")

ADMIN = "/_calgate/admin/"
JSON = ("-H", "Accept: application/json")
SECTIONS = """
[console]
bind = "127.0.0.1:{port}"
admins = ["DEMO\\\\admins"]
networks = ["127.0.0.0/8"]

[password]

[oidc]
issuer = "{issuer}"
client = {{ id = "{client}", secret = "{secret}" }}
person = {{ account = "account", domain = "DEMO" }}
"""


@dataclass
class Site:
    """A gateway whose console can ask for a password, or send people to a provider."""

    gate: Gateway
    console: str
    idp: TestProvider

    async def get(self, path: str, *options: str, user: str | None = None) -> Reply:
        return await curl(f"{self.console}{path}", "-k", *options, user=user)

    async def remove(self, user: str, *options: str, row: str | None = None) -> Reply:
        """Removes the Named CAL of a user."""
        said = json.dumps(["demo", "named", f"demo\\{user}", f"DEMO\\{user}", "", ""]) if row is None else row
        return await self.change("holders/remove", {"row": [said]}, *options)

    async def change(self, action: str, values: dict[str, object], *options: str) -> Reply:
        words = (*JSON, "-H", f"Origin: {self.console}", "-H", "Content-Type: application/json")
        return await curl(f"{self.console}{ADMIN}{action}", "-k", *words, *options, "-d", json.dumps(values))

    async def session(self, cookie: str) -> tuple[str, ...]:
        """Returns the options of curl for a session: its cookie, and the token of a change."""
        options = ("-H", f"Cookie: {cookie}")
        for _ in range(400):
            reply = await self.get(f"{ADMIN}queue", *JSON, *options)
            if reply.status != 503:  # the console's process is still starting
                break
        return (*options, "-H", f"X-Calgate-Token: {reply.json['token']}")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[DocumentServer]:
    async with document_server() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(server: DocumentServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    folder = tmp_path_factory.mktemp("proof")
    port = free_port()
    signed = Authority(folder).sign("127.0.0.1")
    listen = f'tls = {{ certificate = "{signed.certificate}", key = "{signed.key}" }}'
    nt_hash = ntlmv2.nt_hash(PASSWORD)
    edit.add(folder / "users.toml", "root", domain="DEMO", display_name=None, groups=("admins",), nt_hash=nt_hash)
    async with provider() as idp:
        more = SECTIONS.format(port=port, issuer=idp.issuer, client=CLIENT, secret=SECRET)
        async with gateway(write_settings(folder, server.port, listen=listen, more=more)) as gate:
            site = Site(gate, f"https://127.0.0.1:{port}", idp)
            await by_ntlm(site)  # waits until the console's process serves
            yield site


def cookie_in(reply: Reply, name: str = "__Host-calgate") -> str:
    found = re.search(rf"(?im)^set-cookie: ({name}=[^;]+)", reply.headers)
    assert found is not None, reply.headers
    return found[1]


async def by_password(site: Site) -> tuple[str, ...]:
    form = ("-H", "Sec-Fetch-Site: same-origin", "--data-urlencode", "user=root", "--data-urlencode")
    reply = await site.get("/_calgate/sign-in/password/", *form, f"password={PASSWORD}")
    return await site.session(cookie_in(reply))


async def by_provider(site: Site, step: str) -> tuple[str, ...]:
    site.idp.user = "root"
    begun = await site.get(f"/_calgate/sign-in/oidc{step}")
    answered = await curl(begun.values("location")[0])
    note = cookie_in(begun, "__Host-calgate-note")
    reply = await curl(answered.values("location")[0], "-k", "-H", f"Cookie: {note}")
    return await site.session(cookie_in(reply))


async def by_ntlm(site: Site) -> tuple[str, ...]:
    return await site.session(cookie_in(await site.get(ADMIN, user="root")))


async def test_change_that_takes_away_waits_for_a_proof_and_others_do_not(site: Site) -> None:
    unseen = await by_ntlm(site)
    assert (await site.change("holders/assign", {"user": "DEMO\\bob"}, *unseen)).status == 200
    refused = await site.remove("bob", *unseen)
    assert (refused.status, refused.json["code"]) == (403, "proof-needed")
    assert refused.json["sign_in"] == ["/_calgate/sign-in/oidc/fresh", "/_calgate/sign-in/password"]
    assert (await site.remove("bob", *await by_password(site))).status == 200


async def test_provider_that_did_not_ask_again_proves_nothing(site: Site) -> None:
    assert (await site.remove("carol", *await by_provider(site, ""))).status == 403
    reply = await site.remove("carol", *await by_provider(site, "/fresh"))
    assert (reply.status, "has no Named CAL" in str(reply.json)) == (409, True)


async def test_program_that_signs_in_unseen_with_each_request_takes_nothing_away(site: Site) -> None:
    ntlm = ("--ntlm", "-u", f"DEMO\\root:{PASSWORD}", "-H", "X-Calgate-Change: 1")
    assert (await site.remove("carol", *ntlm)).status == 403


async def test_api_token_assigns_and_takes_away_only_with_may_remove(site: Site) -> None:
    for more, status in (((), 403), (("--may-remove",), 200)):
        words = ("tokens", "new", "DEMO\\root", "--until", "2099-12-31", "--route", "/", "--console", "admin", *more)
        code, out, errors = await calgate(*words, "-c", str(site.gate.settings), "--json")
        assert code == 0, errors
        bearer = ("-H", f"Authorization: Bearer {json.loads(out)['token']}", "-H", "X-Calgate-Change: 1")
        user = f"{'dave' if more else 'alice'}"
        assert (await site.change("holders/assign", {"user": f"DEMO\\{user}"}, *bearer)).status == 200
        assert (await site.remove(user, *bearer)).status == status
    assert (await site.remove("alice", *bearer)).status == 200


async def test_api_token_of_an_administrator_enters_in_its_own_role_and_without_one_not_at_all(site: Site) -> None:
    for role, seen, changed in ((("--console", "helpdesk"), 200, 403), ((), 403, 403)):
        words = ("tokens", "new", "DEMO\\root", "--until", "2099-12-31", "--route", "/", *role)
        code, out, errors = await calgate(*words, "-c", str(site.gate.settings), "--json")
        assert code == 0, errors
        bearer = ("-H", f"Authorization: Bearer {json.loads(out)['token']}", "-H", "X-Calgate-Change: 1")
        assert (await site.get(f"{ADMIN}holders", *JSON, *bearer)).status == seen
        assert (await site.change("holders/assign", {"user": "DEMO\\alice"}, *bearer)).status == changed


DOCUMENTED = re.findall(
    r"(?m)^\| ((?:`\w[\w-]*/\w+`(?:, )?)+) \|.*\| (reader|helpdesk|admin) \|$",
    (Path(__file__).parents[2] / "deploy" / "guide" / "console.md").read_text(),
)
ACTIONS = {action: role for actions, role in DOCUMENTED for action in re.findall(r"`(.+?)`", actions)}
"""Every action that the guide has, and the role that it takes."""


async def test_every_action_takes_the_role_that_the_guide_says_also_by_an_api_token(site: Site) -> None:
    assert len(ACTIONS) == 14
    ACTIONS.pop("health/run", None)  # it runs every check, and a reader may
    roles = ("reader", "helpdesk", "admin")
    for role in roles:
        words = ("tokens", "new", "DEMO\\root", "--until", "2099-12-31", "--route", "/", "--may-remove")
        code, out, errors = await calgate(*words, "--console", role, "-c", str(site.gate.settings), "--json")
        assert code == 0, errors
        bearer = ("-H", f"Authorization: Bearer {json.loads(out)['token']}")
        for action, needed in ACTIONS.items():
            may = roles.index(role) >= roles.index(needed)
            changed = await site.change(action, {"row": ["absent"], "user": ""}, *bearer, "-H", "X-Calgate-Change: 1")
            assert changed.status == (409 if may else 403), (action, role, changed.body)
            assert (await site.change(action, {"row": ["absent"]}, *bearer)).status == 403  # a change was not meant


async def test_no_other_method_than_post_changes_anything(site: Site) -> None:
    session = await by_password(site)
    path = f"{ADMIN}holders/assign?user=DEMO%5Calice"
    for method, status in (
        ("GET", 404),
        ("HEAD", 404),
        ("PUT", 405),
        ("DELETE", 405),
        ("PATCH", 405),
        ("OPTIONS", 405),
    ):
        option = ("-I",) if method == "HEAD" else ("-X", method)
        reply = await site.get(path, *option, *JSON, "-H", f"Origin: {site.console}", *session)
        assert reply.status == status, method
    session = (*session[:-1], f"X-Calgate-Method-Override: {session[-1]}")
    assert (await site.get(path, "-X", "POST", *JSON, "-H", f"Origin: {site.console}", *session)).status == 403


@pytest.mark.browser
@pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="needs Chromium")
async def test_administrator_types_the_password_again_before_a_removal(site: Site) -> None:
    await site.change("holders/assign", {"user": "DEMO\\carol"}, *await by_ntlm(site))
    async with async_playwright() as play:
        browser = await play.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        credentials = {"username": "DEMO\\root", "password": PASSWORD}
        context = await browser.new_context(http_credentials=credentials, ignore_https_errors=True)
        page = await context.new_page()
        await page.goto(f"{site.console}/_calgate/sign-in/ntlm")
        await page.goto(f"{site.console}{ADMIN}holders?search=carol")
        await page.get_by_role("checkbox", name="Select row").check()
        await page.get_by_label("Reason (for the log, optional)").first.fill("left")
        await page.locator("summary", has_text="Remove").click()
        await page.get_by_role("button", name="Remove now").click()
        await expect(page.get_by_text("1 selected.")).to_be_visible()
        assert await page.get_by_role("button", name="Carry it out").count() == 0
        await page.get_by_role("link", name="Windows name and password").click()
        await page.get_by_label("Name").fill("DEMO\\root")
        await page.get_by_label("Password", exact=True).fill(PASSWORD)
        await page.get_by_role("button", name="Sign in").click()
        await page.get_by_role("button", name="Carry it out").click()
        await expect(page.get_by_role("status")).to_have_text("DEMO\\carol's Named CAL is free.")
        assert "holders?search=carol" in page.url
        await page.goto(f"{site.console}{ADMIN}log?what=removed")
        await expect(page.get_by_role("cell", name="left")).to_be_visible()
        await browser.close()
