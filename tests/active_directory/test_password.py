"""The password form, Basic, and the change of an expired password, against a real domain controller."""

import asyncio
import base64
import re
import statistics
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlencode

import pytest
import pytest_asyncio

from support import keytabs
from support.domain import DOMAIN, HOST, PASSWORD, Lab
from support.domain_gateway import Front, front
from support.gateway_process import Reply, curl

PAGE = "/_calgate/sign-in/password/"
FROM_HERE = ("-H", "Sec-Fetch-Site: same-origin")
NEW_PASSWORD = "Qu1te-Another-7!"


@asynccontextmanager
async def protected(lab: Lab, folder: Path, password: str = "[password]", **more: str) -> AsyncIterator[Front]:
    """Starts a gateway with TLS and the password form; it has reached the directory."""
    tls = lab.folder / "tls"
    listen = f'tls = {{ certificate = "{tls}/gateway.pem", key = "{tls}/gateway.key" }}'
    async with front(lab, folder, listen=listen, password=password, **more) as running:
        for _ in range(150):
            if (await curl(f"{running.url}/_calgate/health", "-k")).status == 200:
                break
            await asyncio.sleep(0.1)
        yield running


@pytest_asyncio.fixture
async def site(domain: Lab, tmp_path: Path) -> AsyncIterator[Front]:
    async with protected(domain, tmp_path, "[password]\nbasic = true") as running:
        yield running


@pytest.fixture
def must_change(domain: Lab) -> Iterator[str]:
    """An account in app-users whose password must be changed."""
    domain.samba_tool("user", "create", "newcomer", PASSWORD, "--must-change-at-next-login")
    domain.samba_tool("group", "addmembers", "app-users", "newcomer")
    yield "newcomer"
    domain.samba_tool("user", "delete", "newcomer")


@pytest.fixture
def umlaut(domain: Lab) -> Iterator[str]:
    """A name that is not ASCII, in app-users."""
    domain.samba_tool("group", "addmembers", "app-users", "björn")
    yield "björn"
    domain.samba_tool("group", "removemembers", "app-users", "björn")


async def enter(site: Front, user: str, password: str = PASSWORD, to: str = "/docs/Sales") -> Reply:
    fields = urlencode({"user": user, "password": password, "to": to})
    return await curl(site.url + PAGE, "-k", *FROM_HERE, "--data", fields)


async def change(site: Front, note: str, old: str, new: str, again: str | None = None) -> Reply:
    fields = urlencode({"old": old, "new": new, "again": new if again is None else again, "to": "/docs/Sales"})
    return await curl(f"{site.url}{PAGE}change", "-k", *FROM_HERE, "-H", f"Cookie: {note}", "--data", fields)


def cookie(reply: Reply, name: str) -> str:
    found = re.search(rf"(?im)^set-cookie: ({name}=[^;]+)", reply.headers)
    return found[1] if found else ""


def session(reply: Reply) -> str:
    return cookie(reply, "__Host-calgate")


async def test_every_spelling_of_a_name_signs_in_as_the_same_user(site: Front, umlaut: str) -> None:
    spellings = {
        "alice": "alice",
        "ALICE": "alice",
        "CORP\\alice": "alice",
        f"{DOMAIN}\\alice": "alice",
        f"alice@{DOMAIN}": "alice",
        umlaut: "björn",
        f"CORP\\{umlaut}": "björn",
        f"{umlaut}@{DOMAIN}": "björn",
        "many1000": "many1000",
    }
    for spelling, account in spellings.items():
        reply = await enter(site, spelling)
        assert (reply.status, reply.values("location")) == (303, ["/docs/Sales"]), (spelling, site.gate.log.read_text())
        served = await curl(f"{site.url}/portal", "-k", "-H", f"Cookie: {session(reply)}")
        assert served.status == 200, spelling
        assert site.users()[-1].encode("latin-1").decode() == f"CORP\\{account}"
    assert {entry["mechanism"] for entry in site.gate.decisions("signed in")} == {"password"}


