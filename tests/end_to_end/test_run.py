"""`calgate run`: exit codes, error messages, starting while its dependencies are unreachable, stopping."""

import asyncio
import re
import socket
import ssl
import subprocess
from pathlib import Path

import pytest

from support.certificates import Authority
from support.gateway_process import (
    DocumentServer,
    Exchange,
    Gateway,
    calgate,
    cookie_of,
    curl,
    gateway,
    has_status,
    write_settings,
)
from support.ports import free_port
from support.redis_servers import KINDS, Server
from support.waiting import until


async def test_every_fault_of_the_file_is_reported_at_once_with_its_line(
    server: DocumentServer, tmp_path: Path
) -> None:
    settings = write_settings(tmp_path, server.port)
    text = settings.read_text()
    text = text.replace('contact = "help', 'contakt = "help').replace("[session]\n", '[session]\nidle = "soon"\n')
    text = text.replace('license = "demo"', 'license = "dem"')
    settings.write_text(text)
    code, _, err = await calgate("run", "-c", str(settings))
    lines = text.splitlines()
    assert code == 2
    assert "Traceback" not in err
    for key, words in {
        "contakt": "unknown key; did you mean 'contact'?",
        "idle": 'a duration is written like "30s"',
        'license = "dem"': "there is no [licenses.dem]; did you mean 'demo'?",
    }.items():
        line = next(n for n, text_line in enumerate(lines, 1) if text_line.startswith(key))
        assert re.search(rf"calgate.toml:{line}: .*{re.escape(words)}", err), err


@pytest.mark.parametrize(
    ("text", "words"),
    [("listen = [", "is not TOML"), ("", "listen: is missing")],
)
async def test_file_without_settings_is_exit_2(tmp_path: Path, text: str, words: str) -> None:
    settings = tmp_path / "calgate.toml"
    settings.write_text(text)
    code, _, err = await calgate("run", "-c", str(settings))
    assert code == 2
    assert words in err
    assert "Traceback" not in err


async def test_missing_file_is_exit_2_and_named(tmp_path: Path) -> None:
    code, _, err = await calgate("run", "-c", str(tmp_path / "none.toml"))
    assert code == 2
    assert "none.toml: cannot be read: No such file" in err


async def test_port_in_use_is_exit_1_and_names_the_setting(server: DocumentServer, tmp_path: Path) -> None:
    settings = write_settings(tmp_path, server.port)
    port = int(re.search(r'bind = "127.0.0.1:(\d+)"', settings.read_text())[1])  # type: ignore[index]
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        code, _, err = await calgate("run", "-c", str(settings))
    assert code == 1
    assert f"listen.bind: cannot listen on 127.0.0.1:{port}: another program already listens there" in err
    assert "Traceback" not in err


async def test_users_file_that_others_can_read_is_exit_1_with_the_remedy(
    server: DocumentServer, tmp_path: Path
) -> None:
    settings = write_settings(tmp_path, server.port)
    (tmp_path / "users.toml").chmod(0o644)
    code, _, err = await calgate("run", "-c", str(settings))
    assert code == 1
    assert "users.toml" in err
    assert "chmod 600" in err
    assert "Traceback" not in err


async def test_invalid_keytab_is_exit_1_and_named(server: DocumentServer, tmp_path: Path) -> None:
    (tmp_path / "http.keytab").write_bytes(b"no keytab")
    settings = write_settings(tmp_path, server.port)
    settings.write_text(settings.read_text().replace("[negotiate]", f'[negotiate]\nkeytab = "{tmp_path}/http.keytab"'))
    code, _, err = await calgate("run", "-c", str(settings))
    assert code == 1
    assert "keytab" in err
    assert "Traceback" not in err


