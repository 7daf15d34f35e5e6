"""Reads the requests in a web server's log, which has no bodies, as the QlikView dialect reads requests. Pure."""

from contextlib import suppress

from calgate.dialect.document_names import canonical_name
from calgate.dialect.qlikview import QlikView
from calgate.http.target import Parameters, read_target
from calgate.plugin.errors import BadRequest, Forbidden

_DIALECT = QlikView()


def logged_document(method: str, target: str) -> str | None:
    """Returns the document that a logged request opened or used; None: none, or the request cannot be read.

    A call whose command was in its body counts as a use: a log cannot tell it from a poll.
    """
    with suppress(BadRequest, Forbidden):
        try:
            use = _DIALECT.classify(method, target)
        except BadRequest:
            if method != "POST" or not _DIALECT.needs_body(method, target):
                return None
            view = Parameters(read_target(target).query).one("view")
            return canonical_name(view) if view else None
        return use.document if use.kind in ("open", "use") else None
    return None
