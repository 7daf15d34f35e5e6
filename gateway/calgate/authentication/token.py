"""One API token: its account, routes, networks and end. Pure."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from calgate.authentication.passed_authorization import TOKEN_PREFIX
from calgate.plugin.errors import AuthenticationFailed, Forbidden
from calgate.plugin.identity import Identity

_BEARER = re.compile(rb"bearer +(" + TOKEN_PREFIX.encode() + rb"[^ ]*) *", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Token:
    """An API token as the store has it; `key` is the digest of the token itself."""

    key: str
    id: str  # what administrators call it
    domain: str
    account: str
    person_key: str
    made_by: str
    created: float
    until: float
    routes: frozenset[str]  # host and path of each, as the settings file writes them
    networks: tuple[IPv4Network | IPv6Network, ...]  # none: from anywhere
    delegates: bool = False  # may be used where the document server is given credentials of the user
    console: str = ""  # the role with which it enters the administrators' console; "": it does not
    may_remove: bool = False  # may take something away there
    last_used: float | None = None
    last_address: str = ""
    revoked: float | None = None

    @property
    def user(self) -> str:
        """The name as users write it: CORP\\alice."""
        return f"{self.domain}\\{self.account}"

    @property
    def identity(self) -> Identity:
        """The user, for the directory: by SID where there is one, since another account can be given the name later."""
        sid = self.person_key if self.person_key.startswith("S-1-") else None
        return Identity(self.domain, self.account, "token", sid)

    def demand_valid(self, now: float) -> None:
        """Raises AuthenticationFailed if the token has expired or is revoked."""
        if self.revoked is not None:
            raise AuthenticationFailed(f"API token {self.id} of {self.user} is revoked; make a new one")
        if now >= self.until:
            raise AuthenticationFailed(f"API token {self.id} of {self.user} has expired; make a new one")

    def demand_network(self, address: str) -> None:
        """Raises Forbidden if the token must not be used from this address."""
        if not self.networks:
            return
        if not self._is_from(address):
            raise Forbidden(f"API token {self.id} of {self.user} is not for use from {address}")

    def _is_from(self, address: str) -> bool:
        try:
            where = ip_address(address.partition("%")[0])
        except ValueError:  # nothing that a network could contain
            return False
        where = getattr(where, "ipv4_mapped", None) or where
        return any(where in network for network in self.networks)

    def demand_route(self, route: str, *, delegates: bool) -> None:
        """Raises Forbidden if the token is not for this route, or must not give the server the credentials it wants."""
        if route not in self.routes:
            raise Forbidden(f"API token {self.id} of {self.user} is not for the route {route}")
        if delegates and not self.delegates:
            raise Forbidden(
                f"API token {self.id} of {self.user} was made without --delegate, and the sign-on of route {route}"
                " gives the document server credentials of the user"
            )


def token_in(authorization: bytes | None) -> str | None:
    """Returns the API token of an Authorization header; None for other credentials, such as another Bearer token."""
    found = _BEARER.fullmatch(authorization) if authorization is not None else None
    return found[1].decode("latin-1") if found is not None else None


def digest_of(token: str) -> str:
    """Returns the key that the store knows a token by."""
    return hashlib.sha256(token.encode("latin-1")).hexdigest()


def to_fields(token: Token) -> dict[str, str]:
    """Returns the fields that a record has from the start, except the time at which it was made."""
    return {
        "id": token.id,
        "domain": token.domain,
        "account": token.account,
        "person": token.person_key,
        "made_by": token.made_by,
        "until": str(round(token.until * 1000)),
        "routes": json.dumps(sorted(token.routes)),
        "networks": json.dumps([str(network) for network in token.networks]),
        "delegates": str(int(token.delegates)),
        "console": token.console,
        "may_remove": str(int(token.may_remove)),
    }


def from_fields(key: str, fields: Mapping[str, str]) -> Token:
    """Returns the token that a record describes. Raises KeyError or ValueError for any other record."""
    return Token(
        key,
        fields["id"],
        fields["domain"],
        fields["account"],
        fields["person"],
        fields["made_by"],
        float(fields["created"]) / 1000,
        float(fields["until"]) / 1000,
        frozenset(json.loads(fields["routes"])),
        tuple(ip_network(network) for network in json.loads(fields["networks"])),
        fields["delegates"] == "1",
        fields["console"],
        fields["may_remove"] == "1",
        float(fields["last_used"]) / 1000 if "last_used" in fields else None,
        fields.get("last_address", ""),
        float(fields["revoked"]) / 1000 if "revoked" in fields else None,
    )
