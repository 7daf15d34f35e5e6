"""`calgate sessions` and `calgate upstreams` against a running gateway."""

import getpass
import json
import os
import re
import socket
from pathlib import Path

import pytest

from calgate_users import edit, ntlmv2
from support.gateway_process import PASSWORD, DocumentServer, Gateway, calgate, cookie_of, curl, gateway, write_settings

pytestmark = pytest.mark.server


async def ended(gate: Gateway, *words: str) -> tuple[int, str]:
    code, out, _ = await calgate("sessions", "end", "-c", str(gate.settings), *words)
    return code, out.strip()


async def keys(gate: Gateway) -> dict[str, str]:
    """The key of each signed-in user's name."""
    _, out, _ = await calgate("sessions", "list", "-c", str(gate.settings), "--json")
    return {row["user"]: row["key"] for row in json.loads(out)}


@pytest.mark.parametrize("name", ["DEMO\\\\alice", "alice", "ALICE@demo", "the key"])
async def test_sessions_end_finds_a_user_by_every_form_of_the_name(gate: Gateway, name: str) -> None:
    cookie = await cookie_of(gate, "alice")
    await cookie_of(gate, "bob")
    wanted = (await keys(gate))["DEMO\\alice"] if name == "the key" else name.replace("\\\\", "\\")
    assert await ended(gate, wanted) == (0, "1 session ended")
    assert (await curl(f"{gate.url}/portal", "-H", f"Cookie: {cookie}")).status == 401
    assert list(await keys(gate)) == ["DEMO\\bob"]


async def test_sessions_end_still_finds_a_user_whom_no_directory_has_any_more(
    server: DocumentServer, tmp_path: Path
) -> None:
    async with gateway(write_settings(tmp_path, server.port)) as gate:
        await cookie_of(gate, "alice")
        edit.remove(tmp_path / "users.toml", "alice", domain="DEMO")
        assert await ended(gate, "DEMO\\alice") == (0, "1 session ended")
        assert (await ended(gate, "DEMO\\alice"))[0] == 1


async def test_sessions_list_in_a_pipe_has_whole_lines_and_the_sites_time_zone(
    server: DocumentServer, tmp_path: Path
) -> None:
    users = tmp_path / "users.toml"
    long = "a-user-with-a-very-long-name-" + "x" * 60
    file = write_settings(tmp_path, server.port, users=("alice",))
    nt_hash = ntlmv2.nt_hash(PASSWORD)
    edit.add(users, long, domain="DEMO", display_name=None, groups=("app-users",), nt_hash=nt_hash)
    file.write_text('timezone = "Asia/Tokyo"\n' + file.read_text())
    async with gateway(file) as gate:
        await cookie_of(gate, long)
        _, out, _ = await calgate("sessions", "list", "-c", str(file))
        assert "since (Asia/Tokyo)" in out
        (line,) = [line for line in out.splitlines() if long in line]
        assert re.search(r"\d\d:\d\d:\d\d \+0900", line)


async def test_only_document_server_of_a_route_is_drained_by_force_alone(gate: Gateway, server: DocumentServer) -> None:
    upstream = f"http://127.0.0.1:{server.port}"
    code, _, said = await calgate("upstreams", "drain", upstream, "-c", str(gate.settings))
    assert code == 1
    assert f"{upstream}: the only document server in use of /" in said
    assert "--force drains it" in said
    assert (await curl(f"{gate.url}/portal", user="alice")).status == 200
    code, out, _ = await calgate("upstreams", "drain", upstream, "--force", "-c", str(gate.settings))
    assert (code, out.strip()) == (0, f"{upstream} is drained")
    code, _, _ = await calgate("upstreams", "restore", upstream, "-c", str(gate.settings))
    assert code == 0


async def test_changes_by_commands_are_recorded_with_the_sudo_user_and_the_reason(
    gate: Gateway, server: DocumentServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_USER", "smith")
    await cookie_of(gate, "alice")
    upstream, file = f"http://127.0.0.1:{server.port}", ("-c", str(gate.settings))
    _, out, _ = await calgate(
        *("tokens", "new", "alice", "--until", "2099-12-31", "--route", "/", "--reason", "nightly export"),
        *("--json", *file),
    )
    token = json.loads(out)["id"]
    for words in (
        ("sessions", "end", "alice", "--reason", "lost\nlaptop"),
        ("upstreams", "drain", upstream, "--force", "--reason", "patches"),
        ("upstreams", "restore", upstream),
        ("tokens", "revoke", token, "--reason", "export is gone"),
    ):
        code, _, said = await calgate(*words, *file)
        assert code == 0, said
    _, out, _ = await calgate("changes", "--json", *file)
    changes = json.loads(out)
    assert [(one["what"], one["subject"], one["reason"]) for one in changes] == [
        ("token-revoked", f"{token} of DEMO\\alice", "export is gone"),
        ("server-restored", upstream, ""),
        ("server-drained", upstream, "patches"),
        ("session-ended", "DEMO\\alice from 127.0.0.1", "lost laptop"),
        ("token-made", f"{token} of DEMO\\alice", "nightly export"),
    ]
    user = "smith" if os.geteuid() == 0 else getpass.getuser()  # only root's environment is believed
    assert {one["by"] for one in changes} == {f"{user}@{socket.gethostname()}"}
    _, out, _ = await calgate("changes", "--most", "1", *file)
    assert "export is gone" in out
    assert "patches" not in out
