"""`calgate check` where there is no domain: the store, document servers, certificate, and tokens."""

import asyncio
import base64
import errno
import json
import os
import re
import socket
import stat
import subprocess
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_asyncio
import redis.asyncio as redis
from click.testing import CliRunner

from calgate import config
from calgate.access.settings import Rule
from calgate.app import invalid_certificates
from calgate.cli import main
from calgate.commands import check_store, check_upstreams
from calgate.commands import checks as checking
from calgate.plugin.checks import Finding, closing_command
from calgate.plugin.errors import ConfigError, Unavailable
from calgate.plugin.identity import Identity, Person
from calgate.plugin.services import Services
from support.certificates import Authority, Signed
from support.directory import People
from support.gateway_process import calgate, document_server, gateway, write_settings
from support.ports import free_port
from support.redis_servers import Server

pytestmark = pytest.mark.server


@pytest_asyncio.fixture
async def upstream() -> AsyncIterator[int]:
    async with document_server() as server:
        yield server.port


async def findings(file: Path) -> list[Finding]:
    return [finding async for finding in checking.check(config.read(file))]


async def wrong(file: Path) -> list[tuple[str, str]]:
    return [(f.level, f.subject) for f in await findings(file) if f.level in ("warn", "fail")]


async def test_check_finds_no_fault_with_a_persistent_store(server: Server, upstream: int, tmp_path: Path) -> None:
    file = write_settings(tmp_path, upstream, store=f'url = "{server.url}"')
    assert await wrong(file) == [("warn", "settings")]  # NTLM alone is unwise
    assert any(finding.subject == "store" and "responds" in finding.what for finding in await findings(file))


@pytest.mark.parametrize(
    ("sign_in", "rule", "told"),
    [
        ("on", 'groups = ["DEMO\\\\app-users"]', [("licenses.demo", 'no route with sign_in = "off"')]),
        ("off", 'groups = ["DEMO\\\\app-users"]', [("routes[1]", "no access rule has anonymous = true")]),
        ("off", "anonymous = true", []),
        (
            "off",
            'anonymous = true\n[forward_auth]\nsecret = "open sesame"',
            [("routes[1]", "/_calgate/auth refuses its requests: a CAL without sign-in")],
        ),
    ],
    ids=["no-public-route", "no-rule", "whole", "forward-auth"],
)
async def test_anonymous_cals_without_a_public_route_or_a_rule_are_warned_about(
    upstream: int, tmp_path: Path, sign_in: str, rule: str, told: list[tuple[str, str]]
) -> None:
    license = "session = { in_license = 2 }\nanonymous = { max = 1 }"
    file = write_settings(tmp_path, upstream, license=license, route=f'sign_in = "{sign_in}"')
    lines = [line for line in file.read_text().splitlines() if not line.startswith("sign_on =")]
    file.write_text("\n".join(rule if line.startswith("groups =") else line for line in lines))
    found = [finding for finding in await findings(file) if finding.level == "warn" and finding.subject != "settings"]
    assert [(finding.subject, words in finding.what) for finding, (_, words) in zip(found, told, strict=True)] == [
        (subject, True) for subject, _ in told
    ]


async def test_store_without_persistence_is_warned_about(upstream: int, tmp_path: Path) -> None:
    forgetful = Server(tmp_path / "redis", maxmemory_policy="allkeys-lru", maxmemory="100mb").start()
    try:
        found = await findings(write_settings(tmp_path, upstream, store=f'url = "{forgetful.url}"'))
        remedies = [finding.remedy for finding in found if finding.subject == "store" and finding.level == "warn"]
        assert remedies == ["appendonly yes", "maxmemory-policy noeviction"]
    finally:
        forgetful.stop()


async def told(file: Path) -> list[tuple[str, str, str]]:
    """Level, subject and words of all that is wrong but that NTLM is alone."""
    found = [f for f in await findings(file) if f.level in ("warn", "fail") and f.subject != "settings"]
    return [(f.level, f.subject, f"{f.what} → {f.remedy}") for f in found]


async def test_store_that_forbids_functions_fails_with_the_acl_to_grant(upstream: int, tmp_path: Path) -> None:
    strict = Server(tmp_path / "redis", appendonly="yes").start()
    try:
        async with redis.from_url(strict.url) as client:
            await client.execute_command("ACL", "SETUSER", "default", "-function")
        ((level, subject, words),) = await told(write_settings(tmp_path, upstream, store=f'url = "{strict.url}"'))
        assert (level, subject) == ("fail", "store")
        assert "forbids functions" in words
    finally:
        strict.stop()