async def test_unknown_wrong_and_refused_accounts_cannot_be_told_apart(site: Front) -> None:
    """The log says which it was. Each account is tried three times, one short of the guard's limit."""
    tried = {
        "unknown name": ("nobody", "wrong", "Client '"),
        "wrong password": ("guessed", "wrong", "Preauthentication failed"),
        "disabled": ("disabled", PASSWORD, "revoked"),
        "expired": ("expired", PASSWORD, "revoked"),
        "locked": ("locked", PASSWORD, "revoked"),
        "another domain": ("EVIL\\alice", PASSWORD, "there is no domain EVIL"),
    }
    bodies, times = set(), {}
    for what, (user, password, reason) in tried.items():
        took = []
        for _ in range(3):
            began = time.monotonic()
            reply = await enter(site, user, password)
            took.append(time.monotonic() - began)
            assert (reply.status, reply.values("set-cookie"), reply.values("www-authenticate")) == (403, [], [])
            assert reply.json["code"] == "sign-in-failed"
            bodies.add(re.sub(rb'"(reference|instance|time)": *"[^"]*"', b"", reply.body))
        times[what] = statistics.median(took)
        assert reason in str(site.gate.decisions("refused")[-1]["reason"]), what
    print({what: f"{seconds:.3f} s" for what, seconds in times.items()})
    assert len(bodies) == 1, bodies
    assert min(times.values()) >= 1


async def test_guesses_at_one_account_are_counted_under_one_name(site: Front) -> None:
    for spelling in ("guessed", "CORP\\Guessed", f"guessed@{DOMAIN}"):
        assert (await enter(site, spelling, "wrong")).status == 403
    basic = await curl(f"{site.url}/portal", "-k", "-u", "guessed:wrong")
    assert (basic.status, basic.json["code"]) in ((401, "sign-in-failed"), (429, "too-many-sign-ins"))
    assert (await enter(site, "guessed")).status == 429, "the domain would lock the account at the fifth"


async def test_expired_password_is_changed_and_the_user_is_signed_in(site: Front, must_change: str) -> None:
    reply = await enter(site, must_change)
    note = cookie(reply, "__Host-calgate-note")
    assert (reply.status, session(reply)) == (200, "")
    assert b'autocomplete="new-password"' in reply.body
    assert b'action="/_calgate/sign-in/password/change"' in reply.body
    differs = await change(site, note, PASSWORD, NEW_PASSWORD, "another")
    assert b"The two new passwords differ" in differs.body
    simple = await change(site, note, PASSWORD, "abc")
    assert b"does not accept the new password" in simple.body
    began = time.monotonic()
    wrong = await change(site, note, "Wr0ng-old-1!", NEW_PASSWORD)
    assert (wrong.status, session(wrong)) == (403, "")
    assert time.monotonic() - began >= 1
    done = await change(site, note, PASSWORD, NEW_PASSWORD)
    assert (done.status, done.values("location")) == (303, ["/docs/Sales"]), site.gate.log.read_text()
    served = await curl(f"{site.url}/docs/Sales", "-k", "-H", f"Cookie: {session(done)}")
    assert served.status == 200
    assert (await enter(site, must_change, NEW_PASSWORD)).status == 303
    log = site.gate.log.read_text()
    assert PASSWORD not in log
    assert NEW_PASSWORD not in log


async def test_page_to_change_a_password_is_reached_by_the_right_password_only(site: Front, must_change: str) -> None:
    assert cookie(await enter(site, must_change, "wrong"), "__Host-calgate-note") == ""
    for note in ("", "__Host-calgate-note=gAAAAAbogus"):
        reply = await change(site, note, PASSWORD, NEW_PASSWORD)
        assert (reply.status, session(reply)) == (200, "")
        assert b'name="old"' not in reply.body, "the form to sign in, not the one to change"
    assert (await enter(site, must_change)).status == 200, "the password is still the old one"
    foreign = await curl(f"{site.url}{PAGE}change", "-k", "-H", "Sec-Fetch-Site: cross-site", "--data", "old=x")
    assert foreign.status == 403


