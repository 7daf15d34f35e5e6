"""Attempts to sign a browser in as somebody else, or to lead it elsewhere, by raw bytes on every path that signs in."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from urllib.parse import quote, urlencode

import pytest
import pytest_asyncio

from support.gateway_process import (
    PASSWORD,
    DocumentServer,
    Gateway,
    Reply,
    curl,
    document_server,
    gateway,
    raw,
    write_settings,
)
from support.oidc_provider import CLIENT, SECRET, TestProvider, provider

pytestmark = pytest.mark.asyncio(loop_scope="module")

SECTIONS = """
[password]
insecure = true

[oidc]
issuer = "{issuer}"
client = {{ id = "{client}", secret = "{secret}" }}
person = {{ account = "account", domain = "DEMO" }}
"""
Way = Callable[[Gateway, str], Awaitable[Reply]]
FORM = "/_calgate/sign-in/password/"
ALICE = urlencode({"user": "alice", "password": PASSWORD, "to": "/docs/sales"})
URLENCODED = "Content-Type: application/x-www-form-urlencoded"
TRICKS = (
    "//evil.example/",
    "///evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "/\t/evil.example",
    "/\r\nSet-Cookie: calgate=x",
    "\u2028//evil.example",
    "https:evil.example",
    "https://evil.example/",
    "http://127.0.0.1@evil.example/",
    "javascript:alert(1)",
    "data:text/html,x",
    "evil.example",
    "",
    "/_calgate/sign-out",
    "/_CALGATE/sign-out",
)
HARMLESS = ("/%2F/evil.example", "/%5Cevil.example", "/%09//evil.example", "/docs/sales?to=//evil.example", "/é")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[DocumentServer]:
    async with document_server() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def idp() -> AsyncIterator[TestProvider]:
    async with provider() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(
    server: DocumentServer, idp: TestProvider, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Gateway]:
    """A gateway over plain http, so that the test sends the bytes: form, provider, and NTLM on request."""
    more = SECTIONS.format(issuer=idp.issuer, client=CLIENT, secret=SECRET)
    async with gateway(write_settings(tmp_path_factory.mktemp("attacks"), server.port, more=more)) as running:
        yield running


def session(reply: Reply) -> str:
    return next((one.partition(";")[0] for one in reply.values("set-cookie") if one.startswith("calgate=")), "")


async def send(site: Gateway, request_line: str, *headers: str, body: str = "") -> bytes:
    lines = [request_line, f"Host: 127.0.0.1:{site.port}", "Accept: text/html", "Connection: close", *headers]
    length = [f"Content-Length: {len(body)}"] if body else []
    return await raw(site.port, "\r\n".join([*lines, *length, "", body]).encode("utf-8"))


def is_signed_in(answer: bytes) -> bool:
    return re.search(rb"(?im)^set-cookie: calgate=", answer) is not None


# ---------------------------------------------------------------- forms of other sites


@pytest.mark.parametrize(
    "headers",
    [
        ("Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: cross-site"),
        ("Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-origin"),
        ("Sec-Fetch-Site: same-origin, cross-site",),
        ("Sec-Fetch-Site: SAME-ORIGIN",),
        ("Sec-Fetch-Site: cross-site", "Origin: {own}"),
        ("Origin: {own}", "Origin: https://evil.example"),
        ("Origin: {own}.evil.example",),
        ("Origin: {own}@evil.example",),
        ("Origin: {own} https://evil.example",),
        ("Origin: http://127.0.0.1",),
        ("Origin: http://127.0.0.1:1",),
        ("Origin: https://127.0.0.1:{port}",),
        ("Referer: {own}/",),
        ("Host: evil.example", "Origin: http://evil.example"),
        ("X-Forwarded-Host: evil.example", "Origin: http://evil.example"),
        ("Sec_Fetch_Site: same-origin",),
    ],
)
async def test_form_whose_origin_can_be_read_in_two_ways_signs_nobody_in(
    site: Gateway, headers: tuple[str, ...]
) -> None:
    written = [one.format(own=site.url, port=site.port) for one in headers]
    answer = await send(site, f"POST {FORM} HTTP/1.1", *written, URLENCODED, body=ALICE)
    assert answer[9:12] in (b"400", b"403"), answer
    assert not is_signed_in(answer)


@pytest.mark.parametrize(
    "kind",
    [
        "application/x-www-form-urlencoded, text/plain",
        "text/plain; application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json",
        "",
    ],
)
async def test_body_that_is_no_urlencoded_form_signs_nobody_in(site: Gateway, kind: str) -> None:
    answer = await send(
        site, f"POST {FORM} HTTP/1.1", "Sec-Fetch-Site: same-origin", f"Content-Type: {kind}", body=ALICE
    )
    assert (answer[9:12], is_signed_in(answer)) == (b"403", False)


async def test_name_and_password_in_a_url_sign_nobody_in(site: Gateway) -> None:
    """It would be in histories and logs, and any page could have a browser follow it."""
    for request in (f"GET {FORM}?{ALICE} HTTP/1.1", f"HEAD {FORM}?{ALICE} HTTP/1.1"):
        answer = await send(site, request, "Sec-Fetch-Site: same-origin")
        assert (answer[9:12], is_signed_in(answer)) == (b"200", False)
        assert PASSWORD.encode() not in answer
    here = "Sec-Fetch-Site: same-origin"
    answer = await send(site, f"POST {FORM}?{ALICE} HTTP/1.1", here, URLENCODED, body="to=/")
    assert (answer[9:12], is_signed_in(answer)) == (b"403", False)
    answer = await send(site, f"GET {FORM} HTTP/1.1", here, URLENCODED, body=ALICE)
    assert not is_signed_in(answer)
    assert PASSWORD not in site.log.read_text()


async def test_session_that_was_chosen_for_a_browser_before_the_sign_in_is_not_used(
    site: Gateway, server: DocumentServer
) -> None:
    chosen = "calgate=" + "A" * 43
    own = ("-H", "Sec-Fetch-Site: same-origin")
    reply = await curl(site.url + FORM, *own, "-H", f"Cookie: {chosen}", "--data", ALICE)
    assert reply.status == 303
    assert session(reply) not in ("", chosen)
    server.seen.clear()
    assert (await curl(f"{site.url}/docs/sales", "-H", f"Cookie: {chosen}")).status == 401
    assert server.seen == []


# ---------------------------------------------------------------- where a sign-in leads


async def by_form(site: Gateway, to: str) -> Reply:
    fields = urlencode({"user": "alice", "password": PASSWORD, "to": to})
    return await curl(site.url + FORM, "-H", "Sec-Fetch-Site: same-origin", "--data", fields)


async def by_provider(site: Gateway, to: str) -> Reply:
    begun = await curl(f"{site.url}/_calgate/sign-in/oidc?{urlencode({'to': to})}")
    note = next(one.partition(";")[0] for one in begun.values("set-cookie") if one.startswith("calgate-note="))
    back = (await curl(begun.values("location")[0])).values("location")[0]
    return await curl(back, "-H", f"Cookie: {note}")


async def by_scheme(site: Gateway, to: str) -> Reply:
    url = f"{site.url}/_calgate/sign-in/ntlm?{urlencode({'to': to})}"
    return await curl(url, "--ntlm", "-u", f"DEMO\\alice:{PASSWORD}")


@pytest.mark.parametrize("sign_in", [by_form, by_provider, by_scheme])
async def test_no_sign_in_leads_to_another_site_or_to_our_own_pages(site: Gateway, sign_in: Way) -> None:
    for to in TRICKS:
        reply = await sign_in(site, to)
        assert (reply.status, reply.values("location")) == (303, ["/"]), to
        assert len(reply.values("set-cookie")) <= 3, to
    for to in HARMLESS:
        (location,) = (await sign_in(site, to)).values("location")
        assert re.match(r"/(?![/\\])[^\r\n\t]*$", location), to


async def test_path_to_return_to_is_text_in_every_page(site: Gateway) -> None:
    for to in ('/"><script>alert(1)</script>', "/x' onfocus=alert(1) autofocus='"):
        for path in ("", "password/", "ntlm", "oidc/back"):
            answer = await send(site, f"GET /_calgate/sign-in/{path}?to={quote(to)} HTTP/1.1")
            assert answer.startswith(b"HTTP/1.1 "), path
            assert to.encode() not in answer, path


# ---------------------------------------------------------------- answers of a provider


@pytest.mark.parametrize(
    "query",
    [
        "state={state}&state={state}&code={code}&iss={iss}",
        "state={state}&code={code}&code=another&iss={iss}",
        "state={state}&code={code}&iss={iss}&iss=https://evil.example",
        "state={state}&code={code}&iss=https://evil.example",
        "state=&code={code}&iss={iss}",
        "code={code}&iss={iss}",
        "state={state}%00&code={code}&iss={iss}",
        "state={state}&code=&iss={iss}",
        "state={state}&id_token=x&iss={iss}",
        "state={state}&code=invented&iss={iss}",
        "state={state}&code={code}&iss={iss}&error=access_denied",
    ],
)
async def test_answer_that_is_not_the_providers_signs_nobody_in(site: Gateway, query: str) -> None:
    begun = await curl(f"{site.url}/_calgate/sign-in/oidc")
    note = next(one.partition(";")[0] for one in begun.values("set-cookie") if one.startswith("calgate-note="))
    back = (await curl(begun.values("location")[0])).values("location")[0]
    right = dict(re.findall(r"[?&](\w+)=([^&]*)", back))
    answer = await send(site, f"GET /_calgate/sign-in/oidc/back?{query.format(**right)} HTTP/1.1", f"Cookie: {note}")
    assert answer[9:12] in (b"400", b"403"), answer
    assert not is_signed_in(answer)


async def test_answer_is_taken_by_get_only(site: Gateway) -> None:
    begun = await curl(f"{site.url}/_calgate/sign-in/oidc")
    note = next(one.partition(";")[0] for one in begun.values("set-cookie") if one.startswith("calgate-note="))
    path, _, query = (await curl(begun.values("location")[0])).values("location")[0].partition("?")
    for own in (("-H", "Sec-Fetch-Site: same-origin"), ("-H", f"Origin: {site.url}"), ("-H", "Origin: null")):
        reply = await curl(path, *own, "-H", f"Cookie: {note}", "--data", query)
        assert reply.status in (403, 405)
        assert session(reply) == ""
