"""The administrators' console through the real listener: its origin, access to it, and the rights of each role."""

import asyncio
import json
import os
import re
import signal
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from support.console_site import ADMIN, Console, running, until_served, write
from support.gateway_process import (
    PASSWORD,
    calgate,
    curl,
    document_server,
    gateway,
)
from support.ports import free_port

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def console(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Console]:
    async with document_server() as server, running(tmp_path_factory.mktemp("console"), server) as started:
        yield started


# ---------------------------------------------------------------- place


async def test_console_is_served_on_its_own_address_and_is_404_among_documents(console: Console) -> None:
    cookie = ("-H", f"Cookie: {await console.cookie('root')}")
    assert (await curl(console.gate.url + ADMIN, *cookie)).status == 404
    assert (await curl(console.gate.url + ADMIN + "holders", *cookie)).status == 404
    stranger = await curl(console.gate.url + ADMIN)
    assert (stranger.status, stranger.values("cache-control")) == (404, ["no-store"]), "a 404 is cacheable"


async def test_documents_are_404_on_the_address_of_the_console(console: Console) -> None:
    reply = await curl(f"{console.url}/docs/a.qvw", user="alice")
    assert reply.status == 404
    assert (await curl(f"{console.url}/_calgate/health")).status == 404
    assert (await curl(f"{console.url}/_calgate/auth", "-H", "X-Calgate-Secret: x")).status == 404


async def test_console_on_a_host_name_serves_no_document_there_and_is_404_elsewhere(tmp_path: Path) -> None:
    async with document_server() as server, gateway(write(tmp_path, server.port, place='host = "cal.example"')) as gate:
        at = ("-H", f"Host: cal.example:{gate.port}")
        console = Console(gate, gate.url)
        for _ in range(400):
            reply = await curl(gate.url + ADMIN, *at, "-H", "Accept: application/json", user="root")
            if reply.status == 200:
                break
            await asyncio.sleep(0.05)
        assert reply.status == 200
        assert (await curl(f"{gate.url}/docs/a.qvw", *at, user="alice")).status == 404
        assert (await curl(gate.url + ADMIN, user="root")).status == 404
        assert (await curl(f"{console.url}/docs/a.qvw", user="alice")).status == 200


async def test_client_outside_the_networks_is_refused_before_the_sign_in(tmp_path: Path) -> None:
    port = free_port()
    file = write((tmp_path), 1, place=f'bind = "127.0.0.1:{port}"', network="10.0.0.0/8")
    async with gateway(file):
        reply = await curl(f"http://127.0.0.1:{port}{ADMIN}")
        assert (reply.status, reply.values("www-authenticate")) == (403, [])


# ---------------------------------------------------------------- right


async def test_member_of_no_group_is_refused_though_access_rules_let_them_in(console: Console) -> None:
    assert (await curl(f"{console.gate.url}/portal", user="alice")).status == 200
    assert (await curl(console.url + ADMIN, user="alice")).status == 403
    assert (await curl(console.url + ADMIN, user="mallory")).status == 403


async def test_group_that_no_directory_has_shuts_the_console_and_check_names_it(tmp_path: Path) -> None:
    port = free_port()
    file = write(tmp_path, 1, place=f'bind = "127.0.0.1:{port}"')
    file.write_text(file.read_text().replace('readers = ["DEMO\\\\readers"]', 'readers = ["DEMO\\\\raeders"]'))
    async with gateway(file):
        reply = await curl(f"http://127.0.0.1:{port}{ADMIN}", user="root")
        assert reply.status == 503
        _, out, _ = await calgate("check", "-c", str(file), "--json")
    assert any(one["subject"] == "console" and "raeders" in one["what"] for one in json.loads(out))


async def test_roles_may_do_what_they_are_for_and_no_more(console: Console) -> None:
    assigned = await console.post("root", "holders/assign", {"user": "DEMO\\carol"})
    assert assigned.json == {"outcomes": [{"text": "DEMO\\carol has a Named CAL now.", "done": True}]}
    [row] = [row for row in await console.rows("rita", "holders") if row["user"] == "DEMO\\carol"]
    for user in ("helen", "rita"):
        assert (await console.post(user, "holders/remove", {"row": [row["id"]]})).status == 403
    assert (await console.post("rita", "holders/end", {"row": [row["id"]]})).status == 403
    assert (await console.post("rita", "sessions/end", {"row": []})).status == 403
    assert (await console.get("helen", "settings")).status == 404
    assert (await console.post("root", "holders/remove", {"row": [row["id"]]})).status == 200
    assert not [row for row in await console.rows("rita", "holders") if row["user"] == "DEMO\\carol"]


