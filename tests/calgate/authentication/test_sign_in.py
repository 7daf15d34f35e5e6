"""Sign-in with fakes for the store, the directory and the authenticator: what becomes of sessions and credentials."""

import asyncio
import base64
from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any, cast

import pytest

from calgate.authentication.anonymous import AnonymousBrowsers, anonymous_session
from calgate.authentication.completion import finish_all
from calgate.authentication.handshakes import Handshakes
from calgate.authentication.session import Session
from calgate.authentication.settings import SessionSection
from calgate.authentication.sign_in import SignedIn, SignIn
from calgate.authentication.token import Token
from calgate.http.headers import Cookies, RequestHeaders
from calgate.http.request import Request
from calgate.plugin.errors import AccountRefused, AuthenticationFailed, CrossSite, Refusal, SignInNeeded, Unavailable
from calgate.plugin.identity import Authenticated, Continue, Identity, Peer, Person
from calgate.telemetry.metrics import Metrics


class Scheme:
    """An authenticator: "first" is continued, a user's name proves that user, an exception is raised."""

    schemes = ("Negotiate",)

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.error: Refusal | None = None

    def begin(self, peer: Peer) -> "Scheme":
        return self

    async def step(self, scheme: str, credentials: str) -> Continue | Authenticated:
        self.steps.append(credentials)
        if self.error is not None:
            raise self.error
        if credentials == "first":
            return Continue(b"challenge")
        return Authenticated(Identity("DEMO", credentials, "kerberos"), b"proof")


class Store:
    """The sessions, and the order in which they begin and end."""

    def __init__(self) -> None:
        self.live: dict[str, Session] = {}
        self.ended: list[str] = []

    async def find(self, session_id: str) -> Session | None:
        return self.live.get(session_id)

    owner = find

    def new(self, identity: Identity, person: Person, address: str, **more: Any) -> tuple[Session, str]:
        session = Session(person.key, identity, person.key, person.name, address, more["is_browser"], 0.0, person)
        return session, f"id-of-{person.key}"

    async def store(self, session: Session) -> None:
        self.live[f"id-of-{session.key}"] = session

    async def end(self, key: str, reason: str) -> bool:
        self.ended.append(key)
        return True

    async def cookies_up(self, session: Session, cookies: Cookies) -> bytes:
        return cookies.line


class Directory:
    async def look_up(self, identity: Identity) -> Person | None:
        return Person(identity.account, "DEMO", identity.account, identity.account, frozenset())


class Connection:
    address = "::1"
    tls_connection = None

    def __init__(self) -> None:
        self.handshake: Any = None
        self.failed_sign_ins = 0

    def take_handshake(self) -> Any:
        handshake, self.handshake = self.handshake, None
        return handshake

    def keep_handshake(self, handshake: Any) -> None:
        self.handshake = handshake

    def count_failed_sign_in(self) -> None:
        self.failed_sign_ins += 1


class Site:
    def __init__(self) -> None:
        self.scheme, self.store, self.connection = Scheme(), Store(), Connection()
        self.handshakes = Handshakes([cast(Any, self.scheme)], None)
        section = SessionSection()
        browsers = AnonymousBrowsers(cast(Any, None), section)
        values: Any = (self.handshakes, Directory(), self.store, None, section, Metrics(), browsers)
        self.sign_in = SignIn(*values)

    def request(
        self,
        credentials: str = "",
        *,
        session: str = "",
        method: str = "GET",
        behind_proxy: bool = False,
        site: bytes = b"",
        anonymous: bytes = b"",
    ) -> Request:
        by_name = {b"authorization": f"Negotiate {credentials}".encode()} if credentials else {}
        if site:
            by_name[b"sec-fetch-site"] = site
        cookies = Cookies({b"calgate": session.encode(), b"calgate-anonymous": anonymous}, (), b"doc=1")
        headers = RequestHeaders(cookies=cookies, by_name=by_name)
        raw = SimpleNamespace(version=(1, 1))
        target = SimpleNamespace(path="/")
        values: Any = (raw, self.connection, method, "/", target, headers, "bi", "http", "::1", behind_proxy)
        return Request(*values)


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
async def live(site: Site) -> str:
    """Alice's session id."""
    await site.sign_in.find(site.request("alice"))
    site.scheme.steps.clear()
    return "id-of-alice"


async def test_same_person_keeps_session_and_cookies_and_gets_the_proof(site: Site, live: str) -> None:
    """A client with mutual authentication REQUIRED sends a token with each request, and fails without a reply."""
    site.store.live[live]._proofs.clear()
    signed_in = await site.sign_in.find(site.request("alice", session=live))
    assert signed_in.session is site.store.live[live]
    assert signed_in.response_headers == [(b"WWW-Authenticate", b"Negotiate " + base64.b64encode(b"proof"))]
    assert signed_in.cookies == b"doc=1"
    assert site.store.ended == []


async def test_credentials_that_proved_the_session_before_are_not_tried_again(site: Site, live: str) -> None:
    """A browser sends a password with every request; the directory must not be bound to each time."""
    signed_in = await site.sign_in.find(site.request("alice", session=live))
    assert (site.scheme.steps, signed_in.session) == ([], site.store.live[live])


async def test_another_person_on_a_live_session_ends_it(site: Site, live: str) -> None:
    signed_in = await site.sign_in.find(site.request("bob", session=live))
    assert signed_in.session.name == "DEMO\\bob"
    assert (signed_in.cookies, site.store.ended) == (b"", ["alice"])


