"""The console's screen about sign-ins: blocked accounts and addresses, and whether NTLM can be turned off."""

import time
from collections.abc import Mapping, Sequence

from calgate.plugin import (
    Action,
    Button,
    Cell,
    Column,
    ConsoleContext,
    Inputs,
    Link,
    Moment,
    Notice,
    Outcome,
    Screen,
    Subject,
    Table,
    View,
    Visitor,
)
from calgate_negotiate.guard import GuardReport
from calgate_negotiate.settings import Config

_MOST = 500  # rows of a table
_RECENT = 30 * 86_400.0  # seconds without a use, after which NTLM can be turned off


def screens(context: ConsoleContext) -> Sequence[Screen]:
    """Makes the screen."""
    assert isinstance(context.section, Config)
    shown = _SignIns(GuardReport(context.services.store, context.section.guard))
    actions = {"lift": Action("helpdesk", shown.lift, takes_away=False)}
    screen = Screen(
        *("sign-ins", "Sign-ins", shown.show, actions),
        group="people",
        order=40,
        about_user=shown.about,
        summary=shown.summary,
    )
    return [screen]


class _SignIns:
    def __init__(self, report: GuardReport) -> None:
        self._report = report

    async def show(self, visitor: Visitor, inputs: Inputs) -> View:
        rows = await self._report.ntlm_sign_ins()
        last = max((row[3] for row in rows), default=0)
        if last < time.time() - _RECENT:
            verdict = Notice("NTLM can be turned off: nobody has signed in by it for 30 days.", "ok")
        else:
            users = len({row[0] for row in rows if row[3] >= time.time() - _RECENT})
            who = "1 user" if users == 1 else f"{users} users"
            verdict = Notice(f"NTLM is still in use: {who} signed in by it in the last 30 days.", "warn")
        return View([await self._blocked(""), verdict, _ntlm(rows[:_MOST])])

    async def summary(self, visitor: Visitor) -> Mapping[str, Cell]:
        """Returns how many accounts and addresses are blocked."""
        count = len((await self._blocked("")).rows)
        return {"Blocked sign-ins": Link(count if count < _MOST else f"{_MOST} or more", "sign-ins")}

    async def about(self, visitor: Visitor, subject: Subject) -> View:
        rows = [row for row in await self._report.ntlm_sign_ins() if subject.has(row[0])]
        return View([await self._blocked(subject.name.casefold()), _ntlm(rows[:_MOST])])

    async def lift(self, visitor: Visitor, inputs: Inputs) -> Sequence[Outcome]:
        """Lifts the selected blocks."""
        outcomes = []
        for target in inputs.selected:
            lifted = await self._report.lift(target, visitor.actor, visitor.reason)
            outcomes.append(Outcome(f"{target} {'can sign in again' if lifted else 'was not blocked'}.", bool(lifted)))
        return outcomes or [Outcome("Nothing was selected.", is_done=False)]

    async def _blocked(self, wanted: str) -> Table:
        """Shows those who have to wait; with `wanted`, only this account."""
        rows: list[dict[str, Cell]] = []
        async for block in self._report.blocks():
            if wanted and wanted.rpartition("\\")[2] != block.account.casefold().rpartition("\\")[2]:
                continue
            rows.append(
                {
                    "id": block.account or block.address,
                    "kind": block.kind,
                    "account": block.account,
                    "address": block.address,
                    "failures": block.failures,
                    "until": Moment(time.time() + block.seconds),
                }
            )
            if len(rows) >= _MOST:
                break
        columns = (
            *(Column("kind", "What"), Column("account", "Account"), Column("address", "From")),
            *(Column("failures", "Failures", is_number=True), Column("until", "Until")),
        )
        button = Button("sign-ins/lift", "Lift the block")
        return Table(
            "Blocked after failed sign-ins",
            columns,
            rows,
            buttons=[button],
            empty="Not blocked." if wanted else "Nobody is blocked.",
        )


def _ntlm(rows: Sequence[tuple[str, str, int, int]]) -> Table:
    columns = (
        *(Column("user", "User"), Column("address", "From")),
        *(Column("count", "Sign-ins", is_number=True), Column("last", "Last")),
    )
    cells: list[dict[str, Cell]] = [
        {"user": user, "address": address, "count": count, "last": Moment(last)} for user, address, count, last in rows
    ]
    return Table("Signed in by NTLM", columns, cells, empty="Nobody has.")
