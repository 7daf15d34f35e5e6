"""The CALs that each session uses, as a column of the screen of the sessions."""

from collections import Counter
from collections.abc import Mapping, Sequence

from calgate.plugin import Cell, SignedIn, Visitor
from calgate_cal import lua
from calgate_cal.replies import KINDS, Holder
from calgate_cal.screens.licenses import Licenses

_GONE = ("quarantined", "spent")
_BY_DOCUMENT = ("document", "usage")  # a CAL of these kinds serves one document


class CalsOfSessions:
    """Looks up what sessions hold among the holders that this process keeps."""

    def __init__(self, licenses: Licenses) -> None:
        self._licenses = licenses

    async def show(self, visitor: Visitor, sessions: Sequence[SignedIn]) -> Sequence[Cell] | None:
        """Returns the kinds of CALs of each session; None while the holders are read for the first time."""
        found: list[list[str]] = [[] for _ in sessions]
        users = {lua.part(one.key) for one in sessions}
        for name in self._licenses.names:
            holders = await self._licenses.index(name).holders()
            if holders is None:
                return None
            held: dict[str, list[Holder]] = {}
            for holder in holders.values():
                if holder.user in users and holder.state not in _GONE:
                    held.setdefault(holder.user, []).append(holder)
            by = self._licenses.client_of(name)
            for texts, one in zip(found, sessions, strict=True):
                kinds = _kinds(held.get(lua.part(one.key), ()), lua.part(one.clients[by]))
                if kinds:
                    texts.append(_text(kinds) + (f" of {name}" if len(self._licenses.names) > 1 else ""))
        return ["; ".join(texts) for texts in found]


def _kinds(held: Sequence[Holder], client: str) -> Mapping[str, int]:
    """Counts the CALs by kind: those of the user, but of Session CALs only that of this client."""
    return Counter(one.kind for one in held if one.kind != "session" or one.client == client)


def _text(kinds: Mapping[str, int]) -> str:
    return ", ".join(
        kind.capitalize() + (f" ({kinds[kind]} document{'s' * (kinds[kind] != 1)})" if kind in _BY_DOCUMENT else "")
        for kind in KINDS
        if kind in kinds
    )
