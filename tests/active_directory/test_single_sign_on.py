"""From a browser without a ticket to a document server with Kerberos: the form or a provider, a session, delegation."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from playwright.async_api import Page, expect

from active_directory.test_password import NEW_PASSWORD, PAGE, cookie, must_change, session
from active_directory.test_password_browser import enter, note_dialogs, stranger
from support.domain import DOMAIN, HOST, OLD_HOST, PASSWORD, Lab
from support.domain_delegation import REALM, apache, docs_keytab, in_front_of, seen
from support.domain_directory import directory, named
from support.gateway_process import Gateway, Reply, calgate, curl
from support.oidc_provider import CLIENT, SECRET, TestProvider, provider
from support.screenshots import CHROMIUM

__all__ = ["apache", "docs_keytab", "must_change"]  # fixtures

needs_chromium = pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="needs Chromium")
STATES = ("disabled", "expired", "locked", "must-change")


@asynccontextmanager
async def site(
    lab: Lab, folder: Path, apache: int, more: str = "[password]", **settings: str
) -> AsyncIterator[Gateway]:
    """A gateway with TLS and the form in front of Apache."""
    tls = lab.folder / "tls"
    listen = f'tls = {{ certificate = "{tls}/gateway.pem", key = "{tls}/gateway.key" }}'
    values = {"listen": listen, "negotiate": 'ntlm_from = ["10.0.0.0/8"]', "more": more} | settings
    async with in_front_of(lab, folder, apache, OLD_HOST, "HTTP/{host}", **values) as running:
        yield running


def address(gate: Gateway) -> str:
    return f"https://{HOST}:{gate.port}"


async def who_is_seen(page: Page, url: str) -> tuple[int, str]:
    """Opens a page; returns the status, and the user that Apache saw, "" if it saw none."""
    response = await page.goto(url)
    assert response is not None
    values = [value for name, value in (await response.all_headers()).items() if name == "x-seen"]
    return response.status, seen(values)[0] if values else ""


# ---------------------------------------------------------------- Chromium


@pytest.mark.browser
@needs_chromium
async def test_apache_sees_each_user_of_the_form_as_themselves(domain: Lab, apache: int, tmp_path: Path) -> None:
    """A plain name, a UPN, a name that is not ASCII, and a user in a thousand groups, whose token has 13 KB."""
    names = {
        "alice": "alice",
        f"bob@{DOMAIN}": "bob",
        "björn": "björn",
        f"björn@{DOMAIN}": "björn",
        "many1000": "many1000",
    }
    async with site(domain, tmp_path, apache) as gate, stranger(tmp_path) as context:
        page = await context.new_page()
        dialogs = await note_dialogs(page)
        for name, account in names.items():
            assert await who_is_seen(page, f"{address(gate)}/?x=1") == (401, "")
            await enter(page, name)
            await expect(page).to_have_url(f"{address(gate)}/?x=1")
            for path in ("/", "/bound/", "/index.html"):
                assert await who_is_seen(page, address(gate) + path) == (200, f"{account}@{REALM}"), (name, path)
            await context.clear_cookies()
        assert dialogs == []


@pytest.mark.browser
@needs_chromium
async def test_account_that_may_not_sign_in_gets_no_further_than_the_form(
    domain: Lab, apache: int, tmp_path: Path, must_change: str
) -> None:
    """A password that must be changed can be: then Apache sees its user."""
    async with site(domain, tmp_path, apache) as gate, stranger(tmp_path) as context:
        page = await context.new_page()
        for account in ("disabled", "locked", "expired"):
            await page.goto(address(gate))
            await enter(page, account)
            await expect(page.get_by_role("heading", level=1)).to_have_text("That sign-in did not work")
            assert await context.cookies() == []
            assert await who_is_seen(page, address(gate)) == (401, ""), account
        await enter(page, must_change)
        await expect(page.get_by_role("heading", level=1)).to_have_text("Change your password")
        assert await who_is_seen(page, address(gate)) == (401, ""), "the right password alone begins no session"
        await page.goto(f"{address(gate)}{PAGE}change")
        await page.get_by_label("Old password").fill(PASSWORD)
        await page.get_by_label("New password", exact=True).fill(NEW_PASSWORD)
        await page.get_by_label("New password, once more").fill(NEW_PASSWORD)
        await page.get_by_role("button", name="Change password").click()
        await expect(page).to_have_url(f"{address(gate)}/")
        assert await who_is_seen(page, address(gate)) == (200, f"{must_change}@{REALM}")


# ---------------------------------------------------------------- sessions and API tokens whose account changes


@pytest.fixture
def accounts(domain: Lab) -> Iterator[dict[str, str]]:
    """A service account for each state that it will get."""
    named_by_state = {state: f"svc-{state}" for state in STATES}
    for account in named_by_state.values():
        domain.samba_tool("user", "create", account, PASSWORD)
    yield named_by_state
    for account in named_by_state.values():
        domain.samba_tool("user", "delete", account)


async def change_states(lab: Lab, accounts: dict[str, str]) -> None:
    lab.samba_tool("user", "disable", accounts["disabled"])
    lab.samba_tool("user", "setexpiry", accounts["expired"], "--days=-1")
    lab.samba_tool(
        "user", "setpassword", accounts["must-change"], f"--newpassword={NEW_PASSWORD}", "--must-change-at-next-login"
    )
    wrong = f"CORP\\{accounts['locked']}:wrong"
    for _ in range(6):
        await curl(f"ldaps://dc1.{DOMAIN}", "-u", wrong, "--cacert", str(lab.ca))


async def made(gate: Gateway, account: str, *options: str) -> str:
    words = ("tokens", "new", f"CORP\\{account}", "-c", str(gate.settings), "--until", "2099-12-31", "--route", "/")
    code, out, err = await calgate(*words, *options, "--json")
    assert code == 0, err
    return str(json.loads(out)["token"])


async def refusal(gate: Gateway, header: str, within: float = 30.0) -> Reply:
    """Returns the first response that is not 200: the directory is queried again some seconds after the last query."""
    until = time.monotonic() + within
    while (reply := await curl(f"{address(gate)}/", "-k", "-H", header)).status == 200:
        assert time.monotonic() < until, header.partition(":")[0]
        await asyncio.sleep(0.5)
    return reply


async def test_session_and_token_end_for_a_document_server_when_their_account_does(
    domain: Lab, apache: int, tmp_path: Path, accounts: dict[str, str]
) -> None:
    """Nothing is cached here; a process queries again 10 seconds after its last query."""
    asked = {"ldap": 'cache = "1ms"', "sign_on": ', cache = "1ms"'}
    async with site(domain, tmp_path, apache, **asked) as gate:
        used: dict[tuple[str, str], str] = {}
        for state, account in accounts.items():
            token = await made(gate, account, "--delegate")
            fields = urlencode({"user": account, "password": PASSWORD})
            here = ("-H", "Sec-Fetch-Site: same-origin")
            used[state, "token"] = f"Authorization: Bearer {token}"
            used[state, "session"] = (
                f"Cookie: {session(await curl(address(gate) + PAGE, '-k', *here, '--data', fields))}"
            )
        for (state, _), header in used.items():
            reply = await curl(f"{address(gate)}/", "-k", "-H", header)
            assert (reply.status, seen(reply.values("x-seen"))) == (200, [f"{accounts[state]}@{REALM}"])
        await change_states(domain, accounts)
        codes = {
            key: (reply.status, reply.json["code"])
            for key, reply in [(key, await refusal(gate, header)) for key, header in used.items()]
        }
        assert codes == {
            (state, kind): (403, "password-expired" if state == "must-change" else f"account-{state}")
            for state in STATES
            for kind in ("token", "session")
        }


async def test_token_without_the_right_to_delegate_reaches_no_document_server_with_kerberos(
    domain: Lab, apache: int, tmp_path: Path
) -> None:
    async with site(domain, tmp_path, apache) as gate:
        token = await made(gate, "alice")
        reply = await curl(f"{address(gate)}/", "-k", "-H", f"Authorization: Bearer {token}")
        assert (reply.status, reply.values("x-seen")) == (403, [])
        assert "was made without --delegate" in gate.log.read_text()


# ---------------------------------------------------------------- a provider, whose users are found by SID


async def there_and_back(gate: Gateway) -> Reply:
    """Signs in at the provider; returns the gateway's last response."""
    begun = await curl(f"{address(gate)}/_calgate/sign-in/oidc", "-k")
    assert begun.status == 303, gate.log.read_text()[-2000:]
    back = (await curl(begun.values("location")[0])).values("location")[0]
    return await curl(back, "-k", "-H", f"Cookie: {cookie(begun, '__Host-calgate-note')}")