async def test_gateway_without_its_store_is_ready_and_degraded_until_the_store_returns(
    server: DocumentServer, tmp_path: Path
) -> None:
    """All gateways share the store: a load balancer must not take all of them out at once because it is away."""
    store = Server(tmp_path / "redis", KINDS[min(KINDS)])
    admin = free_port()
    settings = write_settings(
        tmp_path, server.port, store=f'url = "{store.url}"', listen=f'admin = "127.0.0.1:{admin}"'
    )
    async with gateway(settings) as gate:
        await until(lambda: "ready on" in gate.log.read_text())
        health = await curl(f"{gate.url}/_calgate/health")
        assert (health.status, health.json) == (200, {"status": "ready", "degraded": ["store"]})
        strict = await curl(f"{gate.url}/_calgate/health?strict")
        assert (strict.status, strict.json) == (503, {"status": "starting", "missing": ["store"]})
        readyz = await curl(f"http://127.0.0.1:{admin}/readyz")
        assert (readyz.status, readyz.json["degraded"]) == (200, ["store"])
        assert (await curl(f"http://127.0.0.1:{admin}/readyz?strict")).status == 503
        metrics = (await curl(f"http://127.0.0.1:{admin}/metrics")).body.decode()
        assert 'calgate_dependency_up{dependency="store"} 0.0' in metrics
        assert 'calgate_refusals_total{code="store-unavailable",worker="0"} 0.0' in metrics, "from its start"
        reply = await curl(f"{gate.url}/portal", user="alice")
        assert (reply.status, reply.json["code"]) == (503, "store-unavailable")
        assert reply.values("retry-after")
        store.start()
        try:
            await until(lambda: has_status(curl(f"{gate.url}/_calgate/health?strict"), 200))
            assert (await curl(f"{gate.url}/portal", user="alice")).status == 200
        finally:
            store.stop()
        readyz = await curl(f"http://127.0.0.1:{admin}/readyz")
        assert readyz.status == 200, "the store ended again"


async def test_sigterm_lets_open_requests_finish_and_exits_0(gate: Gateway, server: DocumentServer) -> None:
    begun = asyncio.Event()

    async def slowly(exchange: Exchange) -> None:
        exchange.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
        begun.set()
        await asyncio.sleep(1)
        exchange.writer.write(b"world")

    cookie = await cookie_of(gate, "alice")
    server.behaviour = slowly
    asking = asyncio.create_task(curl(f"{gate.url}/slow", "-H", f"Cookie: {cookie}"))
    await begun.wait()
    code = await gate.stop()
    assert (await asking).body == b"helloworld"
    assert code == 0


async def test_sigterm_lets_an_upload_under_way_finish(gate: Gateway, server: DocumentServer) -> None:
    cookie = await cookie_of(gate, "alice")
    reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
    writer.write(f"POST /up HTTP/1.1\r\nHost: g\r\nCookie: {cookie}\r\nContent-Length: 10\r\n\r\nhello".encode())
    await asyncio.sleep(0.2)
    stopping = asyncio.create_task(gate.stop())
    await asyncio.sleep(0.3)
    writer.write(b"world")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    assert server.seen[-1].body == b"helloworld"
    assert await stopping == 0
    writer.close()