async def test_users_are_divided_by_commas_but_a_dn_is_one_user(console: Console) -> None:
    for users, said in (("DEMO\\x, DEMO\\y", ["DEMO\\x", "DEMO\\y"]), ("CN=Ann,OU=a,DC=b", ["CN=Ann,OU=a,DC=b"])):
        outcomes: Any = (await console.post("root", "holders/assign", {"user": users})).json["outcomes"]
        assert [one["text"].partition(":")[0] for one in outcomes] == said


async def test_administrator_finds_people_in_the_directory_and_assigns_by_their_keys(console: Console) -> None:
    found = [
        part for part in await console.parts("root", "holders?find=HEL") if part.get("title", "").startswith("Found")
    ]
    [row] = found[0]["rows"]
    assert (row["user"], row["key"], row["state"], row["holds"]) == ("DEMO\\helen", "demo\\helen", "", "")
    assert (await console.post("root", "holders/assign", {"row": [row["id"]]})).status == 200
    again = await console.rows("root", "holders?find=HEL")
    assert next(one["holds"] for one in again if one.get("key") == "demo\\helen") == "Named"
    assert not [one for one in await console.rows("root", "holders?find=*") if "key" in one]
    for user in ("helen", "rita"):  # who may not assign may not list the directory
        assert not [one for one in await console.rows(user, "holders?find=HEL") if "key" in one]


async def test_helpdesk_ends_a_session_cal_and_a_session(console: Console) -> None:
    assert (await curl(f"{console.gate.url}/docs/a.qvw", user="alice")).status == 200
    [row] = await console.rows("helen", "holders?search=alice")
    reply = await console.post("helen", "holders/end", {"row": [row["id"]]})
    assert reply.status == 200
    [signed_in, *_] = await console.rows("helen", "sessions?search=alice")
    assert signed_in["cals"] == "Session"
    reply = await console.post("helen", "sessions/end", {"row": [signed_in["id"]], "reason": "left their desk"})
    assert "has ended" in str(reply.json)
    [change] = [row for row in await console.rows("rita", "changes?search=left") if row["what"] == "session-ended"]
    assert (change["by"], change["reason"]) == ("DEMO\\helen (console, 127.0.0.1)", "left their desk")
    await console.post("root", "holders/force", {"row": [row["id"]]})


async def test_helpdesk_ends_all_sessions_of_a_user_and_those_from_an_address(console: Console) -> None:
    for _ in range(3):
        assert (await curl(f"{console.gate.url}/docs/a.qvw", user="bob")).status == 200
    assert len(await console.rows("helen", "sessions?search=bob")) == 3
    assert (await console.post("rita", "sessions/end-all", {"user": "DEMO\\bob"})).status == 403
    assert (await console.post("helen", "sessions/end-all", {})).status == 409
    for nobody in ({"user": "bo"}, {"address": "127.0.0"}, {"user": "DEMO\\bob", "address": "10.9.9.9"}):
        assert (await console.post("helen", "sessions/end-all", nobody)).status == 409
    assert len(await console.rows("helen", "sessions?search=bob")) == 3
    reply = await console.post("helen", "sessions/end-all", {"user": "demo\\BOB", "reason": "stolen laptop"})
    assert (reply.status, str(reply.json).count("has ended")) == (200, 3)
    assert await console.rows("helen", "sessions?search=bob") == []
    changes = await console.rows("rita", "changes?search=stolen laptop".replace(" ", "%20"))
    assert [row["what"] for row in changes] == ["session-ended"] * 3
    assert (await curl(f"{console.gate.url}/docs/a.qvw", user="bob")).status == 200
    reply = await console.post("helen", "sessions/end-all", {"user": "demo\\bob", "address": "127.0.0.1"})
    assert str(reply.json).count("has ended") == 1


# ---------------------------------------------------------------- other sites, stale pages


@pytest.mark.parametrize("site", ["same-site", "cross-site"])
async def test_requests_of_other_origins_are_refused_except_a_navigation(console: Console, site: str) -> None:
    fetch = ("-H", f"Sec-Fetch-Site: {site}")
    assert (await console.get("root", "holders", *fetch)).status == 403
    for mode, destination in (("navigate", "iframe"), ("no-cors", "script"), ("cors", "empty")):
        framed = ("-H", f"Sec-Fetch-Mode: {mode}", "-H", f"Sec-Fetch-Dest: {destination}")
        assert (await console.get("root", "holders", *fetch, *framed)).status == 403
    navigation = ("-H", "Sec-Fetch-Mode: navigate", "-H", "Sec-Fetch-Dest: document")
    assert (await console.get("root", "holders", *fetch, *navigation)).status == 200
    assert (await console.post("root", "holders/assign", {"user": "DEMO\\dave"}, *fetch, *navigation)).status == 403