async def sid_of(lab: Lab, account: str) -> str:
    async with directory(lab) as people:
        person = await people.look_up(named(account))
        assert person is not None
        return person.key


def at(idp: TestProvider, claims: dict[str, Any]) -> str:
    """Sets the provider's claims; returns the settings of the gateway for it."""
    idp.claims = claims
    client = f'client = {{ id = "{CLIENT}", secret = "{SECRET}" }}'
    return f'[oidc]\nissuer = "{idp.issuer}"\n{client}\nperson = {{ sid = "onprem_sid" }}'


async def test_user_of_a_provider_is_found_by_sid_and_is_themselves_behind_the_gateway(
    domain: Lab, apache: int, tmp_path: Path
) -> None:
    async with provider() as idp, site(domain, tmp_path, apache, at(idp, {})) as gate:
        for account in ("björn", "many1000"):
            others = {"preferred_username": "alice", "email": f"alice@{DOMAIN}", "account": "alice", "sub": "alice"}
            idp.claims = {"onprem_sid": await sid_of(domain, account), **others}
            signed_in = await there_and_back(gate)
            assert signed_in.status == 303, gate.log.read_text()[-2000:]
            reply = await curl(f"{address(gate)}/", "-k", "-H", f"Cookie: {session(signed_in)}")
            assert (reply.status, seen(reply.values("x-seen"))) == (200, [f"{account}@{REALM}"])


async def test_sid_of_a_provider_that_is_not_a_users_signs_nobody_in(domain: Lab, apache: int, tmp_path: Path) -> None:
    alice = await sid_of(domain, "alice")
    domain_sid = alice.rpartition("-")[0]
    disabled = (
        domain.samba_tool("user", "show", "disabled", "--attributes=objectSid").partition("objectSid: ")[2].split()[0]
    )
    wrong: dict[Any, str] = {
        disabled: "account-disabled",
        "S-1-5-21-1-2-3-1104": "account-unknown",
        f"{domain_sid}-513": "account-unknown",  # Domain Users
        f"{domain_sid}-999999": "account-unknown",
        "S-1-5-32-544": "account-unknown",
        f"{alice})(objectSid=*": "account-unknown",
        f" {alice}": "account-unknown",
        "alice": "account-unknown",
        None: "account-unknown",
    }
    async with provider() as idp, site(domain, tmp_path, apache, at(idp, {})) as gate:
        for sid, code in wrong.items():
            idp.claims = {"onprem_sid": sid, "account": "alice", "preferred_username": "alice"}
            reply = await there_and_back(gate)
            refused = [line for line in gate.decisions() if line.get("code")][-1]
            assert (reply.status, session(reply), refused["code"]) == (403, "", code), sid
