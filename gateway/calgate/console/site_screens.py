"""The site's screens: health and effective settings."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

from calgate.commands.checks import check
from calgate.config.effective import effective_settings
from calgate.config.model import Settings
from calgate.http.tls import certificate_expiry
from calgate.plugin.checks import Finding
from calgate.plugin.screens import (
    Action,
    Cell,
    Column,
    Facts,
    Field,
    Form,
    Inputs,
    Moment,
    Notice,
    Outcome,
    Part,
    Screen,
    Search,
    Table,
    View,
    Visitor,
)
from calgate.plugin.tasks import start_task

_CHECK_WITHIN = 60.0  # seconds
_MOST_FINDINGS = 500
_SOON = 14  # days before a certificate's end, as in the alert rules


# ---------------------------------------------------------------- health


def health_screen(settings: Settings) -> Screen:
    """Returns the screen that runs `calgate check`."""
    health = _Health(settings)
    actions = {"run": Action("reader", health.run, takes_away=False)}
    return Screen("health", "Health", health.show, actions, group="site", order=20, on_overview=health.unwell)


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
        ended = [Facts("Last run", {"Ended": Moment(self._ended_at)})] if self._ended_at is not None else []
        return View([*([state] if state else [form, *ended]), table], is_live=is_running)

    async def unwell(self, visitor: Visitor) -> Sequence[Part]:
        """Returns certificates that end soon, and how many faults the last run of the check found."""
        faults = sum(one.level == "fail" for one in self._findings)
        found = f"The last check found {faults} {'fault' if faults == 1 else 'faults'}; see Health."
        parts: list[Part] = [Notice(found, "fail")] if faults else []
        listen = self._settings.core.listen
        files = [tls.certificate for tls in (listen.tls, *listen.sni) if tls is not None]
        return parts + [notice for file in files for notice in await asyncio.to_thread(_ends_soon, file)]

    async def run(self, visitor: Visitor, inputs: Inputs) -> Sequence[Outcome]:
        """Begins a run, unless one has not finished."""
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
        finally:
            self._ended_at = time.time()


def _ends_soon(certificate: Path) -> Sequence[Notice]:
    try:
        days = (certificate_expiry(certificate) - time.time()) / 86_400
    except (OSError, ValueError) as error:
        return [Notice(f"listen.tls: {certificate} cannot be read: {error}", "fail")]
    if days < 0:
        return [Notice(f"listen.tls: {certificate} has expired, so browsers refuse it; renew it.", "fail")]
    soon = Notice(f"listen.tls: {certificate} expires in {days:.0f} days; renew it.", "warn")
    return [soon] if days < _SOON else []


# ---------------------------------------------------------------- settings


def settings_screen(settings: Settings) -> Screen:
    """Returns the screen of the settings in force. It changes nothing: settings remain in files."""

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