async def test_change_needs_our_origin_and_the_token_of_this_session(console: Console) -> None:
    change = {"user": "DEMO\\dave"}
    assert (await console.post("root", "holders/assign", change, token="")).status == 403
    assert (await console.post("root", "holders/assign", change, token="0" * 64)).status == 403
    others = await console.token("helen")
    assert (await console.post("root", "holders/assign", change, token=others)).status == 403
    for origin in (console.gate.url, "http://evil.example", "null"):
        token = await console.token("root")
        words = (
            "-H",
            f"Cookie: {await console.cookie('root')}",
            "-H",
            f"X-Calgate-Token: {token}",
            "-d",
            "user=DEMO\\dave",
        )
        reply = await curl(f"{console.url}{ADMIN}holders/assign", "-H", f"Origin: {origin}", *words)
        assert reply.status == 403, origin
        reply = await curl(f"{console.url}{ADMIN}holders/assign", *words)  # no Origin at all
        assert reply.status == 403
    assert not [row for row in await console.rows("root", "holders") if row["user"] == "DEMO\\dave"]


async def test_program_that_signs_in_with_each_request_needs_a_header_that_no_page_can_send(console: Console) -> None:
    words = ("-H", f"Origin: {console.url}", "-H", "Accept: application/json", "-d", "user=DEMO\\nobody")
    assert (await curl(f"{console.url}{ADMIN}holders/assign", *words, user="root")).status == 403
    reply = await curl(f"{console.url}{ADMIN}holders/assign", *words, "-H", "X-Calgate-Change: 1", user="root")
    assert reply.status == 409
    assert "knows nobody" in str(reply.json)


async def test_forged_identity_header_of_a_client_is_not_believed(console: Console) -> None:
    said = json.dumps({"name": "DEMO\\root", "key": "x", "role": "admin", "address": "::1", "token": "", "host": ""})
    forged = ("-H", f"X-Calgate-Console: {said}")
    assert (await console.get("rita", "settings", *forged)).status == 404
    assert (await curl(console.url + ADMIN, *forged)).status == 401


async def test_page_forbids_frames_and_foreign_scripts(console: Console) -> None:
    page = await console.get("root", "holders", accept="text/html")
    [policy] = page.values("content-security-policy")
    assert "frame-ancestors 'none'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert page.values("x-frame-options") == ["DENY"]
    assert page.values("cache-control") == ["no-store"]


async def test_file_that_pages_load_is_for_visitors_only_and_cached_under_its_version(console: Console) -> None:
    page = await console.get("rita", "", accept="text/html")
    [path] = re.findall(r'src="(/_calgate/admin/static/htmx-\S+)"', page.body.decode())
    file = await console.get("rita", path.removeprefix(ADMIN))
    assert (file.status, file.values("content-type")) == (200, ["text/javascript; charset=utf-8"])
    assert file.values("cache-control") == ["private, max-age=31536000, immutable"]
    assert file.values("x-content-type-options") == ["nosniff"]
    assert (await curl(console.url + path)).status == 401
    assert (await curl(console.gate.url + path)).status == 404
    for other in ("vendor.toml", "vendor/vendor.toml", "htmx-0.0.0.min.js"):
        assert (await console.get("rita", f"static/{other}")).status == 404, other


async def test_sign_out_closes_the_console_and_its_pages_token(console: Console) -> None:
    other = Console(console.gate, console.url)
    token = await other.token("root")
    cookie = ("-H", f"Cookie: {await other.cookie('root')}")
    out = await curl(f"{console.url}/_calgate/sign-out", *cookie, "-H", f"Origin: {console.url}", "-d", "")
    assert out.status == 303
    assert (await curl(console.url + ADMIN, *cookie)).status == 401
    words = ("-H", f"Origin: {console.url}", "-H", f"X-Calgate-Token: {token}", "-d", "user=DEMO\\dave")
    assert (await curl(f"{console.url}{ADMIN}holders/assign", *cookie, *words, user="root")).status == 403


async def test_page_that_refreshes_itself_is_not_challenged_after_its_session_has_ended(console: Console) -> None:
    """A browser responds to a challenge unseen, and a page in the background would undo the sign-out."""
    live = ("-H", "X-Calgate-Live: 1")
    assert (await console.get("rita", "queue", *live)).status == 200
    for options in ((), ("-H", "Cookie: calgate=absent"), ("--ntlm", "-u", f"DEMO\\rita:{PASSWORD}")):
        reply = await curl(f"{console.url}{ADMIN}queue", *live, *options)
        assert (reply.status, reply.values("www-authenticate")) == (403, [])


# ---------------------------------------------------------------- what is recorded, and the process


