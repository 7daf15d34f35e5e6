"""An OpenID provider of the tests' own, which can be set to respond wrongly; it signs users in without asking."""

import asyncio
import base64
import hashlib
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import urlencode

from aiohttp import web
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey

CLIENT = "calgate"
SECRET = "a-secret-of-32-characters-or-more"
SID = "S-1-5-21-1004336348-1177238915-682003330-1104"
EVENT = "http://schemas.openid.net/event/backchannel-logout"


@cache
def key(name: str) -> RSAKey:
    """Returns the RSA key of a name; the same in every test."""
    return RSAKey.generate_key(2048, {"kid": name, "use": "sig"})


def unsigned(claims: Mapping[str, Any]) -> str:
    """Returns a token with the algorithm "none"."""
    parts = [b'{"alg":"none","kid":"first"}', jsonable(claims)]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts) + "."


def jsonable(claims: Mapping[str, Any]) -> bytes:
    return json.dumps(claims).encode()


def under_secret(claims: Mapping[str, Any]) -> str:
    """Returns a token signed with HS256 under the client's secret."""
    secret = OctKey.import_key(SECRET)
    return jwt.encode({"alg": "HS256", "kid": "first"}, dict(claims), secret, algorithms=["HS256"])


@dataclass
class TestProvider:
    """The state of the provider; a test changes it before a request."""

    __test__ = False

    issuer: str = ""
    listed: list[str] = field(default_factory=lambda: ["first"])  # keys that it publishes
    signs_with: str = "first"
    user: str = "alice"
    claims: dict[str, Any] = field(default_factory=dict)  # instead of the right ones; None: without the claim
    make_token: Callable[[Mapping[str, Any]], str] | None = None
    answer_token: Callable[[], web.StreamResponse] | None = None
    token_delay: float = 0
    metadata: dict[str, Any] = field(default_factory=dict)
    answer_to_browser: dict[str, str] | None = None  # instead of code, state and iss
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    last_query: dict[str, str] = field(default_factory=dict)

    def sign(self, claims: Mapping[str, Any], header: Mapping[str, str] | None = None) -> str:
        """Signs claims with the current key."""
        return jwt.encode(
            {"alg": "RS256", "kid": self.signs_with, **(header or {})}, dict(claims), key(self.signs_with)
        )

    def id_token(self, nonce: str) -> str:
        """Returns an ID token with the claims that the test has set."""
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": CLIENT,
            "sub": self.user,
            "sid": f"sid-of-{self.user}",
            "iat": now,
            "exp": now + 300,
            "auth_time": now,
            "nonce": nonce,
            "account": self.user,
            "onprem_sid": SID,
        } | self.claims
        kept = {name: value for name, value in claims.items() if value is not None}
        return (self.make_token or self.sign)(kept)

    def logout_token(self, **changed: Any) -> str:
        """Returns a logout token for the user's session."""
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": CLIENT,
            "sid": f"sid-of-{self.user}",
            "iat": now,
            "exp": now + 120,
            "jti": secrets.token_hex(8),
            "events": {EVENT: {}},
        } | changed
        return self.sign({name: value for name, value in claims.items() if value is not None})

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests.append(request.path)
        match request.path:
            case "/.well-known/openid-configuration":
                return web.json_response(self._document())
            case "/keys":
                return web.json_response({"keys": [key(name).as_dict(private=False) for name in self.listed]})
            case "/authorize":
                return self._authorize(dict(request.query))
            case "/token":
                return await self._token(request)
            case "/end":
                raise web.HTTPSeeOther(request.query["post_logout_redirect_uri"])
        raise web.HTTPNotFound

    def _document(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
            "end_session_endpoint": f"{self.issuer}/end",
            "authorization_response_iss_parameter_supported": True,
            "backchannel_logout_supported": True,
            "claims_supported": ["sub", "account", "onprem_sid"],
        } | self.metadata

    def _authorize(self, query: dict[str, str]) -> web.Response:
        self.last_query = query
        code = secrets.token_urlsafe(16)
        self.codes[code] = query
        answer = {"code": code, "state": query["state"], "iss": self.issuer}
        if self.answer_to_browser is not None:
            answer = {"state": query["state"], "iss": self.issuer} | self.answer_to_browser
        raise web.HTTPSeeOther(f"{query['redirect_uri']}?{urlencode(answer)}")

    async def _token(self, request: web.BaseRequest) -> web.StreamResponse:
        await asyncio.sleep(self.token_delay)
        if self.answer_token is not None:
            return self.answer_token()
        form = await request.post()
        begun = self.codes.pop(str(form["code"]), None)
        pair = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        if request.headers.get("Authorization") != f"Basic {pair}":
            return web.json_response({"error": "invalid_client"}, status=401)
        digest = hashlib.sha256(str(form["code_verifier"]).encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if (
            begun is None
            or begun["code_challenge"] != challenge
            or begun["code_challenge_method"] != "S256"
            or begun["redirect_uri"] != form["redirect_uri"]
        ):
            return web.json_response({"error": "invalid_grant"}, status=400)
        return web.json_response({"id_token": self.id_token(begun["nonce"]), "token_type": "Bearer"})


@asynccontextmanager
async def provider() -> AsyncIterator[TestProvider]:
    """Starts a provider on a free port of this host."""
    running = TestProvider()
    runner = web.ServerRunner(web.Server(running.serve), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    running.issuer = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield running
    finally:
        await runner.cleanup()
