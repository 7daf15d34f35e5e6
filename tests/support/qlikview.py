"""What tests of QlikView's dialect share: its calls, and a gateway that speaks it."""

import re
from pathlib import Path
from xml.etree import ElementTree

from support.gateway_process import Gateway, calgate, curl, write_settings

CALL = "/QvAJAXZfc/QvsViewClient.aspx"
OPEN = "/QvAJAXZfc/opendoc.htm?document=Sales.qvw&host=QVS@x"


def write_qlikview(folder: Path, upstream: int) -> Path:
    """The usual settings, but the route speaks QlikView's dialect, and one folder of documents is closed."""
    file = write_settings(folder, upstream)
    text = re.sub(r"^(opens|uses|polls) = .*\n", "", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    text = text.replace('license = "demo"\n', 'license = "demo"\ndialect = "qlikview"\n')
    closed = '[[access]]\nname = "payroll is closed"\ndocuments = ["HR/**"]\ndeny = true\n\n[[access]]'
    file.write_text(text.replace("[[access]]", closed, 1), encoding="utf-8")
    return file


async def held(gate: Gateway) -> list[str]:
    """Who holds a CAL, by what the command line shows."""
    code, out, err = await calgate("cals", "list", "-c", str(gate.settings), "--json")
    assert code == 0, err
    return re.findall(r"DEMO\\\\(\w+)", out)


def update(view: str, mark: str = "0123456789abcdef", inner: str = '<set name="x"/>') -> str:
    return f'<update mark="{mark}" stamp="" scope="Document" view="{view}" ident="null">{inner}</update>'


async def call(gate: Gateway, body: str, *, user: str = "alice", query: str = "") -> tuple[int, str]:
    """Status, and the words that the AJAX client would show."""
    reply = await curl(f"{gate.url}{CALL}{query}", "--data-binary", body, "-H", "Content-Type: text/plain", user=user)
    if not reply.body.startswith(b"<?xml"):
        return reply.status, ""
    message = ElementTree.fromstring(reply.body).find("message")
    assert message is not None
    return reply.status, message.get("text", "")
