"""Requests to the provider: discovery, keys and the token endpoint. Everything that comes back is bounded."""

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Generic, TypeVar

import aiohttp

from calgate_oidc.client_proof import ClientProof
from calgate_oidc.discovery import Key, Metadata, ProviderFaultError, read_keys, read_metadata
from calgate_oidc.tokens import UnknownKeyError

TIMEOUT = 10.0  # seconds for one whole request
LONGEST_BODY = 262_144  # bytes
_MOST_CONNECTIONS = 20
_LIFE = 3600.0  # seconds that discovery and keys are believed
_KEYS_APART = 60.0  # seconds between two requests for the keys because a token names an unknown one
_FAILURE_LIFE = 3.0  # seconds in which a failed request is not made again

T = TypeVar("T")


class CodeRefusedError(Exception):
    """The token endpoint does not accept the code: it is old, was used before, or is somebody else's."""


class Provider:
    """One provider, as its discovery document describes it."""

    def __init__(
        self,
        issuer: str,
        proof: ClientProof,
        http: aiohttp.ClientSession,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.issuer = issuer
        self._proof = proof
        self._http = http
        self._metadata = _Kept(self._fetch_metadata, monotonic)
        self._keys = _Kept(self._fetch_keys, monotonic)

    async def metadata(self) -> Metadata:
        """Returns the discovery document. Raises ProviderFaultError."""
        return await self._metadata.get(_LIFE)

    async def keys(self) -> Mapping[str, Key]:
        """Returns the keys that verify tokens. Raises ProviderFaultError."""
        return await self._keys.get(_LIFE)

    async def verified(self, read: Callable[[Mapping[str, Key]], T]) -> T:
        """Reads a token with the provider's keys, and fetches them again if it names one that is not among them.

        Raises what `read` raises, and ProviderFaultError.
        """
        try:
            return read(await self.keys())
        except UnknownKeyError:
            return read(await self._keys.get(_KEYS_APART))

    async def id_token(self, code: str, verifier: str, redirect_uri: str) -> str:
        """Exchanges a code (RFC 6749, 4.1.3) and returns the ID token.

        Raises CodeRefusedError or ProviderFaultError.
        """
        metadata = await self.metadata()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": verifier,
        }
        headers, more = self._proof.of_request(metadata)
        status, answer = await self._request("POST", metadata.token_endpoint, headers=headers, data={**form, **more})
        if status != 200:
            error = str(answer.get("error"))[:100]
            if status == 400 and error == "invalid_grant":
                raise CodeRefusedError(f"the token endpoint refuses the code: {answer.get('error_description')!s:.200}")
            raise ProviderFaultError(
                f"the token endpoint responds {status} {error!r}: {answer.get('error_description')!s:.200}"
            )
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise ProviderFaultError("the token endpoint sends no ID token; the scope openid must be allowed")
        return token

    async def clock_offset(self, now: Callable[[], float]) -> float | None:
        """Returns our clock minus the provider's, in seconds; None if it does not say. For `calgate check`."""
        try:
            async with self._http.get(self.issuer, allow_redirects=False) as response:
                return now() - parsedate_to_datetime(response.headers["Date"]).timestamp()
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, KeyError):
            return None

    async def _fetch_metadata(self) -> Metadata:
        url = self.issuer.rstrip("/") + "/.well-known/openid-configuration"
        return read_metadata(await self._document(url), self.issuer)

    async def _fetch_keys(self) -> Mapping[str, Key]:
        return read_keys(await self._document((await self.metadata()).jwks_uri))

    async def _document(self, url: str) -> Mapping[str, object]:
        status, document = await self._request("GET", url)
        if status != 200:
            raise ProviderFaultError(f"{url} responds {status}")
        return document

    async def _request(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, data: Mapping[str, str] | None = None
    ) -> tuple[int, Mapping[str, object]]:
        """Returns status and JSON object; a redirect is not followed: it could lead the client's secret elsewhere."""
        try:
            async with self._http.request(method, url, headers=headers, data=data, allow_redirects=False) as response:
                return response.status, read_object(await _body(response), url, response.status)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise ProviderFaultError(f"{url}: {str(error) or 'no response in time'}"[:300]) from error


@asynccontextmanager
async def open_provider(issuer: str, proof: ClientProof, ca: Path | None) -> AsyncIterator[Provider]:
    """Yields the provider. Raises OSError or ssl.SSLError, which is one, if the CA file cannot be used."""
    tls = ssl.create_default_context(cafile=str(ca) if ca is not None else None)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=tls, limit=_MOST_CONNECTIONS),
        timeout=aiohttp.ClientTimeout(total=TIMEOUT),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        auto_decompress=False,  # no compression is requested, so no response can expand
        headers={"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "calgate"},
    ) as http:
        yield Provider(issuer, proof, http)


class _Kept(Generic[T]):
    """Something that is fetched by one request at a time, and kept."""

    def __init__(self, fetch: Callable[[], Awaitable[T]], monotonic: Callable[[], float]) -> None:
        self._fetch = fetch
        self._monotonic = monotonic
        self._lock = asyncio.Lock()
        self._value: tuple[T, float] | None = None
        self._failure: tuple[ProviderFaultError, float] | None = None

    async def get(self, at_most: float) -> T:
        """Returns what was fetched at most so many seconds ago. Raises ProviderFaultError."""
        async with self._lock:
            now = self._monotonic()
            if self._value is not None and now < self._value[1] + at_most:
                return self._value[0]
            if self._failure is not None and now < self._failure[1] + _FAILURE_LIFE:
                raise ProviderFaultError(str(self._failure[0]))
            try:
                value = await self._fetch()
            except ProviderFaultError as error:
                self._failure = error, self._monotonic()
                raise
            self._value = value, self._monotonic()
            return value


async def _body(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_chunked(65_536):
        body += chunk
        if len(body) > LONGEST_BODY:
            raise ProviderFaultError(f"{response.url}: the response has more than {LONGEST_BODY} bytes")
    return bytes(body)


def read_object(body: bytes, url: str, status: int) -> Mapping[str, object]:
    """Returns the JSON object of a response. Raises ProviderFaultError if it is not one."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ProviderFaultError(f"{url} responds {status}, and not with JSON") from error
    if not isinstance(document, dict):
        raise ProviderFaultError(f"{url} responds {status}, and not with a JSON object")
    return document
