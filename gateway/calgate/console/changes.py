"""What administrators changed apart from licenses: in the console and by commands."""

from urllib.parse import quote

from calgate.plugin.changes import ChangeLog
from calgate.plugin.screens import Cell, Column, Field, Inputs, Moment, Screen, Search, Table, View, Visitor
from calgate.plugin.services import Store

_ROWS = 200
_COLUMNS = (
    *(Column("at", "When"), Column("what", "What"), Column("subject", "Of")),
    *(Column("by", "By"), Column("reason", "Reason")),
)


def changes_screen(store: Store) -> Screen:
    """Returns the screen of all changes, newest first. Those of licenses are in the screen Log."""

    async def show(visitor: Visitor, inputs: Inputs) -> View:
        wanted = inputs.get("search").casefold()
        rows: list[dict[str, Cell]] = []
        async for one in ChangeLog(store).latest():
            if wanted in f"{one.what} {one.subject} {one.by} {one.reason}".casefold():
                rows.append(
                    {
                        "at": Moment(one.at),
                        "what": one.what,
                        "subject": one.subject,
                        "by": one.by,
                        "reason": one.reason,
                    }
                )
            if len(rows) >= _ROWS and not inputs.get("csv"):
                break
        csv = f"changes?csv=1&search={quote(inputs.get('search'), safe='')}"
        search = Search([Field("search", "Contains", inputs.get("search"))], "Find")
        return View([search, Table("", _COLUMNS, rows, empty="No change is recorded.", csv=csv)])

    return Screen("changes", "Changes", show, group="site", order=25)
