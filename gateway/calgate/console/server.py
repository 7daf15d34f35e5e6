"""Responds to the requests that the workers forward: a screen, an action, a table as CSV; as a page or as JSON."""

import csv
import io
import json
import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo
from secrets import token_urlsafe
from urllib.parse import parse_qsl, urlencode

from aiohttp import web

from calgate.console.as_json import cell, outcomes_as_json, view_as_json
from calgate.console.form import MOST_IN_QUERY, read_form, read_query
from calgate.console.pages import Frame, Pages, Question
from calgate.console.pending_changes import UnprovedChanges
from calgate.console.static_files import STATIC, static_files
from calgate.endpoints import ADMIN
from calgate.endpoints.console import IDENTITY, Removal
from calgate.pages.negotiation import prefers_page
from calgate.plugin.errors import Refusal
from calgate.plugin.screens import (
    ROLES,
    Cell,
    Facts,
    Inputs,
    Moment,
    Notice,
    Outcome,
    Part,
    Screen,
    Subject,
    Table,
    View,
    Visitor,
)
from calgate.plugin.texts import spreadsheet_cell

logger = logging.getLogger(__name__)

_REMEMBERED = 200  # outcomes that wait for the page after a change
_LONGEST_REASON = 500
_TRY_AGAIN = "5"  # seconds
_CACHED = "private, max-age=31536000, immutable"  # files whose names carry their version
_MOST_SELECTED = 1000  # rows of one change: each is a call to the store, and some look a user up
_CONFIRM = "confirm"  # the page of a change that waits until its visitor has proved who they are
_PROVE = "This takes something away. Prove first that it is you: sign in again."
_OWN_FIELDS = frozenset({"token", "reason", "back", "row"})


@dataclass(frozen=True, slots=True)
class _Caller:
    visitor: Visitor
    token: str
    host: str
    removal: Removal
    ways: Sequence[tuple[str, str]]