async def test_store_that_forbids_config_is_a_note(upstream: int, tmp_path: Path) -> None:
    rented = Server(tmp_path / "redis").start()
    try:
        async with redis.from_url(rented.url) as client:
            await client.execute_command("ACL", "SETUSER", "default", "-config")
        found = await findings(write_settings(tmp_path, upstream, store=f'url = "{rented.url}"'))
        (note,) = [f for f in found if f.level == "note"]
        assert (note.subject, note.remedy) == ("store", "check persistence and eviction there")
        assert [f.level for f in found if f.level in ("warn", "fail")] == ["warn"]  # NTLM alone
    finally:
        rented.stop()


class OldStore:
    """A server that reports Redis 6.2, which no package here has."""

    async def ping(self) -> None:
        pass

    async def execute(self, *command: str) -> object:
        return {"redis_version": "6.2.14"}


async def test_store_without_functions_fails() -> None:
    (found,) = [finding async for finding in check_store.check(OldStore(), is_private=False)]  # type: ignore[arg-type]
    assert (found.level, found.what, found.remedy) == (
        "fail",
        "Redis 6.2.14 has no functions",
        "Redis 7 or later is needed",
    )


class Silent:
    """A directory that responded a moment ago."""

    async def resolve(self, groups: Sequence[str]) -> Mapping[str, str | None]:
        raise Unavailable("it hung up", code="directory-unavailable")


async def test_directory_that_disappears_during_the_check_fails(upstream: int, tmp_path: Path) -> None:
    services = Services(None, tmp_path, Silent())  # type: ignore[arg-type]
    found = await checking._rules(config.read(write_settings(tmp_path, upstream)), services, {})
    assert (found.level, found.subject, found.what) == ("fail", "access", "groups cannot be looked up: it hung up")


async def test_document_server_that_accepts_and_stays_silent_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check_upstreams, "ANSWER_WITHIN", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert await told(write_settings(tmp_path, port)) == [
            ("fail", f"http://127.0.0.1:{port}", "silent for 0 s → start the document server, or open the firewall")
        ]


async def test_document_server_of_several_routes_fails_once(tmp_path: Path) -> None:
    file = write_settings(tmp_path, 1)
    file.write_text(file.read_text() + '\n[[routes]]\npath = "/other"\nupstreams = ["http://127.0.0.1:1"]\n')
    assert [(level, subject) for level, subject, _ in await told(file)] == [("fail", "http://127.0.0.1:1")]


async def test_brackets_are_printed_unchanged(tmp_path: Path) -> None:
    file = write_settings(tmp_path, 1)
    file.write_text(file.read_text().replace("http://127.0.0.1:1", "http://[fe80::1]:1"))
    result = await asyncio.to_thread(CliRunner().invoke, main, ["check", "-c", str(file)], terminal_width=160)
    assert "http://[fe80::1]:1" in result.output, result.output


async def test_upstream_that_does_not_speak_http_fails(tmp_path: Path) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with server:
        ((level, _, words),) = await told(write_settings(tmp_path, server.sockets[0].getsockname()[1]))
    assert level == "fail"
    assert words.startswith("not an HTTP/1.1 server: '220 mail.example ESMTP'")


async def test_expired_certificate_fails(upstream: int, tmp_path: Path) -> None:
    signed = Authority(tmp_path, days=0).sign("bi.example")
    tls = f'tls = {{ certificate = "{signed.certificate}", key = "{signed.key}" }}'
    assert await told(write_settings(tmp_path, upstream, listen=tls)) == [
        ("fail", "certificate", f"{signed.certificate} has expired → renew it")
    ]


async def test_certificate_that_is_not_valid_yet_fails(upstream: int, tmp_path: Path) -> None:
    signed = Authority(tmp_path, begins=2).sign("bi.example")
    tls = f'tls = {{ certificate = "{signed.certificate}", key = "{signed.key}" }}'
    file = write_settings(tmp_path, upstream, listen=tls)
    ((level, subject, words),) = await told(file)
    assert (level, subject) == ("fail", "certificate")
    assert "is not valid before 2" in words
    assert "clock" in words
    assert any("is not valid yet" in sentence for sentence in invalid_certificates(config.read(file).core))


