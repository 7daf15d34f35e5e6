"""The whole exchange with a provider over HTTP, right and hostile; the browser is played by the test."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from calgate.plugin import (
    AccountRefused,
    Authenticated,
    AuthenticationFailed,
    BadRequest,
    Forbidden,
    MethodRefused,
    Peer,
    Redirect,
    Refusal,
    SignInRequest,
    Unavailable,
)
from calgate_oidc import pending
from calgate_oidc import provider as provider_module
from calgate_oidc.client_proof import ClientProof
from calgate_oidc.method import OidcMethod
from calgate_oidc.provider import open_provider
from calgate_oidc.settings import Config
from support.oidc_provider import CLIENT, SECRET, TestProvider, provider, under_secret, unsigned

ORIGIN = "https://bi.example"


class Words:
    """The one function of the store that the method needs: whether a value is new."""

    prefix = "test"

    def __init__(self) -> None:
        self.known: set[str] = set()

    async def execute(self, *command: str | int | float | bytes) -> str | None:
        assert (command[0], *command[3:5]) == ("SET", "NX", "PX")
        name = str(command[1])
        is_new = name not in self.known
        self.known.add(name)
        return "OK" if is_new else None


@pytest_asyncio.fixture
async def idp() -> AsyncIterator[TestProvider]:
    """Starts a provider."""
    async with provider() as running:
        yield running


@pytest_asyncio.fixture
async def method(idp: TestProvider) -> AsyncIterator[OidcMethod]:
    """Makes the sign-in method for it."""
    async with method_for(idp) as made:
        yield made


class method_for:  # noqa: N801 - used like a function
    """Opens a method for a provider, with changed settings."""

    def __init__(self, idp: TestProvider, **changed: Any) -> None:
        right = {
            "issuer": idp.issuer,
            "client": {"id": CLIENT, "secret": SECRET},
            "person": {"account": "account", "domain": "CORP"},
        }
        self._config = Config.model_validate(right | changed)
        self._opened = open_provider(self._config.issuer, ClientProof(self._config.client), None)

    async def __aenter__(self) -> OidcMethod:
        return OidcMethod(self._config, await self._opened.__aenter__(), Words())  # type: ignore[arg-type]

    async def __aexit__(self, *raised: Any) -> None:
        await self._opened.__aexit__(*raised)


def request(step: str, query: Mapping[str, str] | None = None, note: bytes = b"", **changed: Any) -> SignInRequest:
    values: dict[str, Any] = {
        "peer": Peer("192.0.2.1", behind_proxy=False),
        "method": "GET",
        "step": step,
        "query": query or {},
        "form": {},
        "note": note,
        "origin": ORIGIN,
        "back_to": "/docs/sales?x=1",
    }
    return SignInRequest(**(values | changed))


async def go(method: OidcMethod, step: str = "") -> tuple[dict[str, str], bytes]:
    """Goes to the provider and comes back; returns the query of its response, and the note."""
    begun = await method.handle(request(step))
    assert isinstance(begun, Redirect)
    async with aiohttp.ClientSession() as browser, browser.get(begun.location, allow_redirects=False) as answer:
        location = answer.headers["Location"]
    assert location.startswith(f"{ORIGIN}/_calgate/sign-in/oidc/back?")
    return dict(parse_qsl(urlsplit(location).query)), begun.note


async def sign_in(method: OidcMethod, step: str = "") -> Authenticated:
    query, note = await go(method, step)
    result = await method.handle(request("back", query, note, back_to="/"))
    assert isinstance(result, Authenticated)
    return result


async def failure(method: OidcMethod, step: str = "") -> Refusal:
    with pytest.raises(Refusal) as caught:
        await sign_in(method, step)
    return caught.value


async def test_user_signs_in_and_comes_back_to_the_document(method: OidcMethod, idp: TestProvider) -> None:
    result = await sign_in(method)
    assert (result.identity.name, result.identity.mechanism) == ("CORP\\alice", "oidc")
    assert result.back_to == "/docs/sales?x=1"
    assert list(result.session_names) == ["sub alice", "sid sid-of-alice"]
    asked = idp.last_query
    assert (asked["response_type"], asked["response_mode"], asked["scope"]) == ("code", "query", "openid")
    assert (asked["code_challenge_method"], len(asked["code_challenge"]), len(asked["nonce"])) == ("S256", 43, 43)
    assert "max_age" not in asked


async def test_discovery_and_keys_are_fetched_once(method: OidcMethod, idp: TestProvider) -> None:
    await asyncio.gather(*(sign_in(method) for _ in range(5)))
    assert idp.requests.count("/.well-known/openid-configuration") == 1
    assert idp.requests.count("/keys") == 1


async def test_requests_to_the_provider_pass_no_proxy_of_the_environment(
    idp: TestProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    async with method_for(idp) as method:
        assert isinstance(await sign_in(method), Authenticated)


def test_path_that_no_cookie_could_carry_leads_to_the_start_page() -> None:
    assert pending.begin("/" + "x" * 999, 0.0, is_fresh=False).back_to == "/" + "x" * 999
    assert pending.begin("/" + "x" * 1000, 0.0, is_fresh=False).back_to == "/"


async def test_answer_in_another_browser_is_refused(method: OidcMethod) -> None:
    query, note = await go(method)
    _, foreign = await go(method)
    for other in (b"", foreign):
        with pytest.raises(AuthenticationFailed, match="did not begin this sign-in"):
            await method.handle(request("back", query, other))
    with pytest.raises(AuthenticationFailed, match="did not begin this sign-in"):
        await method.handle(request("back", query | {"state": ""}, note))
    assert isinstance(await method.handle(request("back", query, note)), Authenticated)


async def test_answer_shown_twice_is_refused_before_the_provider_is_asked(
    method: OidcMethod, idp: TestProvider
) -> None:
    query, note = await go(method)
    await method.handle(request("back", query, note))
    with pytest.raises(AuthenticationFailed, match="came before"):
        await method.handle(request("back", query, note))
    assert idp.requests.count("/token") == 1


async def test_code_of_another_sign_in_is_useless(method: OidcMethod) -> None:
    query, note = await go(method)
    stolen, _ = await go(method)
    with pytest.raises(AuthenticationFailed, match="refuses the code"):
        await method.handle(request("back", query | {"code": stolen["code"]}, note))


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ({"error": "access_denied", "error_description": "no\r\nway"}, "access_denied"),
        ({"code": ""}, "no code"),
        ({"code": "x", "iss": "https://evil.example"}, "issuer"),
        ({"code": "never-given"}, "refuses the code"),
    ],
)
async def test_answer_without_a_code_of_this_provider_is_refused(
    method: OidcMethod, idp: TestProvider, answer: dict[str, str], why: str
) -> None:
    idp.answer_to_browser = answer
    refusal = await failure(method)
    assert isinstance(refusal, AuthenticationFailed)
    assert why in refusal.detail
    assert "\n" not in refusal.detail


async def test_answer_without_issuer_is_refused_where_the_provider_sends_it(
    method: OidcMethod, idp: TestProvider
) -> None:
    query, note = await go(method)
    del query["iss"]
    with pytest.raises(AuthenticationFailed, match="issuer None"):
        await method.handle(request("back", query, note))
    idp.metadata = {"authorization_response_iss_parameter_supported": False}
    async with method_for(idp) as tolerant:
        query, note = await go(tolerant)
        del query["iss"]
        assert isinstance(await tolerant.handle(request("back", query, note)), Authenticated)


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "somebody-else"},
        {"aud": [CLIENT, "somebody-else"]},
        {"iss": "https://evil.example"},
        {"nonce": None},
        {"nonce": "another"},
        {"exp": int(time.time()) - 3600},
        {"iat": int(time.time()) + 3600},
        {"sub": None},
    ],
    ids=["aud", "azp", "iss", "no nonce", "nonce", "exp", "iat", "no sub"],
)
async def test_token_with_wrong_claims_signs_nobody_in(
    method: OidcMethod, idp: TestProvider, claims: dict[str, Any]
) -> None:
    idp.claims = claims
    refusal = await failure(method)
    assert isinstance(refusal, AuthenticationFailed)
    assert refusal.code == "provider-refused"


@pytest.mark.parametrize("make", [unsigned, under_secret, lambda claims: "x.y.z", lambda claims: ""])
async def test_token_that_the_provider_did_not_sign_signs_nobody_in(
    method: OidcMethod, idp: TestProvider, make: Callable[[Mapping[str, Any]], str]
) -> None:
    idp.make_token = make
    assert isinstance(await failure(method), AuthenticationFailed)


async def test_new_key_is_fetched_and_an_old_one_forgotten(idp: TestProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    async with method_for(idp) as method:
        method._provider._keys._monotonic = lambda: clock[0]
        await sign_in(method)
        idp.listed, idp.signs_with = ["second"], "second"
        assert isinstance(await failure(method), AuthenticationFailed), "the keys were fetched less than a minute ago"
        assert idp.requests.count("/keys") == 1
        clock[0] += 61
        await sign_in(method)
        assert idp.requests.count("/keys") == 2
        idp.signs_with = "first"
        clock[0] += 61
        assert "does not list" in (await failure(method)).detail


async def test_slow_token_endpoint_is_unavailable_and_nothing_else(
    idp: TestProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider_module, "TIMEOUT", 0.3)
    async with method_for(idp) as method:
        idp.token_delay = 5
        refusal = await failure(method)
        assert (refusal.status, refusal.code) == (503, "provider-unavailable")
        assert "no response in time" in refusal.detail


def _huge() -> web.Response:
    return web.Response(body=b'{"id_token": "' + b"x" * 1_000_000 + b'"}')


def _bomb() -> web.Response:
    return web.Response(body=b"\x1f\x8b" + bytes(1000), headers={"Content-Encoding": "gzip"})


@pytest.mark.parametrize(
    "answer",
    [
        _huge,
        _bomb,
        lambda: web.Response(text="<html>"),
        lambda: web.Response(text="[" * 100_000),
        lambda: web.json_response([]),
        lambda: web.json_response({}),
        lambda: web.json_response({"id_token": 7}),
        lambda: web.json_response({"error": "invalid_client"}, status=401),
        lambda: web.json_response({"error": "server_error"}, status=500),
        lambda: web.Response(status=307, headers={"Location": "/token"}, text="{}"),
        lambda: web.Response(status=204),
    ],
    ids=["huge", "gzip", "html", "deep", "list", "empty", "number", "client", "error", "redirect", "no content"],
)
async def test_token_endpoint_that_responds_with_anything_else_is_unavailable(
    method: OidcMethod, idp: TestProvider, answer: Callable[[], web.Response]
) -> None:
    idp.answer_token = answer
    refusal = await failure(method)
    assert isinstance(refusal, Unavailable)
    assert refusal.code == "provider-unavailable"
    assert SECRET not in refusal.detail
    assert idp.requests.count("/token") == 1, "a redirect is not followed with the client's secret"


@pytest.mark.parametrize(
    "document",
    [
        {"issuer": "https://evil.example"},
        {"token_endpoint": "http://192.0.2.1/token"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"jwks_uri": None},
        {"end_session_endpoint": 7},
    ],
    ids=["issuer", "http", "script", "no keys", "number"],
)
async def test_discovery_document_that_leads_elsewhere_is_not_used(idp: TestProvider, document: dict[str, Any]) -> None:
    idp.metadata = document
    async with method_for(idp) as method:
        with pytest.raises(Unavailable):
            await method.handle(request(""))


async def test_provider_that_is_away_is_not_asked_by_every_request(idp: TestProvider) -> None:
    idp.metadata = {"issuer": "https://evil.example"}
    async with method_for(idp) as method:
        results = await asyncio.gather(*(method.handle(request("")) for _ in range(20)), return_exceptions=True)
    assert {type(one) for one in results} == {Unavailable}
    assert len(idp.requests) == 1


async def test_user_without_the_claim_is_unknown(method: OidcMethod, idp: TestProvider) -> None:
    idp.claims = {"account": None, "email": "alice@corp.example", "preferred_username": "alice"}
    refusal = await failure(method)
    assert isinstance(refusal, AccountRefused)
    assert refusal.code == "account-unknown"


async def test_somebody_else_can_sign_in_only_by_a_fresh_proof(method: OidcMethod, idp: TestProvider) -> None:
    await sign_in(method, "fresh")
    assert (idp.last_query["prompt"], idp.last_query["max_age"]) == ("login", "0")
    idp.claims = {"auth_time": int(time.time()) - 3600}
    assert "auth_time" in (await failure(method, "fresh")).detail
    await sign_in(method)


async def test_sign_out_leads_to_the_provider_and_back(method: OidcMethod, idp: TestProvider) -> None:
    result = await method.handle(request("sign-out"))
    assert isinstance(result, Redirect)
    query = dict(parse_qsl(urlsplit(result.location).query))
    assert result.location.startswith(f"{idp.issuer}/end?")
    assert query == {"client_id": CLIENT, "post_logout_redirect_uri": f"{ORIGIN}/_calgate/signed-out"}
    idp.metadata = {"end_session_endpoint": None}
    async with method_for(idp) as without:
        there = await without.handle(request("sign-out"))
        assert isinstance(there, Redirect)
        assert there.location == f"{ORIGIN}/_calgate/signed-out"


async def test_other_steps_and_methods_are_refused(method: OidcMethod) -> None:
    with pytest.raises(Forbidden):
        await method.handle(request("other"))
    with pytest.raises(MethodRefused):
        await method.handle(request("back", method="POST"))


async def test_back_channel_logout_names_the_session_once(method: OidcMethod, idp: TestProvider) -> None:
    token = idp.logout_token()
    assert await method.notice("logout", {"logout_token": token}) == ["sid sid-of-alice"]
    with pytest.raises(BadRequest, match="came before"):
        await method.notice("logout", {"logout_token": token})
    everywhere = idp.logout_token(sid=None, sub="alice")
    assert await method.notice("logout", {"logout_token": everywhere}) == ["sub alice"]


async def test_back_channel_logout_that_proves_nothing_is_refused(method: OidcMethod, idp: TestProvider) -> None:
    for form in ({}, {"logout_token": ""}, {"logout_token": idp.id_token("n")}, {"logout_token": unsigned({})}):
        with pytest.raises(BadRequest):
            await method.notice("logout", form)
