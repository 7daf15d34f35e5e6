"""Who are you? An API token: one process's copies of the tokens in use.

A copy is a session that is in no store and has no cookie: it remembers grants and leases as any other. It is believed
for some seconds; a revocation reaches every copy as an event.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NoReturn

from calgate.authentication.session import Session
from calgate.authentication.token import Token, digest_of, token_in
from calgate.authentication.token_store import TokenStore
from calgate.http.request import Request
from calgate.plugin.errors import AuthenticationFailed, Refusal, SignInNeeded, Unavailable
from calgate.plugin.identity import CountsGuesses
from calgate.plugin.services import Event, Store
from calgate.telemetry import log
from calgate.telemetry.metrics import Metrics

_COPY_LIFE = 15.0  # seconds a copy is believed: what a lost message can cost
_KEEP_EVERY = 5.0  # seconds between checks of open exchanges
_MOST_COPIES = 1000  # by token and address; the oldest is dropped, and read again at its next request
_REVOKED = "the API token is revoked or has expired"


class Tokens:
    """The API tokens that this process knows of; the store holds the truth."""

    def __init__(
        self,
        store: Store,
        grace: float,
        guesses: CountsGuesses | None,
        metrics: Metrics,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`guesses`: counts unknown tokens towards their address; None: no authenticator of the site does."""
        self._tokens = TokenStore(store)
        self._grace = grace
        self._guesses = guesses
        self._metrics = metrics
        self._clock = clock
        self._copies: dict[tuple[str, str], Session] = {}
        store.listen(self._on_event)

    @property
    def sessions(self) -> Sequence[Session]:
        """The copies, for those who must reach every session of this process."""
        return list(self._copies.values())

    async def session(self, request: Request) -> Session:
        """Returns the session of the request's token.

        Raises AuthenticationFailed, Forbidden (a network that the token is not for), TooManySignIns or Unavailable.
        """
        secret = token_in(request.headers.by_name.get(b"authorization"))
        assert secret is not None
        try:
            session = await self._find(request, secret)
        except Refusal as refusal:
            request.log_refusal("sign-in failed", refusal, scheme="Bearer")
            raise
        session.note_use(self._clock())
        return session

    async def _find(self, request: Request, secret: str) -> Session:
        if request.scheme != "https":
            raise AuthenticationFailed("an API token came over plain http; revoke it: others can have read it")
        key, address = digest_of(secret), request.address
        copy = self._copies.get((key, address))
        if copy is None or self._clock() >= copy.believed_until:
            copy = await self._read(key, address, copy)
            if copy is None:
                await self._count_guess(address)
        assert copy.token is not None
        copy.token.demand_valid(self._clock())
        copy.token.demand_network(address)
        if copy.person_at == 0.0:
            log.decision("signed in", reference=request.reference, user=copy.name, mechanism="token", address=address)
        return copy

    async def _count_guess(self, address: str) -> NoReturn:
        if self._guesses is not None:
            await self._guesses.count_guess(address)
        raise AuthenticationFailed("the API token is not one of this gateway's, or was removed after its end")

    async def _read(self, key: str, address: str, copy: Session | None) -> Session | None:
        try:
            token = await self._tokens.use(key, address)
        except Unavailable:
            if copy is not None and self._clock() < copy.believed_until + self._grace:
                return copy
            raise
        if token is None:
            self._drop(key)
            return None
        copy = self._copies.get((key, address)) or self._add(token, address)
        copy.set_token(token)
        copy.believe(self._clock() + _COPY_LIFE)
        return copy

    def _add(self, token: Token, address: str) -> Session:
        if len(self._copies) >= _MOST_COPIES:
            oldest = next(iter(self._copies))
            self._end(self._copies.pop(oldest), "too many API tokens are in use")
        session = Session(
            token.key,
            token.identity,
            token.person_key,
            token.user,
            address,
            is_browser=False,
            created=self._clock(),
            confirmed=False,  # no cookie leads to it
            token=token,
        )
        self._copies[token.key, address] = session
        self._metrics.count("sign_ins", "token")
        return session

    # ------------------------------------------------------------ the end

    def _on_event(self, event: Event) -> None:
        if event.topic == "session-ended":
            self._drop(event.subject)
        elif event.topic == "store-back":  # events may have been missed
            now = self._clock()
            for session in self._copies.values():
                session.doubt(now)

    def _drop(self, key: str) -> None:
        for place in [place for place in self._copies if place[0] == key]:
            self._end(self._copies.pop(place), _REVOKED)

    def _end(self, session: Session, reason: str) -> None:
        session.end(reason, SignInNeeded(reason))

    async def keep(self) -> None:
        """Reads the tokens of open exchanges again, and drops unused copies; runs until cancelled."""
        while True:
            await asyncio.sleep(_KEEP_EVERY)
            await self.keep_once()

    async def keep_once(self) -> None:
        """Does one round of `keep`."""
        now = self._clock()
        for (key, address), session in list(self._copies.items()):
            assert session.token is not None
            if session.is_open and now >= session.believed_until:
                with suppress(Unavailable):
                    await self._read(key, address, session)
            is_over = now >= session.token.until or session.token.revoked is not None
            if is_over or now > session.believed_until + self._grace:
                self._copies.pop((key, address), None)
                self._end(session, _REVOKED)