async def test_certificate_that_expires_soon_is_warned_about(upstream: int, tmp_path: Path) -> None:
    signed = Authority(tmp_path, days=3).sign("bi.example")
    tls = f'tls = {{ certificate = "{signed.certificate}", key = "{signed.key}" }}'
    file = write_settings(tmp_path, upstream, listen=tls)
    assert ("warn", "certificate") in await wrong(file)


async def test_certificate_that_cannot_be_loaded_fails(upstream: int, tmp_path: Path) -> None:
    """As the gateway itself would find out at its start."""
    authority = Authority(tmp_path)
    signed, other = authority.sign("bi.example"), authority.sign("old.example")
    for certificate, key in ((signed.key, signed.key), (signed.certificate, other.key)):
        tls = f'tls = {{ certificate = "{certificate}", key = "{key}" }}'
        ((level, subject, words),) = await told(write_settings(tmp_path, upstream, listen=tls))
        assert (level, subject) == ("fail", "certificate")
        assert f"{certificate} and {key} do not work together" in words
        assert "give a certificate" in words


async def test_certificate_of_each_name_is_checked(upstream: int, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    first, second = authority.sign("bi.example"), authority.sign("*.old.example")
    late = Authority(tmp_path, days=0).sign("late.example")

    def listen(*further: Signed) -> str:
        tables = [f'{{ certificate = "{one.certificate}", key = "{one.key}" }}' for one in (first, *further)]
        return f"tls = {tables[0]}\nsni = [{', '.join(tables[1:])}]"

    async def of(text: str, hosts: Sequence[str]) -> list[tuple[str, str]]:
        settings = config.read(write_settings(tmp_path, upstream, listen=text))
        found = [one async for one in checking.check(settings, hosts) if one.subject == "certificate"]
        return [(one.level, one.what) for one in found]

    assert {level for level, _ in await of(listen(second), ["BI.example", "qv.old.example"])} == {"ok"}
    failed = [what for level, what in await of(listen(second), ["bi.example", "x.example"]) if level == "fail"]
    assert failed == [f"{first.certificate}, {second.certificate} are not for x.example"]
    assert ("fail", f"{late.certificate} has expired") in await of(listen(late), ["bi.example"])


@pytest.mark.parametrize(
    ("token", "code", "told"),
    [
        (base64.b64encode(b"NTLMSSP\0\1\0\0\0" + bytes(28)).decode(), 0, "NTLM"),
        ("Negotiate " + base64.b64encode(b"NTLMSSP\0\1\0\0\0" + bytes(28)).decode(), 0, "NTLM"),
        ("not-base64!", 1, "not base64"),
        ("Bearer eyJhbGciOiJub25lIn0", 1, "no plugin can read it"),
        (base64.b64encode(b"garbage").decode(), 1, "neither a Negotiate nor an NTLM token"),
    ],
)
def test_token_is_explained_without_a_settings_file(token: str, code: int, told: str) -> None:
    result = CliRunner().invoke(main, ["check", "--token", token, "--json"])
    assert result.exit_code == code
    assert any(told in row["subject"] + row["what"] for row in json.loads(result.output))


async def test_check_says_that_a_proxy_must_keep_host_unless_the_public_origin_is_set(
    upstream: int, tmp_path: Path
) -> None:
    for more, expected in (("", ["note"]), ('public_origin = "https://bi.example"', [])):
        listen = f'trusted_proxies = ["10.0.0.1/32"]\n{more}'
        file = write_settings(tmp_path, upstream, listen=listen)
        assert [f.level for f in await findings(file) if "Host header" in f.what] == expected


# ---------------------------------------------------------------- what no section can know alone


async def test_group_or_user_that_no_directory_has_is_reported(upstream: int, tmp_path: Path) -> None:
    more = '[[access]]\nname = "x"\nusers = ["DEMO\\\\nobody", "DEMO\\\\alice"]'
    found = await told(write_settings(tmp_path, upstream, more=more))
    assert found == [("warn", "access", "no directory has the user DEMO\\nobody, whom a rule names → correct the name")]


@pytest.mark.parametrize(("deny", "level"), [(True, "fail"), (False, "warn")])
async def test_user_under_a_name_that_no_rule_matches_is_a_failure_where_the_rule_denies(
    tmp_path: Path, deny: bool, level: str
) -> None:
    class Suffixes(People):
        async def look_up(self, identity: Identity) -> Person | None:
            return Person("S-1-9", "CORP", "alice", "", frozenset())

    rule = Rule(name="r", users=("corp.example\\alice",), deny=deny)
    services = Services(cast(Any, None), tmp_path, Suffixes())
    found = [(one.level, "never applies" in one.what) async for one in checking._users([rule], services)]
    assert found == [(level, True)]


async def test_file_without_access_rules_fails(upstream: int, tmp_path: Path) -> None:
    file = write_settings(tmp_path, upstream)
    file.write_text(re.sub(r"\[\[access\]\]\nname.*\ngroups.*\n", "", file.read_text()))
    assert ("fail", "access", "there is no rule, so every request is refused → add an [[access]] rule") in await told(
        file
    )


async def test_addresses_that_cannot_be_listened_on_fail(upstream: int, tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        found = await told(write_settings(tmp_path, upstream, port=port))
        assert [(level, subject) for level, subject, _ in found] == [("fail", "listen.bind")]
        assert f"another program already listens on 127.0.0.1:{port}" in found[0][2]
    ((level, subject, words),) = await told(write_settings(tmp_path, upstream, listen='admin = "192.0.2.1:9090"'))
    assert (level, subject) == ("fail", "listen.admin")
    assert "cannot listen on 192.0.2.1:9090: Cannot assign requested address → write an address of this" in words


async def test_address_below_1024_is_looked_at_where_this_user_may_not_listen(
    upstream: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refused(socket.socket):
        def bind(self, address: object) -> None:
            raise PermissionError(errno.EACCES, "Permission denied")

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        monkeypatch.setattr("calgate.commands.check_listen.socket.socket", Refused)
        port = other.getsockname()[1]
        file = write_settings(tmp_path, upstream, port=port)
        found = [one for one in await findings(file) if one.subject == "listen.bind"]
        assert [(one.level, "CAP_NET_BIND_SERVICE" in one.remedy) for one in found] == [("note", True)]
        other.listen()
        found = [one for one in await findings(file) if one.subject == "listen.bind"]
        assert [one.level for one in found] == ["fail"]
        assert f"another program already listens on 127.0.0.1:{port}" in found[0].what


async def test_what_needs_a_store_that_does_not_start_is_not_tried(upstream: int, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    file = write_settings(tmp_path, upstream)
    file.write_text(re.sub(r'state_dir = ".*"', f'state_dir = "{tmp_path}/file/state"', file.read_text()))
    found = {one.subject: one for one in await findings(file) if one.level in ("fail", "untried")}
    assert (found["start"].level, "install -d -m 0700" in found["start"].what) == ("fail", True)
    assert (found["plugins"].level, "[negotiate]" in found["plugins"].what) == ("untried", True)


async def test_address_of_the_running_gateway_is_fine(upstream: int, tmp_path: Path) -> None:
    console = (
        f'[console]\nbind = "127.0.0.1:{free_port()}"\nnetworks = ["192.0.2.0/24"]\nadmins = ["DEMO\\\\app-users"]'
    )
    file = write_settings(tmp_path, upstream, listen=f'admin = "127.0.0.1:{free_port()}"', more=console)
    async with gateway(file):
        listening = [one for one in await findings(file) if one.subject.startswith(("listen.", "console.bind"))]
    assert [one.level for one in listening] == ["ok", "ok", "ok"]
    assert all("a running gateway listens on" in one.what for one in listening)


@pytest.mark.parametrize(
    ("listen", "fault"),
    [
        ('admin = "127.0.0.1:{port}"', "admin: 127.0.0.1:{port} overlaps bind, 127.0.0.1:{port}"),
        ('admin = "0.0.0.0:{port}"', "admin: 0.0.0.0:{port} overlaps bind, 127.0.0.1:{port}"),
        ('admin = "127.1:{port}"', "admin: 127.1:{port} overlaps bind, 127.0.0.1:{port}"),
        ('admin = "0:{port}"', "admin: 0:{port} overlaps bind, 127.0.0.1:{port}"),
        ('admin = "LOCALHOST:{port}"', "admin: LOCALHOST:{port} overlaps bind, 127.0.0.1:{port}"),
        (
            'admin = "[0::0]:{other}"\nredirect_http = "[::1]:{other}"\n{tls}',
            "admin: [0::0]:{other} overlaps redirect_http, [::1]:{other}",
        ),
        (
            'admin = "unix:/run/./a"\nredirect_http = "unix:/run/a"\n{tls}',
            "admin: unix:/run/./a overlaps redirect_http, unix:/run/a",
        ),
        ('admin = "unix:/run/a"', ""),
        ('admin = "[::]:{port}"', ""),
        ('admin = "127.0.0.2:{port}"', ""),
    ],
)
def test_listeners_on_one_address_are_a_fault(tmp_path: Path, listen: str, fault: str) -> None:
    port = free_port()
    pem = tmp_path / "tls.pem"
    pem.touch()
    names = {"port": port, "other": free_port(), "tls": f'tls = {{ certificate = "{pem}", key = "{pem}" }}'}
    file = write_settings(tmp_path, 1, listen=listen.format(**names), port=port)
    if fault:
        with pytest.raises(ConfigError) as refused:
            config.read(file)
        assert fault.format(**names) in str(refused.value)
    else:
        config.read(file)


async def test_secret_that_every_user_can_read_is_warned_about(upstream: int, tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are closed to others
        Path(folder).chmod(0o755)
        secret = Path(folder) / "secret"
        secret.write_text("x", encoding="utf-8")
        file = write_settings(tmp_path, upstream, more=f'[forward_auth]\nsecret = {{ file = "{secret}" }}')
        for mode, expected in ((0o644, [("warn", "secrets")]), (0o640, [])):
            secret.chmod(mode)
            assert [(level, subject) for level, subject, _ in await told(file)] == expected
        secret.chmod(0o644)
        Path(folder).chmod(0o700)
        assert await told(file) == [], "others cannot enter the folder"


async def test_secret_that_every_user_can_replace_is_warned_about(upstream: int, tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        keys, link = Path(folder) / "keys", Path(folder) / "open" / "secret"
        keys.mkdir(mode=0o755)
        link.parent.mkdir(mode=0o755)
        secret = keys / "secret"
        secret.write_text("x", encoding="utf-8")
        secret.chmod(0o600)
        link.symlink_to(secret)
        file = write_settings(tmp_path, upstream, more=f'[forward_auth]\nsecret = {{ file = "{link}" }}')
        assert await told(file) == []
        for one in (secret, keys, link.parent):
            before = one.stat().st_mode
            one.chmod(before | stat.S_IWOTH)
            ((level, subject, words),) = await told(file)
            assert (level, subject, words.endswith(f"chmod o-w {one}")) == ("warn", "secrets", True)
            one.chmod(before)
        keys.chmod(0o1777)
        assert await told(file) == [], "in a folder like /tmp nobody can replace the files of others"


def test_faults_of_the_file_are_json_too(tmp_path: Path) -> None:
    file = write_settings(tmp_path, 1)
    file.write_text(file.read_text().replace("[session]", "[session]\nidel = 1"))
    result = CliRunner().invoke(main, ["check", "-c", str(file), "--json"])
    assert result.exit_code == 2
    (row,) = json.loads(result.stdout)
    assert (row["level"], row["subject"]) == ("fail", "settings")
    assert "did you mean 'idle'?" in row["what"]


async def test_long_paths_are_not_folded_in_a_pipe(tmp_path: Path) -> None:
    folder = tmp_path / ("long-" * 30)
    folder.mkdir()
    file = write_settings(folder, 1)
    code, out, _ = await calgate("check", "-c", str(file))
    assert code == 1
    assert f" in {folder}/users.toml " in out


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize(
    ("owner", "group", "mode", "command"),
    [
        (0, 0, 0o644, "chgrp 4242 {file} && chmod g+r,o= {file}"),
        (0, 4242, 0o604, "chgrp 4242 {file} && chmod g+r,o= {file}"),
        (0, 4242, 0o644, "chmod o= {file}"),
        (4242, 0, 0o604, "chmod o= {file}"),
    ],
)
def test_command_that_closes_a_file_leaves_it_readable_for_the_gateways_user(
    tmp_path: Path, owner: int, group: int, mode: int, command: str
) -> None:
    state, file = tmp_path / "state", tmp_path / "key"
    state.mkdir()
    os.chown(state, 4242, 4242)
    file.touch()
    file.chmod(mode)
    os.chown(file, owner, group)
    assert closing_command(file, state) == command.format(file=file)
    subprocess.run(closing_command(file, state), shell=True, check=True)
    found = file.stat()
    assert not found.st_mode & 0o007
    assert found.st_uid == 4242 or (found.st_gid == 4242 and found.st_mode & 0o040)