class ConsoleServer:
    """The console's screens, as HTTP."""

    def __init__(self, screens: Sequence[Screen], zone: tzinfo, zone_name: str) -> None:
        self._screens = {screen.path: screen for screen in screens}
        self._first = screens[0].path
        self._zone = zone
        self._static = static_files()
        self._pages = Pages(screens, self._static, zone, zone_name)
        self._outcomes: OrderedDict[str, tuple[str, Sequence[Outcome]]] = OrderedDict()
        self._unproved = UnprovedChanges()

    async def respond(self, request: web.BaseRequest) -> web.StreamResponse:
        """Returns the response; a bug is logged, and ends nothing else."""
        try:
            caller = _caller(request)
            if caller is None:
                return web.Response(status=403, text="this socket is for the gateway's workers\n")
            return await self._route(request, caller)
        except Exception:  # the console must survive a screen's bug
            logger.exception("console: %s %s failed", request.method, request.path)
            return web.Response(status=500, text="a bug in this screen; the log has its traceback\n")

    async def _route(self, request: web.BaseRequest, caller: _Caller) -> web.StreamResponse:
        path, _, action = request.path.removeprefix(ADMIN).partition("/")
        if path == _CONFIRM and request.method != "POST":
            return self._confirm(request, caller)
        if path == STATIC and action in self._static and request.method != "POST":
            kind, content = self._static[action]
            return web.Response(body=content, content_type=kind, charset="utf-8", headers={"Cache-Control": _CACHED})
        screen = self._screens.get(path or self._first)
        if screen is None or not caller.visitor.may(screen.role):
            return self._notice(request, caller, 404, "There is no such screen for your role.")
        if request.method == "POST":
            return await self._act(request, caller, screen, action)
        if action:
            return self._notice(request, caller, 404, "There is no such screen.")
        return await self._show(request, caller, screen)

    async def _show(self, request: web.BaseRequest, caller: _Caller, screen: Screen) -> web.StreamResponse:
        try:
            values = read_query(request)
        except ValueError as error:
            return self._notice(request, caller, 400, f"The query cannot be read: {error}.")
        view, status = await self._view(screen, caller.visitor, Inputs(values))
        wants_page = prefers_page(request.headers.get("Accept", "")) and not values.get("csv")
        if view.is_partial and not wants_page:
            response = _json(
                {"title": "Something is still being read; try again in a few seconds.", "status": 503}, 503
            )
            response.headers["Retry-After"] = _TRY_AGAIN
            return response
        if values.get("csv") and status == 200:
            return self._csv(screen, view)
        if not wants_page:
            return _json(view_as_json(screen, view, caller.token), status)
        owner, outcomes = self._outcomes.pop(values.get("done", ""), ("", ()))
        shown = outcomes if owner == caller.visitor.key else ()
        here = f"{request.path}?{urlencode({k: v for k, v in values.items() if k != 'done'})}".rstrip("?")
        return self._page(caller, screen, view, here, shown, status)

    async def _view(self, screen: Screen, visitor: Visitor, inputs: Inputs) -> tuple[View, int]:
        try:
            view = await screen.show(visitor, inputs)
            if view.about is not None:
                view = await self._with_shares(view, visitor, view.about)
            if screen.path == self._first:
                parts = [*await self._what_is_unwell(visitor), *view.parts, *await self._summary(visitor)]
                view = replace(view, parts=parts)
        except Refusal as refusal:
            return View([Notice(refusal.detail, "fail")]), refusal.status
        return view, 200

    async def _with_shares(self, view: View, visitor: Visitor, subject: Subject) -> View:
        shares = [view]
        for screen in self._screens.values():
            if screen.about_user is not None and visitor.may(screen.role):
                try:
                    shares.append(await screen.about_user(visitor, subject))
                except Refusal as refusal:
                    shares.append(View([Notice(f"{screen.title}: {refusal.detail}", "fail")]))
        return View(
            [part for share in shares for part in share.parts],
            is_live=any(share.is_live for share in shares),
            is_partial=any(share.is_partial for share in shares),
        )

    async def _what_is_unwell(self, visitor: Visitor) -> Sequence[Part]:
        parts: list[Part] = []
        for screen in self._screens.values():
            if screen.on_overview is not None and visitor.may(screen.role):
                parts += await screen.on_overview(visitor)
        return parts or [Notice("No fault is known.", "ok")]

    async def _summary(self, visitor: Visitor) -> Sequence[Part]:
        values: dict[str, Cell] = {}
        for screen in self._screens.values():
            if screen.summary is not None and visitor.may(screen.role):
                values |= await screen.summary(visitor)
        return [Facts("The site", values)] if values else []

    async def _act(self, request: web.BaseRequest, caller: _Caller, screen: Screen, name: str) -> web.StreamResponse:
        action = screen.actions.get(name)
        if action is None:
            return self._notice(request, caller, 404, "There is no such action.")
        if not caller.visitor.may(action.role):
            logger.warning(
                "console: %s, a %s, may not %s/%s", caller.visitor.name, caller.visitor.role, screen.path, name
            )
            return self._notice(request, caller, 403, f"Your role may not do this; it takes {action.role}.")
        try:
            values, selected = await read_form(request)
        except ValueError as error:
            return self._notice(request, caller, 400, f"The form cannot be read: {error}.")
        if len(selected) > _MOST_SELECTED:
            text = f"{len(selected)} rows are selected; at most {_MOST_SELECTED} are changed at a time."
            return self._notice(request, caller, 400, text)
        if action.takes_away and caller.removal != "yes":
            return self._refuse_removal(request, caller, screen, name, values, selected)
        reason = " ".join(values.get("reason", "").split())[:_LONGEST_REASON]
        visitor = replace(caller.visitor, reason=reason)
        inputs = Inputs({key: value for key, value in values.items() if key not in _OWN_FIELDS}, selected)
        try:
            outcomes = await action.run(visitor, inputs)
        except Refusal as refusal:
            outcomes = [Outcome(refusal.detail, is_done=False)]
        if not prefers_page(request.headers.get("Accept", "")):
            return _json(outcomes_as_json(outcomes), 200 if all(one.is_done for one in outcomes) else 409)
        return web.Response(
            status=303, headers={"Location": self._back(values.get("back", ""), screen, caller, outcomes)}
        )

    # ------------------------------------------------------------ proof of identity

    def _refuse_removal(
        self,
        request: web.BaseRequest,
        caller: _Caller,
        screen: Screen,
        name: str,
        values: Mapping[str, str],
        selected: Sequence[str],
    ) -> web.StreamResponse:
        """Keeps the change of a page until its visitor has proved who they are; programs get instructions instead."""
        if caller.removal == "no":
            text = "This API token was made without --may-remove, so it takes nothing away."
            return self._notice(request, caller, 403, text)
        if not prefers_page(request.headers.get("Accept", "")):
            ways = [path for _, path in caller.ways]
            return _json({"title": _PROVE, "status": 403, "code": "proof-needed", "sign_in": ways}, 403)
        kept = {key: value for key, value in values.items() if key not in ("token", "back")}
        back = _own_page(values.get("back", "")) or f"{ADMIN}{screen.path}"
        change = Question(screen.title, f"{screen.path}/{name}", kept, selected, back, ())
        mark = self._unproved.keep(caller.visitor.key, change)
        return web.Response(status=303, headers={"Location": f"{ADMIN}{_CONFIRM}?change={mark}"})

    def _confirm(self, request: web.BaseRequest, caller: _Caller) -> web.StreamResponse:
        """Shows how visitors can prove who they are, and after that the change that waited for it."""
        change = self._unproved.find(request.query.get("change", ""), caller.visitor.key)
        if change is None:
            return self._notice(request, caller, 404, "No change of yours waits here any more. Make it again.")
        ways = caller.ways if caller.removal == "prove" else ()
        here = f"{request.path}?{request.rel_url.raw_query_string}"
        return self._page(caller, None, View([]), here, (), 200, replace(change, ways=ways))

    def _back(self, written: str, screen: Screen, caller: _Caller, outcomes: Sequence[Outcome]) -> str:
        """Returns the page to go on with, which shows the outcomes once."""
        mark = token_urlsafe(9)
        self._outcomes[mark] = (caller.visitor.key, outcomes)
        while len(self._outcomes) > _REMEMBERED:
            self._outcomes.popitem(last=False)
        path, _, query = (_own_page(written) or f"{ADMIN}{screen.path}").partition("?")
        kept = [(name, value) for name, value in parse_qsl(query) if name != "done"]
        return f"{path}?{urlencode([*kept, ('done', mark)])}"

    # ------------------------------------------------------------ forms of a response

    def _page(
        self,
        caller: _Caller,
        screen: Screen | None,
        view: View,
        here: str,
        outcomes: Sequence[Outcome],
        status: int,
        question: Question | None = None,
    ) -> web.Response:
        frame = Frame(caller.visitor, caller.token, caller.host, here, bool(caller.ways))
        body, policy = self._pages.draw(frame, screen, view, outcomes, question)
        headers = {"Content-Security-Policy": policy, "X-Frame-Options": "DENY", "Cache-Control": "no-store"}
        return web.Response(status=status, body=body, content_type="text/html", charset="utf-8", headers=headers)

    def _notice(self, request: web.BaseRequest, caller: _Caller, status: int, text: str) -> web.Response:
        if not prefers_page(request.headers.get("Accept", "")):
            return _json({"title": text, "status": status}, status)
        return self._page(caller, None, View([Notice(text, "fail")]), ADMIN, (), status)

    def _csv(self, screen: Screen, view: View) -> web.Response:
        table = next((part for part in view.parts if isinstance(part, Table)), Table("", (), ()))
        out = io.StringIO()
        writer = csv.writer(out)
        writer.writerow([column.key for column in table.columns])
        for row in table.rows:
            writer.writerow([self._csv_cell(row.get(column.key)) for column in table.columns])
        headers = {"Content-Disposition": f'attachment; filename="{screen.path}.csv"', "Cache-Control": "no-store"}
        return web.Response(body=out.getvalue().encode(), content_type="text/csv", charset="utf-8", headers=headers)

    def _csv_cell(self, value: object) -> object:
        if isinstance(value, Moment):
            return datetime.fromtimestamp(value.at, UTC).astimezone(self._zone).isoformat(timespec="seconds")
        return spreadsheet_cell(cell(value))


def _own_page(written: str) -> str:
    """Returns path and query of a page of the console, "" for anything else."""
    page = written.partition("#")[0]
    is_address = page.isascii() and page.isprintable() and " " not in page and page.count("&") < MOST_IN_QUERY
    return page if page.startswith(ADMIN) and is_address else ""


def _caller(request: web.BaseRequest) -> _Caller | None:
    """Reads the visitor from the headers that the worker sets; None for headers that no worker sends."""
    try:
        said = json.loads(request.headers.get(IDENTITY, ""))
        visitor = Visitor(said["name"], said["key"], said["role"], said["address"])
        ways = [(str(label), str(path)) for label, path in said["ways"]]
        return _Caller(visitor, said["token"], said["host"], said["removal"], ways) if visitor.role in ROLES else None
    except (ValueError, KeyError, TypeError):
        return None


def _json(value: object, status: int) -> web.Response:
    text = json.dumps(value, ensure_ascii=False) + "\n"
    return web.Response(
        status=status, text=text, content_type="application/json", headers={"Cache-Control": "no-store"}
    )
