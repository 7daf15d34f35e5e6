"""Access rules through a running gateway: each refusal names its rule, and unknown facts are refused."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from calgate_users import edit, ntlmv2
from end_to_end.test_websocket import echo, open_websocket, read_frame
from support.gateway_process import (
    PASSWORD,
    DocumentServer,
    Gateway,
    answer_plainly,
    calgate,
    cookie_of,
    curl,
    document_server,
    gateway,
    write_settings,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

RULES = """
[[access]]
name = "ghosts stay out"
groups = ["DEMO\\\\ghosts"]
documents = ["haunted"]
deny = true

[[access]]
name = "on trial"
users = ["DEMO\\\\bob"]
deny = true
enforce = false

[[access]]
name = "closed just now"
documents = ["night"]
hours = "00:00-24:00"
deny = true

[[access]]
name = "hers alone"
documents = ["diary"]
users = ["DEMO\\\\alice"]

[[access]]"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Gateway, DocumentServer]]:
    folder: Path = tmp_path_factory.mktemp("rules")
    async with document_server() as server:
        file = write_settings(folder, server.port)
        file.write_text(file.read_text().replace("[[access]]", RULES.strip(), 1))
        async with gateway(file) as gate:
            yield gate, server


@pytest.fixture
def gate(running: tuple[Gateway, DocumentServer]) -> Gateway:
    return running[0]


@pytest.fixture
def server(running: tuple[Gateway, DocumentServer]) -> DocumentServer:
    running[1].seen.clear()
    running[1].behaviour = answer_plainly
    return running[1]


async def test_rule_that_refuses_is_named_to_the_user_and_in_the_log(gate: Gateway, server: DocumentServer) -> None:
    reply = await curl(f"{gate.url}/docs/night", user="alice")
    assert (reply.status, reply.json["rule"]) == (403, "closed just now")
    decision = gate.decisions("refused")[-1]
    assert (decision["rule"], decision["document"], decision["user"]) == ("closed just now", "night", "DEMO\\alice")
    assert decision["reference"] == reply.json["reference"]
    assert server.seen == []


async def test_group_that_nobody_knows_makes_no_rule_pass_by(gate: Gateway, server: DocumentServer) -> None:
    reply = await curl(f"{gate.url}/docs/haunted", user="alice")
    assert (reply.status, reply.json["code"]) == (503, "rules-unresolved")
    assert "DEMO\\ghosts" in str(gate.decisions("refused")[-1]["reason"])
    assert server.seen == []
    assert (await curl(f"{gate.url}/portal", user="alice")).status == 200, "other requests do not depend on it"


async def test_rule_on_trial_refuses_nobody_and_says_whom_it_would_have(gate: Gateway) -> None:
    assert (await curl(f"{gate.url}/portal", user="bob")).status == 200
    would = gate.decisions("would be refused")[-1]
    assert (would["rule"], would["user"]) == ("on trial", "DEMO\\bob")


async def test_rule_that_gives_documents_to_some_is_warned_about_where_a_later_one_gives_them_to_all(
    gate: Gateway,
) -> None:
    log = gate.log.read_text()
    assert "'app users' also lets its users open the documents of 'hers alone'" in log
    assert (await curl(f"{gate.url}/docs/diary", user="carol")).status == 200, "as the warning says"


async def test_explain_says_why_for_each_rule_and_by_its_exit_code_whether(gate: Gateway) -> None:
    code, out, _ = await calgate(
        "access", "explain", "DEMO\\alice", "--document", "Night", "-c", str(gate.settings), "--json"
    )
    assert code == 1
    assert '"rule": "closed just now"' in out
    assert "all its conditions are met" in out


async def test_websocket_is_closed_when_its_person_leaves_the_group(gate: Gateway, server: DocumentServer) -> None:
    cookie = await cookie_of(gate, "dave")
    server.behaviour = echo
    head, reader, writer = await open_websocket(gate, cookie)
    assert head.startswith("HTTP/1.1 101 ")
    assert await read_frame(reader) == (1, b"hello, early")
    people = gate.settings.with_name("users.toml")
    edit.add(people, "dave", domain="DEMO", display_name=None, groups=("others",), nt_hash=ntlmv2.nt_hash(PASSWORD))
    opcode, payload = await asyncio.wait_for(read_frame(reader), 30)
    assert (opcode, payload[:2]) == (8, (1008).to_bytes(2, "big"))
    assert payload[2:] == b"You do not have access to this"
    writer.close()


async def test_no_spelling_of_a_routes_path_leads_past_it(tmp_path: Path) -> None:
    """The document server may be blind to case; then another route would serve what this one's rules are about."""
    async with document_server() as server:
        rest = f'[[routes]]\npath = "/"\nupstreams = ["http://127.0.0.1:{server.port}"]'
        file = write_settings(tmp_path, server.port, more=rest)
        rules = '[[access]]\nname = "diary"\ndocuments = ["diary"]\ndeny = true\n\n[[access]]'
        text = file.read_text().replace("[[access]]", rules, 1)
        file.write_text(text.replace('path = "/"', 'path = "/Docs"', 1))
        async with gateway(file) as gate:
            for path in ("/Docs/diary", "/docs/diary", "/DOCS/DIARY", "/d%6Fcs/diary"):
                assert (await curl(gate.url + path, user="alice")).status == 403, path
            assert (await curl(f"{gate.url}/docsy", user="alice")).status == 200
        assert [one.path for one in server.seen] == ["/docsy"]
