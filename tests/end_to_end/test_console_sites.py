"""The console of a site with two gateways on one store, and what its screens say while the store is away."""

import asyncio
import re
import signal
from pathlib import Path

from support.console_site import Console, running, until_served, write
from support.gateway_process import cookie_of, curl, document_server, gateway
from support.ports import free_port
from support.redis_servers import REDIS, Server

SCREENS = (
    *("overview", "holders", "denials", "queue", "use", "log", "person?user=alice", "sessions"),
    *("why?user=alice", "sign-ins", "servers", "health", "settings", "changes"),
)


async def test_console_of_one_gateway_ends_what_the_other_serves_and_says_that_the_store_is_away(
    tmp_path: Path,
) -> None:
    store = Server(tmp_path / "redis", REDIS, appendonly="yes").start()
    at = f'url = "{store.url}"'
    folders = [tmp_path / name for name in ("here", "there")]
    for folder in folders:
        folder.mkdir()
    try:
        async with (
            document_server() as server,
            running(folders[0], server, store=at, listen="workers = 1") as here,
            running(folders[1], server, store=at) as there,
        ):
            await _end_there(here, there)
            await _lose(here, store)
    finally:
        store.stop()


async def _end_there(here: Console, there: Console) -> None:
    cookie = ("-H", f"Cookie: {await cookie_of(there.gate, 'alice')}")
    assert (await curl(f"{there.gate.url}/docs/a.qvw", *cookie)).status == 200
    [row] = await here.rows("helen", "sessions?search=alice")
    assert {one["user"] for one in await here.rows("helen", "holders")} == {"DEMO\\alice"}
    async with asyncio.timeout(30):
        while len({row["worker"] for row in await here.rows("rita", "servers") if "worker" in row}) < 2:
            await asyncio.sleep(0.05)
    assert (await here.post("helen", "sessions/end", {"row": row["id"]})).status == 200
    assert (await curl(f"{there.gate.url}/portal", *cookie)).status == 401
    past = await here.rows("helen", "person?user=DEMO%5Calice")
    assert "ended by DEMO\\helen (console, 127.0.0.1)" in {row.get("ended") for row in past}
    [change] = [row for row in await there.rows("rita", "changes") if row["what"] == "session-ended"]
    assert change["by"] == "DEMO\\helen (console, 127.0.0.1)"


async def _lose(console: Console, store: Server) -> None:
    await console.cookie("root")  # known to the one worker, which trusts its copy while the store is away
    store.send(signal.SIGKILL)
    for screen in SCREENS:
        page = await console.get("root", screen, accept="text/html")
        if screen.partition("?")[0] in ("health", "settings", "why"):  # they need no store
            assert page.status == 200, screen
        else:
            assert (page.status, b"the store does not respond" in page.body) in ((503, True), (200, True)), screen
        reply = await console.get("root", screen)
        assert reply.status == page.status, screen
    store.start()
    await until_served(console)
    for screen in SCREENS:
        assert (await console.get("root", screen)).status == 200, screen


async def test_site_without_licenses_has_an_overview_of_its_health_sessions_and_servers(tmp_path: Path) -> None:
    port = free_port()
    async with document_server() as server:
        file = write(tmp_path, server.port, place=f'bind = "127.0.0.1:{port}"')
        section = r'\[licenses\.demo\].*?(?=\[\[routes)|license = "demo"'
        file.write_text(re.sub(section, "", file.read_text(), flags=re.DOTALL))
        async with gateway(file) as gate:
            console = Console(gate, f"http://127.0.0.1:{port}")
            await until_served(console)
            assert (await curl(f"{gate.url}/docs/a.qvw", user="alice")).status == 200
            async with asyncio.timeout(30):
                while (site := await _site_of(console))["Document servers up"] != "1 of 1":
                    await asyncio.sleep(0.05)
            assert site["Sessions"] == len(await console.rows("rita", "sessions")) >= 2
            assert site["Blocked sign-ins"] == 0
            assert int(str(site["Workers"])) >= 1
            page = (await console.get("rita", "", accept="text/html")).body.decode()
            assert "<h1>Overview</h1>" in page
            assert "No fault is known." in page
            assert "Who holds what" not in page


async def _site_of(console: Console) -> dict[str, object]:
    """Returns the summary at the end of the overview."""
    *_, last = await console.parts("rita", "overview")
    assert (last["kind"], last["title"]) == ("facts", "The site")
    values: dict[str, object] = last["values"]
    return values