def certificate(folder: Path, name: str = "gate") -> tuple[Path, Path]:
    """A self-signed certificate for localhost and its key."""
    pem, key = folder / f"{name}.pem", folder / f"{name}.key"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
    ]
    command += ["-keyout", str(key), "-out", str(pem), "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True)
    return pem, key


async def test_tls_with_its_own_cookie_name_and_http_answered_with_the_https_address(
    server: DocumentServer, tmp_path: Path
) -> None:
    pem, key = certificate(tmp_path)
    plain = free_port()
    listen = f'tls = {{ certificate = "{pem}", key = "{key}" }}\nredirect_http = "127.0.0.1:{plain}"'
    async with gateway(write_settings(tmp_path, server.port, listen=listen)) as gate:
        reply = await curl(f"{gate.url}/portal", "--cacert", str(pem), user="alice")
        assert reply.status == 200
        (cookie,) = reply.values("set-cookie")
        assert cookie.startswith("__Host-calgate=")
        assert "Secure" in cookie
        assert server.seen[-1].values("x-forwarded-proto") == ["https"]
        session_id = cookie.partition("=")[2].partition(";")[0]
        other = await curl(f"{gate.url}/portal", "--cacert", str(pem), "-H", f"Cookie: calgate={session_id}")
        assert other.status == 401, "over https the plain name is not believed"
        redirect = await curl(f"http://127.0.0.1:{plain}/a?b=c")
        assert redirect.status == 308
        assert redirect.values("location") == [f"https://127.0.0.1:{gate.port}/a?b=c"]


async def test_a_renewed_certificate_is_served_without_a_restart(server: DocumentServer, tmp_path: Path) -> None:
    pem, key = certificate(tmp_path)
    listen = f'tls = {{ certificate = "{pem}", key = "{key}" }}'
    async with gateway(write_settings(tmp_path, server.port, listen=listen)) as gate:
        first = ssl.get_server_certificate(("127.0.0.1", gate.port))
        certificate(tmp_path)
        served = {first}
        for _ in range(80):  # every worker looks for itself
            served = {ssl.get_server_certificate(("127.0.0.1", gate.port)) for _ in range(12)}
            if first not in served:
                break
            await asyncio.sleep(0.1)
        assert served == {pem.read_text()}


async def test_forwarded_headers_are_believed_from_trusted_proxies_only(server: DocumentServer, tmp_path: Path) -> None:
    fields = ("-H", "X-Forwarded-For: 198.51.100.7", "-H", "X-Forwarded-Proto: https")
    async with gateway(write_settings(tmp_path, server.port, listen='trusted_proxies = ["127.0.0.1/32"]')) as gate:
        ntlm = await curl(f"{gate.url}/portal", *fields, user="alice")
        assert (ntlm.status, ntlm.json["code"]) == (401, "ntlm-behind-proxy"), "a proxy may carry many users"
        assert gate.decisions("sign-in failed")[-1]["address"] == "198.51.100.7"
        broken = await curl(f"{gate.url}/portal", "-H", "X-Forwarded-For: nonsense")
        assert broken.status == 400
    other = tmp_path / "other"
    other.mkdir()
    async with gateway(write_settings(other, server.port, listen='trusted_proxies = ["10.9.9.9/32"]')) as gate:
        assert (await curl(f"{gate.url}/portal", *fields, user="alice")).status == 200
        assert server.seen[-1].values("x-forwarded-for") == ["127.0.0.1"]
        assert server.seen[-1].values("x-forwarded-proto") == ["http"]


async def test_access_explain_shows_the_verdict_of_every_rule(gate: Gateway) -> None:
    code, out, _ = await calgate(
        "access", "explain", "DEMO\\alice", "-c", str(gate.settings), "--document", "Sales.qvw"
    )
    assert code == 0
    assert "app users" in out
    code, out, _ = await calgate("access", "explain", "mallory", "-c", str(gate.settings), "--json")
    assert code == 1
    assert '"verdict": "deny"' in out
    code, _, err = await calgate("access", "explain", "nobody", "-c", str(gate.settings))
    assert code == 1
    assert "nobody: no directory has this user" in err


async def test_gateway_warns_at_its_start_of_what_nothing_else_would_show(
    server: DocumentServer, tmp_path: Path
) -> None:
    expired = Authority(tmp_path, days=0).sign("bi.example")
    tls = f'tls = {{ certificate = "{expired.certificate}", key = "{expired.key}" }}'
    license = 'session = { in_license = 2, reserve = [{ group = "DEMO\\\\nobody", cals = 1 }] }'
    file = write_settings(tmp_path, server.port, listen=tls, license=license)
    file.write_text(re.sub(r"\[\[access\]\]\nname.*\ngroups.*\n", "", file.read_text()))
    async with gateway(file) as gate:
        logged = [str(line["event"]) for line in gate.decisions() if line["level"] == "warning"]
    assert f"listen.tls: {expired.certificate} has expired, so browsers refuse it; renew it" in logged
    assert "access: there is no rule, so every request is refused; add an [[access]] rule" in logged
    assert any(line.startswith("licenses: no directory has the group DEMO\\nobody") for line in logged)
