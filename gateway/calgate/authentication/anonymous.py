"""Requests on routes without sign-in: they have no user, and nothing of them is kept."""

import time

from calgate.authentication.session import Session
from calgate.plugin.identity import Identity, Person

ANONYMOUS = Person("anonymous", "", "anonymous", "", frozenset())
"""Stands for the user where there is none: no directory has such a key, and no rule matches it."""

_IDENTITY = Identity("", "anonymous", "none")


def anonymous_session(address: str) -> Session:
    """Makes a session for one request. It is in no store, and no cookie leads to it.

    Its key keeps an address with one document server, and its user is the address: no client can have more connections
    to a document server than `connections_per_user`.
    """
    key = f"anonymous {address}"
    now = time.time()
    return Session(key, _IDENTITY, key, "anonymous", address, is_browser=False, created=now, person=ANONYMOUS)
