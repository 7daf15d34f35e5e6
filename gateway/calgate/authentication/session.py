"""One process's copy of a session, and the owner of everything that was found for it."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

from calgate.authentication.document_cookies import DocumentCookies
from calgate.authentication.open_exchanges import OpenExchange, OpenWebSocket
from calgate.authentication.token import Token
from calgate.plugin.access import Grant
from calgate.plugin.errors import Refusal
from calgate.plugin.identity import Identity, Person
from calgate.plugin.licensing import Lease

_MOST_GRANTS = 512  # remembered access decisions; beyond it they are made again
_LONGEST_GRANT = 1024  # characters of path, document and address; a path can have 64 KB
_MOST_LEASES = 256  # remembered leases; a forgotten one is claimed again, which changes nothing

_MOST_PROOFS = 4

EXPIRED = "expired"  # the reason of a session that ended by time alone
SIGNED_OUT = "signed out"  # the reason of one that its user ended
SIGNED_OUT_THERE = "signed out at the provider"
GrantKey = tuple[int, str, str, str]  # route, path, document, address: rules may name networks


@lru_cache(4096)
def hash_id(session_id: str) -> str:
    """Returns the key that the store knows a session by."""
    return hashlib.sha256(session_id.encode("latin-1")).hexdigest()


@dataclass(slots=True, eq=False)
class Session:
    """A signed-in browser or program. Other modules read the fields and change them through the methods alone."""

    key: str  # SHA-256 of the id, in hexadecimal
    identity: Identity
    person_key: str
    name: str
    address: str  # of the client when the session began; this is what makes a client machine
    is_browser: bool
    created: float
    person: Person | None = None
    proved_at: float = 0.0  # when the user was made to prove who they are; 0: they signed in without being asked
    browser: str = ""  # hash of the browser's id, where a license counts browsers; it outlives the session
    person_at: float = 0.0
    refreshed_from: float = -1.0  # the `person_at` at which a refresh in the background began
    ended: str = ""  # the reason, once it is over
    lapsed: bool = False  # over, but so recently that it still serves a POST
    confirmed: bool = True  # its cookie has come back at least once
    believed_until: float = 0.0
    used_at: float = 0.0
    is_anonymous: bool = False  # a public route's: there is no user
    token: Token | None = None  # the API token that signs in, instead of a cookie
    cookies: DocumentCookies = field(default_factory=DocumentCookies)  # those of the document server
    _grants: dict[GrantKey, Grant] = field(default_factory=dict)
    _grants_rules: object = None  # the rules that gave them; other rules give other grants
    _leases: dict[tuple[str, str], Lease] = field(default_factory=dict)
    _sign_on: dict[int, bytes] = field(
        default_factory=dict
    )  # headers as sent, by route, where the person alone decides
    _proofs: list[bytes] = field(default_factory=list)  # hashes of the last credentials that proved this user
    _end_refusal: Refusal | None = None  # what `end` was called with
    _open: set[OpenExchange] = field(default_factory=set)
    _websockets: set[OpenWebSocket] = field(default_factory=set)

    def client_by(self, kind: str) -> str:
        """Returns what distinguishes this client from others of the same user, by a license's `client`.

        A program without cookies would look like a new browser on every request, so it is identified by its address.
        Anonymous browsers are distinguished by their cookies anyway; their address limits how many CALs they have.
        """
        if self.is_anonymous:
            return self.address
        if kind == "browser":
            return self.browser or (self.key if self.is_browser else self.address)
        return "" if kind == "user" else self.address

    def note_use(self, now: float) -> None:
        """Counts a request or message of the browser: it keeps the session alive."""
        self.used_at = now

    # ------------------------------------------------------------ this copy, compared with the store

    def believe(self, until: float) -> None:
        """Notes that the copy is as the store has it, which is believed for a while."""
        self.believed_until = until

    def doubt(self, now: float) -> None:
        """Notes that the copy can be out of date: it is read again when it is used; the grace time counts from now."""
        self.believed_until = min(self.believed_until, now)

    def set_state(self, *, ended: str, lapsed: bool) -> None:
        """Sets whether the session is over, and whether it still serves a POST, as the store has it."""
        self.ended, self.lapsed = ended, lapsed

    def confirm(self) -> None:
        """Notes that the client has sent the cookie back."""
        self.confirmed = True

    def set_token(self, token: Token) -> None:
        """Puts the API token in place as the store has it now."""
        self.token = token

    # ------------------------------------------------------------ credentials

    def was_proved_by(self, credentials: bytes) -> bool:
        """Whether these very credentials proved the user of this session in this process.

        A browser that signed in with a password or a bearer token sends the same value with every request.
        """
        return hashlib.sha256(credentials).digest() in self._proofs

    def remember_proof(self, credentials: bytes) -> None:
        if len(self._proofs) >= _MOST_PROOFS:
            del self._proofs[0]
        self._proofs.append(hashlib.sha256(credentials).digest())

    # ------------------------------------------------------------ the person

    def needs_person(self, now: float, refresh: float) -> bool:
        """Whether the person must be looked up again."""
        return self.person is None or now - self.person_at > refresh

    def begin_refresh(self) -> bool:
        """Whether the person should be looked up in the background: once for each time that they were looked up."""
        if self.refreshed_from == self.person_at:
            return False
        self.refreshed_from = self.person_at
        return True

    def remember_person(self, person: Person, now: float) -> None:
        """Stores what the directory returned; a change forgets everything that was decided for the old state."""
        if person != self.person:
            self._grants.clear()
            self._leases.clear()
            self._sign_on.clear()
        self.person = person
        self.person_at = now

    # ------------------------------------------------------------ decisions

    def grant_for(self, key: GrantKey, rules: object, now: float) -> Grant | None:
        """Returns the remembered grant, if these rules gave it and no `hours` boundary has passed since."""
        if self._grants_rules is not rules:
            return None
        grant = self._grants.get(key)
        return grant if grant is None or grant.until is None or now < grant.until else None

    def remember_grant(self, key: GrantKey, rules: object, grant: Grant) -> None:
        if sum(map(len, key[1:])) > _LONGEST_GRANT:
            return
        if self._grants_rules is not rules or len(self._grants) >= _MOST_GRANTS:
            self._grants.clear()
            self._grants_rules = rules
        self._grants[key] = grant

    def sign_on_headers(self, route: int) -> bytes | None:
        """Returns the route's sign-on headers as they are sent, if they were made before."""
        return self._sign_on.get(route)

    def remember_sign_on(self, route: int, headers: bytes) -> None:
        self._sign_on[route] = headers

    # ------------------------------------------------------------ leases

    def lease(self, license: str, document: str, now: float) -> Lease | None:
        """Returns the lease that is held for a document, as far as this process knows."""
        lease = self._leases.get((license, document))
        return lease if lease is None or lease.until is None or now < lease.until else None

    def remember_lease(self, lease: Lease) -> None:
        if len(self._leases) >= _MOST_LEASES:
            del self._leases[next(iter(self._leases))]
        self._leases[lease.license, lease.document] = lease

    def replace_lease(self, lease: Lease, settled: Lease | None) -> None:
        """Puts the settled lease in place of the provisional one, if that is still the remembered one; None: none."""
        key = (lease.license, lease.document)
        if self._leases.get(key) is not lease:
            return
        if settled is None:
            del self._leases[key]
        else:
            self._leases[key] = settled

    def forget_leases(self, is_gone: Callable[[Lease], bool], refusal: Callable[[Lease], Refusal], reason: str) -> None:
        """Forgets lost leases, and ends the open exchanges that need them."""
        for key in [key for key, lease in self._leases.items() if is_gone(lease)]:
            del self._leases[key]
        for exchange in list(self._open):
            if exchange.lease is not None and is_gone(exchange.lease):
                exchange.end(refusal(exchange.lease), reason)

    # ------------------------------------------------------------ open exchanges

    def open(self, exchange: OpenExchange) -> None:
        self._open.add(exchange)

    def closed(self, exchange: OpenExchange) -> None:
        self._open.discard(exchange)

    @property
    def is_open(self) -> bool:
        """Whether a request, a response or a WebSocket of the session is open."""
        return bool(self._open)

    def end(self, reason: str, refusal: Refusal) -> None:
        """Marks the session as over and ends its open exchanges."""
        self.ended = self.ended or reason
        self.believed_until = 0.0
        self._end_refusal = self._end_refusal or refusal
        for exchange in list(self._open):
            if reason != EXPIRED or not exchange.outlives_expiry:
                exchange.end(refusal, "the session has ended")

    def demand_not_ended(self, *, outlives_expiry: bool) -> None:
        """Raises the refusal that the session ended with: an exchange that opens after that, nothing could end."""
        if self._end_refusal is not None and (self.ended != EXPIRED or not outlives_expiry):
            raise self._end_refusal

    @property
    def was_signed_out(self) -> bool:
        """Whether the user ended the session: its CALs are released, and no request may claim one again."""
        return self.ended in (SIGNED_OUT, SIGNED_OUT_THERE)

    # ------------------------------------------------------------ WebSockets

    @property
    def websockets(self) -> int:
        """The number of open WebSockets."""
        return len(self._websockets)

    def open_websocket(self, websocket: OpenWebSocket) -> None:
        self._websockets.add(websocket)
        self._open.add(websocket)

    def websocket_closed(self, websocket: OpenWebSocket) -> None:
        self._websockets.discard(websocket)
        self._open.discard(websocket)

    def close_websockets(self, code: int, reason: str) -> None:
        """Closes the session's WebSockets with a status code (RFC 6455, section 7.4)."""
        for websocket in list(self._websockets):
            websocket.close(code, reason)
