"""The sign-in method: sends browsers to the provider, and takes its responses and its notices of sign-outs."""

import hashlib
import logging
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import urlencode

from calgate.plugin import (
    Authenticated,
    AuthenticationFailed,
    BadRequest,
    Forbidden,
    MethodRefused,
    Redirect,
    SignInRequest,
    Store,
    Unavailable,
    milliseconds,
)
from calgate_oidc import pending
from calgate_oidc.discovery import Key, ProviderFaultError
from calgate_oidc.pending import Pending
from calgate_oidc.person import MECHANISM, identity_of
from calgate_oidc.provider import CodeRefusedError, Provider
from calgate_oidc.settings import Config
from calgate_oidc.tokens import Claims, Expected, TokenRefusedError, read_id_token, read_logout_token

logger = logging.getLogger(__name__)

PATH = "/_calgate/sign-in/oidc/"
BACK, FRESH, SIGN_OUT, LOGOUT = "back", "fresh", "sign-out", "logout"
_LIFE = 600.0  # seconds from the way to the provider until the way back
_LOGOUT_LIFE = 900.0  # seconds for which a logout token is known again; older ones are refused


class OidcMethod:
    """Signs users in at one provider."""

    form = None
    mechanisms: Sequence[str] = (MECHANISM,)
    fresh_step = FRESH
    notice_steps = frozenset({LOGOUT})

    def __init__(self, config: Config, provider: Provider, store: Store, now: Callable[[], float] = time.time) -> None:
        self.label = config.label
        self.needs_https = not config.issuer.startswith("http:")  # a provider on this host is a trial
        self.starts_at_once = config.start == "at once"
        self.sign_out_step = SIGN_OUT if config.sign_out == "provider" else ""
        self._config = config
        self._provider = provider
        self._store = store
        self._now = now
        self._expected = Expected(config.issuer, config.client.id)

    async def handle(self, request: SignInRequest) -> Redirect | Authenticated:
        """Carries out one request of a browser."""
        if request.method != "GET":
            raise MethodRefused(f"oidc: method {request.method} for {request.step!r}", ("GET", "HEAD"))
        try:
            match request.step:
                case "":
                    return await self._begin(request, is_fresh=False)
                case "fresh":
                    return await self._begin(request, is_fresh=True)
                case "back":
                    return await self._finish(request)
                case "sign-out":
                    return await self._sign_out(request)
        except ProviderFaultError as error:
            raise _unavailable(error) from error
        raise Forbidden("not one of the gateway's own paths")

    async def notice(self, step: str, form: Mapping[str, str]) -> Sequence[str]:
        """Takes a back-channel logout (section 2.5); returns the names of the sessions that end."""
        now = self._now()

        def read(keys: Mapping[str, Key]) -> tuple[str, str, str]:
            notice = read_logout_token(form.get("logout_token", ""), keys, self._expected, now=now)
            return notice.token_id, notice.sid, notice.subject

        try:
            token_id, sid, subject = await self._provider.verified(read)
        except TokenRefusedError as error:
            raise BadRequest(f"oidc: a logout token is refused: {error}") from error
        except ProviderFaultError as error:
            raise _unavailable(error) from error
        if not await self._is_first("logout", token_id, _LOGOUT_LIFE):
            raise BadRequest("oidc: a logout token is refused: it came before")
        return [_session_name(sid)] if sid else [_subject_name(subject)]

    # ------------------------------------------------------------ there and back

    async def _begin(self, request: SignInRequest, *, is_fresh: bool) -> Redirect:
        metadata = await self._provider.metadata()
        begun = pending.begin(request.back_to, self._now(), is_fresh=is_fresh)
        query = {
            "client_id": self._config.client.id,
            "response_type": "code",
            "response_mode": "query",
            "scope": " ".join(self._config.scopes),
            "redirect_uri": request.origin + PATH + BACK,
            "state": begun.state,
            "nonce": begun.nonce,
            "code_challenge": begun.challenge,
            "code_challenge_method": "S256",
        }
        if is_fresh:
            query |= {"prompt": "login", "max_age": "0"}
        return Redirect(_with_query(metadata.authorization_endpoint, query), note=begun.to_note())

    async def _finish(self, request: SignInRequest) -> Authenticated:
        begun = await self._demand_begun_here(request)
        await self._demand_issuer(request.query)
        if "error" in request.query:
            raise _refused(
                f"oidc: the provider reports {_shown(request.query['error'])}:"
                f" {_shown(request.query.get('error_description', ''))}"
            )
        if not request.query.get("code"):
            raise _refused("oidc: the provider's response has no code")
        claims = await self._claims(request, begun)
        names = [_subject_name(str(claims["sub"]))]
        sid = claims.get("sid")
        if isinstance(sid, str) and sid:
            names.append(_session_name(sid))
        return Authenticated(
            identity_of(claims, self._config), back_to=begun.back_to, session_names=names, is_fresh=begun.is_fresh
        )

    async def _demand_begun_here(self, request: SignInRequest) -> Pending:
        """Returns the sign-in that this browser began: another one would sign it in as somebody else (login CSRF)."""
        begun = pending.from_note(request.note)
        state = request.query.get("state", "")
        if begun is None or not secrets.compare_digest(state.encode(), begun.state.encode()):
            raise _refused(
                "oidc: this browser did not begin this sign-in, or began another one since, or took over ten minutes"
            )
        if not await self._is_first("state", begun.state, _LIFE):
            raise _refused("oidc: the provider's response came before")
        return begun

    async def _demand_issuer(self, query: Mapping[str, str]) -> None:
        """Refuses the response of another provider (mix-up; RFC 9207, section 2.4)."""
        metadata = await self._provider.metadata()
        issuer = query.get("iss")
        if issuer is None and not metadata.sends_issuer:
            return
        if issuer != self._config.issuer:
            raise _refused(f"oidc: the response is from the issuer {_shown(issuer)}")

    async def _claims(self, request: SignInRequest, begun: Pending) -> Claims:
        now = self._now()

        def read(keys: Mapping[str, Key]) -> Claims:
            since = begun.begun if begun.is_fresh else None
            return read_id_token(token, keys, self._expected, nonce=begun.nonce, now=now, proved_since=since)

        try:
            token = await self._provider.id_token(request.query["code"], begun.verifier, request.origin + PATH + BACK)
            return await self._provider.verified(read)
        except (TokenRefusedError, CodeRefusedError) as error:
            raise _refused(f"oidc: the ID token is refused: {error}") from error

    async def _sign_out(self, request: SignInRequest) -> Redirect:
        """Ends the session at the provider (RP-Initiated Logout 1.0); without an ID token it asks the user first."""
        metadata = await self._provider.metadata()
        signed_out = request.origin + "/_calgate/signed-out"
        if not metadata.end_session_endpoint:
            return Redirect(signed_out)
        query = {"client_id": self._config.client.id, "post_logout_redirect_uri": signed_out}
        return Redirect(_with_query(metadata.end_session_endpoint, query))

    async def _is_first(self, kind: str, word: str, life: float) -> bool:
        """Whether this value is used for the first time, on any gateway."""
        key = f"{self._store.prefix}:oidc:{kind}:{hashlib.sha256(word.encode()).hexdigest()}"
        return bool(await self._store.execute("SET", key, "1", "NX", "PX", milliseconds(life)))


def _with_query(url: str, query: Mapping[str, str]) -> str:
    return f"{url}{'&' if '?' in url else '?'}{urlencode(query)}"


def _session_name(sid: str) -> str:
    return f"sid {sid}"


def _subject_name(subject: str) -> str:
    return f"sub {subject}"


def _shown(word: str | None) -> str:
    """Returns a stranger's text as the log can have it."""
    return repr(word)[:200]


def _refused(detail: str) -> AuthenticationFailed:
    return AuthenticationFailed(detail, code="provider-refused")


def _unavailable(error: ProviderFaultError) -> Unavailable:
    logger.warning("oidc: %s", error)
    return Unavailable(f"oidc: {error}", code="provider-unavailable")