async def test_record_of_a_change_names_the_person_their_address_and_their_reason(console: Console) -> None:
    reply = await console.post("root", "holders/assign", {"user": "DEMO\\bob", "reason": "call 4711\nby phone"})
    assert reply.status == 200
    [record] = [row for row in await console.rows("root", "log?what=assigned") if row["name"] == "DEMO\\bob"]
    assert (record["by"], record["reason"]) == ("DEMO\\root (console, 127.0.0.1)", "call 4711 by phone")
    file = str(console.gate.settings)
    code, _, errors = await calgate("cals", "remove", "DEMO\\bob", "-c", file, "--reason", "left the company")
    assert code == 0, errors
    _, out, _ = await calgate("cals", "log", "--what", "removed", "-c", file, "--json")
    assert json.loads(out)[-1]["reason"] == "left the company"
    _, out, _ = await calgate("cals", "log", "--what", "granted", "-c", file, "--json")
    assert all("reason" not in record for record in json.loads(out))  # a reason is of one change, not of later ones


async def test_denial_is_found_by_its_reference_in_any_case(console: Console) -> None:
    for user in ("bob", "carol", "dave", "alice"):
        denied = await curl(f"{console.gate.url}/docs/full.qvw", "-H", "Accept: application/json", user=user)
        if denied.status == 403:
            break
    reference = str(denied.json["reference"])
    [row, *_] = await console.rows("helen", f"denials?reference={reference.lower()}")
    assert (row["user"], row["reference"], row["code"]) == (f"DEMO\\{user}", reference, "no-cal")
    for group in ("person", "document", "reason"):
        [table] = [part for part in (await console.parts("helen", f"denials?group={group}")) if part["kind"] == "table"]
        assert sum(one["denials"] for one in table["rows"]) >= 1
    assert not await console.rows("helen", "denials?group=person&user=nobody")


@pytest.mark.parametrize(
    "path",
    [
        *("", "holders", "denials", "queue", "use", "log", "person?user=DEMO%5Calice", "sessions"),
        *(
            "why?user=DEMO%5Calice&document=a.qvw&at=2026-01-10%2010:42",
            "sign-ins",
            "servers",
            "health",
            "settings",
            "changes",
        ),
    ],
)
async def test_every_screen_answers_as_page_and_as_json(console: Console, path: str) -> None:
    page = await console.get("root", path, accept="text/html")
    assert page.status == 200
    assert b"<h1>" in page.body
    reply = await console.get("root", path)
    assert reply.status == 200
    assert reply.json["parts"]
    assert "pass-Word" not in page.body.decode()


async def test_overview_has_the_use_of_today_and_says_that_all_is_well(console: Console) -> None:
    await curl(f"{console.gate.url}/docs/a.qvw", user="alice")  # served, or denied because all are in use
    for _ in range(400):
        parts: Any = (await console.get("rita", "")).json["parts"]
        [card] = [part for part in parts if part["kind"] == "bars"]
        today = max(max(bar["today"], default=0) for bar in card["bars"])
        if today:
            break
        await asyncio.sleep(0.05)
    assert today >= 1
    page = (await console.get("rita", "", accept="text/html")).body.decode()
    assert '<svg class="spark"' in page
    assert "No fault is known." in page


async def test_server_that_does_not_respond_is_down_for_every_worker_and_unwell_on_the_overview(tmp_path: Path) -> None:
    port = free_port()
    async with gateway(write(tmp_path, 1, place=f'bind = "127.0.0.1:{port}"')) as gate:  # nothing listens on port 1
        console = Console(gate, f"http://127.0.0.1:{port}")
        await until_served(console)
        async with asyncio.timeout(30):
            rows: list[dict[str, object]] = []
            while not rows or rows[0]["up"] != "no worker":  # a worker notices it at a request of its own
                assert (await curl(f"{gate.url}/portal", user="alice")).status in (502, 503)
                await asyncio.sleep(0.05)
                rows = [row for row in await console.rows("rita", "servers") if row.get("failed_at")]
        [_, *each] = rows
        assert {row["up"] for row in each} == {"down"}
        assert all("Connect" in str(row["failure"]) or "connect" in str(row["failure"]) for row in rows)
        overview = (await console.get("rita", "", accept="text/html")).body.decode()
        assert "http://127.0.0.1:1 is down for" in overview
        assert "No fault is known" not in overview


async def test_ended_process_delays_no_user_and_comes_back(console: Console) -> None:
    socket = console.gate.settings.parent / "state" / "console.sock"
    assert stat.S_IMODE(socket.stat().st_mode) == 0o600
    children = Path(f"/proc/{console.gate.process.pid}/task/{console.gate.process.pid}/children").read_text().split()
    [process] = [int(pid) for pid in children if b"console-process" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    os.kill(process, signal.SIGKILL)
    assert (await curl(f"{console.gate.url}/portal", user="alice")).status == 200
    await until_served(console)
