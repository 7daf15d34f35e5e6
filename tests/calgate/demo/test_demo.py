"""The demonstration's own parts: the document server without a gateway, and the files that its gateway reads."""

import asyncio
import shutil
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

import aiohttp
import pytest

from calgate import config
from calgate.demo import ADMIN, PASSWORD, PEOPLE, prepare, serve, things_to_try
from calgate.dialect.qlikview import QlikView
from calgate_users import ntlmv2, users_file

CALL = "/QvAJAXZfc/QvsViewClient.aspx"
PAGE = {"Accept": "text/html", "QVUSER": "DEMO\\alice"}


@pytest.fixture
async def server() -> AsyncIterator[aiohttp.ClientSession]:
    async with serve() as address, aiohttp.ClientSession(address) as client:
        yield client


async def call(
    client: aiohttp.ClientSession, commands: str, mark: str = "", view: str = "Sales.qvw"
) -> ElementTree.Element:
    body = f'<update mark="{mark}" stamp="" scope="Document" view="{view}" ident="null">{commands}</update>'
    async with client.post(CALL, data=body) as answer:
        return ElementTree.fromstring(await answer.text())


async def test_portal_shows_the_user_of_the_header_and_links_the_documents(server: aiohttp.ClientSession) -> None:
    async with server.get("/", headers=PAGE) as answer:
        text = await answer.text()
    assert "DEMO\\alice" in text
    assert text.count("/QvAJAXZfc/opendoc.htm?document=") == 4 + 1
    async with server.get("/") as answer:
        assert (await answer.text()).startswith("AccessPoint for nobody: Sales.qvw, ")


async def test_dialect_reads_every_link_of_the_portal(server: aiohttp.ClientSession) -> None:
    async with server.get("/", headers=PAGE) as answer:
        links = [part.split('"')[0].replace("&amp;", "&") for part in (await answer.text()).split('href="/')[1:]]
    opened = [QlikView().classify("GET", f"/{link}").document for link in links if "opendoc" in link or "open=" in link]
    assert opened == ["sales.qvw", "finance.qvw", "production.qvw", "hr/headcount.qvw", "sales.qvw", "sails.qvw"]


async def test_document_opens_in_any_case_and_an_unknown_one_is_not_found(server: aiohttp.ClientSession) -> None:
    for name, status in (("Sales.qvw", 200), ("HR%5Cheadcount.QVW", 200), ("Sails.qvw", 404), ("", 404)):
        async with server.get(f"/QvAJAXZfc/opendoc.htm?document={name}", headers=PAGE) as answer:
            assert answer.status == status, name


async def test_accesspoint_link_redirects_to_the_document(server: aiohttp.ClientSession) -> None:
    link = "/QvAJAXZfc/AccessPoint.aspx?open=&id=QVS@demo%7CHR%2FHeadcount.qvw&client=Ajax"
    async with server.get(link, allow_redirects=False) as answer:
        location = answer.headers["Location"]
    assert answer.status == 302
    assert QlikView().classify("GET", location).document == "hr/headcount.qvw"


async def test_click_selects_and_poll_changes_nothing_for_each_mark(
    server: aiohttp.ClientSession,
) -> None:
    opened = await call(server, '<add name="Document.ActiveSheet"/>')
    mine = opened.attrib["mark"]
    other = (await call(server, "")).attrib["mark"]
    chosen = await call(server, '<set name="Quarter" value="Q1"/>', mine)
    assert [v.get("text") for v in chosen.iter("value") if v.get("selected") == "1"] == ["Q1"]
    assert figures(chosen) != figures(opened)
    assert figures(await call(server, '<poll name="CH01"/>', mine)) == figures(chosen)
    assert figures(await call(server, '<poll name="CH01"/>', other)) == figures(opened)
    assert figures(await call(server, '<set name="Quarter" value="Q1"/>', mine)) == figures(opened), (
        "chosen again: dropped"
    )


def figures(result: ElementTree.Element) -> list[str | None]:
    return [bar.get("value") for bar in result.iter("bar")]


async def test_invalid_call_gets_a_message(server: aiohttp.ClientSession) -> None:
    for arguments in (("", "", "Sails.qvw"), ("", "0123456789abcdef")):
        assert (await call(server, *arguments)).find("message") is not None
    async with server.post(CALL, data="nonsense") as answer:
        assert answer.status == 400


async def test_download_is_slow_and_websocket_ticks_and_echoes(server: aiohttp.ClientSession) -> None:
    async with server.get("/export.csv") as answer:
        assert await answer.content.readline() == b"row,value\r\n"
        assert await answer.content.readline() == b"0,0.0000\r\n"
    async with server.ws_connect("/live") as socket:
        assert await socket.receive_str() == "tick 0"
        await socket.send_str("hello")
        assert await socket.receive_str() == "echo hello"


async def test_demonstration_server_stops_at_once_during_a_download() -> None:
    async with asyncio.timeout(8):  # the download would take ten
        async with aiohttp.ClientSession() as client, serve() as address:
            await client.ws_connect(f"{address}/live")
            answer = await client.get(f"{address}/export.csv")
            await answer.content.readline()


def test_demonstration_settings_have_no_fault(tmp_path: Path) -> None:
    settings = config.read(prepare(tmp_path / 'a "b"', "127.0.0.1:8080", "http://127.0.0.1:9", "127.0.0.1:8081"))
    (route,) = settings.core.routes
    assert route.upstreams == ("http://127.0.0.1:9",)
    assert settings.core.access[0].groups == ("DEMO\\BI Users",)


def test_demonstration_users_can_sign_in_with_the_printed_password(tmp_path: Path) -> None:
    prepare(tmp_path, "127.0.0.1:8080", "http://127.0.0.1:9", "127.0.0.1:8081")
    prepare(tmp_path, "127.0.0.1:8080", "http://127.0.0.1:9", "127.0.0.1:8081")
    file = tmp_path / "users.toml"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    people = users_file.read(file).users
    assert sorted(people) == sorted(f"demo\\{person.account}" for person in (*PEOPLE, ADMIN))
    assert {user.nt_hash for user in people.values()} == {ntlmv2.nt_hash(PASSWORD)}


def test_busy_demonstration_says_that_people_are_at_work_and_promises_nobody_a_session_cal(tmp_path: Path) -> None:
    url, file, console = "http://127.0.0.1:8080", tmp_path / "calgate.toml", "http://127.0.0.1:8081/"
    quiet, busy = ("\n".join(things_to_try(url, file, console, is_busy=is_busy)) for is_busy in (False, True))
    assert ("takes the other Session CAL" in quiet, "takes the other Session CAL" in busy) == (True, False)
    assert ("people are at work" in quiet, "14 people are at work" in busy) == (False, True)


def test_dialect_reads_the_six_printed_commands(tmp_path: Path) -> None:
    lines = [
        line.strip()
        for line in things_to_try("http://127.0.0.1:8080", tmp_path / "calgate.toml", "http://127.0.0.1:8081/")
    ]
    curls = [line for line in lines if line.startswith("curl ")]
    assert len(curls) == 6
    documents = [parse_qs(urlsplit(line.split("'")[1]).query)["document"] for line in curls if "opendoc" in line]
    assert documents == [["Sales.qvw"]] * 5
    program, rest = lines[-1].split(" ", 1)
    assert rest == f"cals list -c {tmp_path}/calgate.toml"
    assert shutil.which(program)
