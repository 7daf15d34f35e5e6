"""The screen "Why, or why not": the verdict of every access rule on a user, a document, a path, an address, a time."""

import time
from collections.abc import Sequence

from calgate.access.rules import AccessRequest, Rules, Verdict
from calgate.access.settings import groups_of
from calgate.commands.time_argument import read_moment
from calgate.config.model import Settings
from calgate.dialect.document_names import canonical_document
from calgate.plugin.errors import BadRequest, Refusal
from calgate.plugin.identity import Directory
from calgate.plugin.names import identity_of
from calgate.plugin.screens import (
    Cell,
    Column,
    Field,
    Inputs,
    Notice,
    Part,
    Screen,
    Search,
    Subject,
    Table,
    View,
    Visitor,
)

_COLUMNS = (Column("decides", ""), Column("rule", "Rule"), Column("verdict", "Verdict"), Column("why", "Why"))


def access_screen(settings: Settings, directory: Directory) -> Screen:
    """Returns the screen that explains access."""
    why = _Why(settings, directory)
    return Screen("why", "Why, or why not", why.show, group="people", order=30, about_user=why.about)


class _Why:
    def __init__(self, settings: Settings, directory: Directory) -> None:
        self._core = settings.core
        self._directory = directory

    async def show(self, visitor: Visitor, inputs: Inputs) -> View:
        path, address = inputs.get("path") or "/", inputs.get("address") or visitor.address
        search = Search(
            [
                Field("user", "User", inputs.get("user"), hint="CORP\\alice"),
                Field("document", "Document", inputs.get("document"), hint="none"),
                Field("path", "Path", path),
                Field("address", "Address", address),
                Field("at", "When", inputs.get("at"), hint="now, or 2026-01-10 10:42"),
            ],
            "Explain",
        )
        if not inputs.get("user"):
            return View([search])
        try:
            now = read_moment(inputs.get("at"), self._core.timezone)
        except ValueError as error:
            return View([search, Notice(str(error), "fail")])
        return View([search, *await self._explain(inputs.get("user"), inputs.get("document"), path, address, now)])

    async def about(self, visitor: Visitor, subject: Subject) -> View:
        return View(await self._explain(subject.name, "", "/", visitor.address, time.time()))

    async def _explain(self, user: str, written: str, path: str, address: str, now: float) -> Sequence[Part]:
        try:
            windows = any(route.windows for route in self._core.routes)
            document = canonical_document(written, windows=windows) if written else None
            person = await self._directory.look_up(identity_of(user))
            groups = await self._directory.resolve(groups_of(self._core.access))
        except BadRequest as refusal:
            return [Notice(f"No request can have the document {written[:80]}: {refusal.detail}", "fail")]
        except Refusal as refusal:
            return [Notice(f"{user}: {refusal.detail}", "fail")]
        if person is None:
            return [Notice(f"No directory knows {user}, so nobody of that name gets in.", "fail")]
        verdicts = Rules(self._core.access, groups, self._core.timezone).explain(
            AccessRequest(person, address, path, document), now
        )
        decided = next((verdict for verdict in verdicts if verdict.decides), None)
        is_allowed = decided is not None and decided.outcome == "allow"
        what = f"{document or path} from {address}"
        sentence = f"{person.name} {'may' if is_allowed else 'may not'} open {what}"
        sentence += f": the rule “{decided.rule}” decides." if decided is not None else ": no rule matches."
        rows = [_row(verdict) for verdict in verdicts]
        return [Notice(sentence, "ok" if is_allowed else "warn"), Table("Access rules, in order", _COLUMNS, rows)]


def _row(verdict: Verdict) -> dict[str, Cell]:
    return {
        "decides": "decides" if verdict.decides else "",
        "rule": verdict.rule,
        "verdict": f"{verdict.outcome} (on trial)" if verdict.on_trial else verdict.outcome,
        "why": verdict.why,
    }
