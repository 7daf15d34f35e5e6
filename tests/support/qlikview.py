"""QlikView's calls, and a gateway whose route has that dialect."""

import re
from pathlib import Path
from xml.etree import ElementTree

from support.gateway_process import Gateway, calgate, curl, write_settings

CALL = "/QvAJAXZfc/QvsViewClient.aspx"
OPEN = "/QvAJAXZfc/opendoc.htm?document=Sales.qvw&host=QVS@x"


def write_qlikview(folder: Path, upstream: int) -> Path:
    """Writes the usual settings, but with QlikView's dialect and with documents that nobody may open.

    These are the folder HR on every server, and Plan.qvw on the server QVS@closed.
    """
    file = write_settings(folder, upstream)
    text = re.sub(r"^(opens|uses|polls) = .*\n", "", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    text = text.replace('license = "demo"\n', 'license = "demo"\ndialect = "qlikview"\n')
    closed = '[[access]]\nname = "payroll is closed"\ndocuments = ["HR/**", "QVS@closed|Plan.qvw"]\ndeny = true\n\n'
    file.write_text(text.replace("[[access]]", f"{closed}[[access]]", 1), encoding="utf-8")
    return file


async def held(gate: Gateway) -> list[str]:
    """Returns the accounts that hold a CAL, as the command line lists them."""
    code, out, err = await calgate("cals", "list", "-c", str(gate.settings), "--json")
    assert code == 0, err
    return re.findall(r"DEMO\\\\(\w+)", out)


def update(view: str, mark: str = "0123456789abcdef", inner: str = '<set name="x"/>') -> str:
    return f'<update mark="{mark}" stamp="" scope="Document" view="{view}" ident="null">{inner}</update>'


async def call(gate: Gateway, body: str, *, user: str = "alice", query: str = "") -> tuple[int, str]:
    """Returns the status, and the message that the AJAX client would show."""
    reply = await curl(f"{gate.url}{CALL}{query}", "--data-binary", body, "-H", "Content-Type: text/plain", user=user)
    if not reply.body.startswith(b"<?xml"):
        return reply.status, ""
    message = ElementTree.fromstring(reply.body).find("message")
    assert message is not None
    return reply.status, message.get("text", "")
