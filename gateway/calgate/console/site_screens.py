"""The site's screens: document servers, health, effective settings."""

import asyncio
import time
from collections.abc import Sequence

import aiohttp

from calgate.commands.checks import check
from calgate.config.effective import effective_settings
from calgate.config.model import Settings
from calgate.plugin.checks import Finding
from calgate.plugin.screens import (
    Action,
    Button,
    Cell,
    Column,
    Field,
    Form,
    Inputs,
    Notice,
    Outcome,
    Screen,
    Search,
    Table,
    View,
    Visitor,
)
from calgate.plugin.services import Store
from calgate.plugin.tasks import start_task
from calgate.upstream.drained import DrainedServers

_PROBE_WITHIN = 3.0  # seconds
_CHECK_WITHIN = 60.0
_MOST_FINDINGS = 500


# ---------------------------------------------------------------- document servers


def servers_screen(settings: Settings, store: Store) -> Screen:
    """Returns the screen of the document servers."""
    servers = _Servers(settings, store)
    actions = {
        "drain": Action("admin", servers.drain),
        "restore": Action("admin", servers.restore, takes_away=False),
    }
    return Screen("servers", "Document servers", servers.show, actions, group="site", order=10)


class _Servers:
    def __init__(self, settings: Settings, store: Store) -> None:
        self._routes = settings.core.routes
        self._drained = DrainedServers(store)

    async def show(self, visitor: Visitor, inputs: Inputs) -> View:
        drained = await self._drained.read()
        names = list(dict.fromkeys(url for route in self._routes for url in route.upstreams))
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_PROBE_WITHIN)) as http:
            states = await asyncio.gather(*(_probe(http, name) for name in names))
        rows: list[dict[str, Cell]] = [
            {
                "id": name,
                "server": name,
                "routes": ", ".join(f"{r.host}{r.path}" for r in self._routes if name in r.upstreams),
                "state": state,
                "drained": "drained" if name in drained else "",
            }
            for name, state in zip(names, states, strict=True)
        ]
        columns = (
            *(Column("server", "Server"), Column("routes", "Routes")),
            *(Column("state", "Now, from this machine"), Column("drained", "Drained")),
        )
        buttons = [Button("servers/drain", "Drain"), Button("servers/restore", "Restore")]
        return View([Table("", columns, rows, buttons=buttons)])

    async def drain(self, visitor: Visitor, inputs: Inputs) -> Sequence[Outcome]:
        """Drains the selected servers; a route keeps at least one."""
        drained = set(await self._drained.read())
        outcomes = []
        for name in self._known(inputs):
            lonely = next(
                (r for r in self._routes if name in r.upstreams and not set(r.upstreams) - drained - {name}), None
            )
            if lonely is not None:
                outcomes.append(Outcome(f"{name} is the last server of {lonely.host}{lonely.path}.", is_done=False))
                continue
            await self._drained.change(name, drained=True)
            drained.add(name)
            outcomes.append(Outcome(f"{name} is drained: new sessions go to other servers."))
        return outcomes or [Outcome("No server was selected.", is_done=False)]

    async def restore(self, visitor: Visitor, inputs: Inputs) -> Sequence[Outcome]:
        """Restores the selected servers."""
        for name in self._known(inputs):
            await self._drained.change(name, drained=False)
        done = [Outcome(f"{name} takes sessions again.") for name in self._known(inputs)]
        return done or [Outcome("No server was selected.", is_done=False)]

    def _known(self, inputs: Inputs) -> Sequence[str]:
        names = {url for route in self._routes for url in route.upstreams}
        return [name for name in inputs.selected if name in names]


async def _probe(http: aiohttp.ClientSession, server: str) -> str:
    """Returns whether a document server responds to anything at all."""
    began = time.monotonic()
    try:
        # whether its certificate is right is for `check` to say; this shows whether it is there
        async with http.get(server, allow_redirects=False, ssl=False) as response:
            return f"responds ({response.status}, {(time.monotonic() - began) * 1000:.0f} ms)"
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        return f"does not respond: {error or 'no response in time'}"


# ---------------------------------------------------------------- health


def health_screen(settings: Settings) -> Screen:
    """Returns the screen that runs `calgate check`."""
    health = _Health(settings)
    actions = {"run": Action("reader", health.run, takes_away=False)}
    return Screen("health", "Health", health.show, actions, group="site", order=20)


class _Health:
    """Keeps the findings of the last run; one run at a time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._findings: list[Finding] = []
        self._ended_at: float | None = None
        self._running: asyncio.Task[None] | None = None

    async def show(self, visitor: Visitor, inputs: Inputs) -> View:
        is_running = self._running is not None and not self._running.done()
        rows: list[dict[str, Cell]] = [
            {"level": one.level, "subject": one.subject, "what": one.what, "remedy": one.remedy}
            for one in self._findings
        ]
        columns = (
            *(Column("level", ""), Column("subject", "What")),
            *(Column("what", "Finding"), Column("remedy", "What to do")),
        )
        form = Form("", "health/run", "Run the check now", (), asks_reason=False)
        state = Notice("The check is running; findings appear as they come.") if is_running else None
        table = Table("Findings", columns, rows, empty="The check has not been run since this process started.")
        return View([*([state] if state else [form]), table], is_live=is_running)

    async def run(self, visitor: Visitor, inputs: Inputs) -> Sequence[Outcome]:
        """Begins a run, unless one is under way."""
        if self._running is None or self._running.done():
            self._findings = []
            self._running = start_task(self._collect(), "console: check")
        return [Outcome("The check has begun.")]

    async def _collect(self) -> None:
        try:
            async with asyncio.timeout(_CHECK_WITHIN):
                async for finding in check(self._settings):
                    self._findings.append(finding)
                    if len(self._findings) >= _MOST_FINDINGS:
                        return
        except TimeoutError:
            self._findings.append(Finding("fail", "check", f"did not end within {_CHECK_WITHIN:g} s"))
        except Exception as error:  # noqa: BLE001 - plugins' checks are foreign code
            self._findings.append(Finding("fail", "check", f"{type(error).__name__}: {error}"))


# ---------------------------------------------------------------- settings


def settings_screen(settings: Settings) -> Screen:
    """Returns the screen of the settings in force. Files stay files: nothing can be changed here."""

    async def show(visitor: Visitor, inputs: Inputs) -> View:
        wanted = inputs.get("search").casefold()
        try:
            text = await asyncio.to_thread(settings.file.read_text, encoding="utf-8")
        except OSError as error:
            return View([Notice(f"{settings.file}: cannot be read: {error.strerror}", "fail")])
        rows: list[dict[str, Cell]] = [
            {"key": one.key, "value": one.value, "line": one.line if one.line is not None else "default"}
            for one in effective_settings(settings, text)
            if wanted in one.key.casefold()
        ]
        columns = (Column("key", "Setting"), Column("value", "Value"), Column("line", "Line", is_number=True))
        note = Notice(f"{settings.file}, as this process read it. To change a setting, change the file and reload.")
        return View(
            [note, Search([Field("search", "Setting", inputs.get("search"))], "Find"), Table("", columns, rows)]
        )

    return Screen("settings", "Settings", show, role="admin", group="site", order=30)