async def test_guesses_on_the_page_to_change_a_password_are_limited(site: Front, must_change: str) -> None:
    note = cookie(await enter(site, must_change), "__Host-calgate-note")
    replies = [await change(site, note, "Wr0ng-old-1!", NEW_PASSWORD) for _ in range(3)]
    assert [reply.status for reply in replies] == [403] * 3
    assert (await change(site, note, PASSWORD, NEW_PASSWORD)).status == 429


async def test_users_cannot_change_a_password_where_the_settings_forbid_it(
    domain: Lab, tmp_path: Path, must_change: str
) -> None:
    async with protected(domain, tmp_path, "[password]\nchange = false") as site:
        reply = await enter(site, must_change)
        assert (reply.status, reply.json["code"]) == (403, "password-expired")
        assert cookie(reply, "__Host-calgate-note") == ""


async def test_kdc_that_does_not_know_our_key_signs_nobody_in_and_is_not_counted(domain: Lab, tmp_path: Path) -> None:
    keytab = keytabs.write(tmp_path / "other.keytab", keytabs.entry(f"HTTP/{HOST}"))
    async with protected(domain, tmp_path, keytab=str(keytab)) as site:
        for _ in range(6):
            reply = await enter(site, "alice")
            assert (reply.status, session(reply)) == (403, ""), "six: the guard stops at four failures"
        reason = str(site.gate.decisions("refused")[-1]["reason"])
        assert "a KDC that does not know the key in the keytab accepted corp\\alice" in reason
        assert "either the keytab is old, or somebody poses as the KDC" in reason


async def test_program_signs_in_by_basic_over_tls_and_nobody_is_asked_to(site: Front, umlaut: str) -> None:
    for user in ("alice", umlaut):
        assert (await curl(f"{site.url}/portal", "-k", "-u", f"{user}:{PASSWORD}")).status == 200
        assert site.users()[-1].encode("latin-1").decode() == f"CORP\\{user}"
    began = time.monotonic()
    reply = await curl(f"{site.url}/portal", "-k", "-u", "guessed:wrong")
    assert time.monotonic() - began >= 1
    assert (reply.status, reply.json["code"]) == (401, "sign-in-failed")
    assert [value.partition(" ")[0] for value in reply.values("www-authenticate")] == ["Negotiate"]
    assert (await curl(f"{site.url}/_calgate/sign-in/basic", "-k")).status == 403, "no page leads to it"
    page = await curl(f"{site.url}/portal", "-k", "-H", "Accept: text/html")
    assert b"sign-in/basic" not in page.body


@pytest.mark.parametrize("credentials", ["%%%", "YWxpY2U=", "/w==", base64.b64encode(b"alice:").decode(), "AAA:"])
async def test_malformed_basic_credentials_reach_no_server(site: Front, credentials: str) -> None:
    reply = await curl(f"{site.url}/portal", "-k", "-H", f"Authorization: Basic {credentials}")
    assert (reply.status, reply.json["code"]) == (401, "sign-in-failed")


async def test_basic_is_not_verified_over_plain_http(domain: Lab, tmp_path: Path) -> None:
    trusted = 'trusted_proxies = ["192.0.2.1/32"]'
    async with front(domain, tmp_path, listen=trusted, password="[password]\nbasic = true") as site:
        reply = await curl(f"{site.url}/portal", "-u", f"alice:{PASSWORD}")
        assert (reply.status, reply.json["code"]) == (401, "sign-in-failed")
        assert "over https only" in str(site.gate.decisions("sign-in failed")[-1]["reason"])
        assert site.users() == []