async def test_new_sign_in_of_the_same_person_ends_the_session_before(site: Site, live: str) -> None:
    site.store.live[live].lapsed = True
    signed_in = await site.sign_in.find(site.request("alice", session=live))
    assert signed_in.cookies == b"doc=1", "the same person keeps the document server's cookies"
    assert site.store.ended == ["alice"]


async def test_sign_in_ends_the_session_before_though_the_client_disconnects(site: Site, live: str) -> None:
    before = site.store.live[live]
    before.lapsed = True
    lookup = Lookup(before)
    site.store.owner = cast(Any, lookup)  # type: ignore[method-assign]
    await lookup.disconnect(site.sign_in.find(site.request("alice", session=live), stores_later=True))
    assert site.store.ended == ["alice"]


async def test_sign_in_gives_a_browsers_cal_back_though_the_client_disconnects(site: Site) -> None:
    browser, left = anonymous_session("::1"), []

    async def on_left(session: Session) -> None:
        left.append(session)

    site.sign_in.on_left = on_left
    lookup = Lookup(browser)
    site.sign_in._browsers.find = cast(Any, lookup)  # type: ignore[method-assign]
    request = site.request("alice", anonymous=b"sealed")
    await lookup.disconnect(site.sign_in.find(request, stores_later=True))
    assert left == [browser]


class Lookup:
    """A store that is slow to say whose a cookie is."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._began, self._may_end = asyncio.Event(), asyncio.Event()

    async def __call__(self, _cookie: object) -> Session:
        self._began.set()
        await self._may_end.wait()
        return self._session

    async def disconnect(self, finding: Coroutine[Any, Any, SignedIn]) -> None:
        """Cancels a sign-in that waits for this reply, which then arrives; waits for what goes on."""
        task = asyncio.create_task(finding)
        await self._began.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        self._may_end.set()
        await finish_all(1)
        await finish_all(1)  # what it began in turn


async def test_first_token_on_a_live_session_is_challenged(site: Site, live: str) -> None:
    with pytest.raises(SignInNeeded) as raised:
        await site.sign_in.find(site.request("first", session=live, method="POST"))
    assert raised.value.challenges == ("Negotiate " + base64.b64encode(b"challenge").decode(),)
    assert site.connection.handshake is site.scheme


async def test_failed_credentials_on_a_live_session_are_refused(site: Site, live: str) -> None:
    site.scheme.error = AuthenticationFailed("wrong")
    with pytest.raises(AuthenticationFailed):
        await site.sign_in.find(site.request("mallory", session=live))
    assert site.store.ended == []


@pytest.mark.parametrize("error", [AuthenticationFailed("x", code="ntlm-off"), Unavailable("no controller")])
async def test_live_session_serves_where_its_credentials_cannot_be_tried(site: Site, live: str, error: Refusal) -> None:
    site.scheme.error = error
    signed_in = await site.sign_in.find(site.request("alice2", session=live))
    assert signed_in.session is site.store.live[live]


async def test_form_that_waits_for_a_challenge_is_not_forwarded_empty_where_none_can_be_made(
    site: Site, live: str
) -> None:
    site.scheme.error = Unavailable("no controller")
    with pytest.raises(Unavailable):
        await site.sign_in.find(site.request("first", session=live, method="POST"))


async def test_request_with_a_session_and_no_token_ends_an_unfinished_handshake(site: Site, live: str) -> None:
    site.connection.handshake = site.scheme
    await site.sign_in.find(site.request(session=live))
    assert site.connection.handshake is None


async def test_handshake_of_several_steps_is_refused_behind_a_proxy(site: Site) -> None:
    with pytest.raises(AuthenticationFailed):
        await site.sign_in.find(site.request("first", behind_proxy=True))
    assert site.connection.handshake is None


@pytest.mark.parametrize(("failures", "offered"), [(0, ("Negotiate",)), (2, ("Negotiate",)), (3, ())])
def test_schemes_are_offered_again_after_a_failure_but_not_without_end(
    site: Site, failures: int, offered: tuple[str, ...]
) -> None:
    site.connection.failed_sign_ins = failures
    request = site.request()
    assert site.handshakes.challenges_after(request, AuthenticationFailed("x")) == offered
    assert site.handshakes.challenges_after(request, SignInNeeded("x")) == cast(Any, ("Negotiate",))


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_sign_in_that_another_sites_page_requests_uses_no_credentials(site: Site, method: str) -> None:
    with pytest.raises(CrossSite):
        await site.sign_in.by_handshake(site.request("alice", method=method, site=b"cross-site"))
    assert site.scheme.steps == []


def by_token(account: str, until: float) -> Session:
    """A session of a token that alice has until then."""
    session = Session("digest", Identity("DEMO", account, "token"), "alice", "DEMO\\alice", "::1", False, 0.0)
    routes = frozenset({"/"})
    session.set_token(Token("digest", "1", "DEMO", "alice", "alice", "root", 0.0, until, routes, ()))
    return session


async def test_token_is_refused_once_its_name_belongs_to_another_account(site: Site) -> None:
    assert (await site.sign_in.person(by_token("alice", 2000.0), 1000.0, 0)).key == "alice"
    with pytest.raises(AccountRefused, match="another account"):
        await site.sign_in.person(by_token("carol", 2000.0), 1000.0, 0)


async def test_token_that_has_expired_is_refused_when_its_account_is_looked_up_again(site: Site) -> None:
    with pytest.raises(AuthenticationFailed, match="has expired"):
        await site.sign_in.person(by_token("alice", 999.0), 1000.0, 0)
