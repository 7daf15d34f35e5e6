"""The files in `deploy/` are read without a fault by the gateway, systemd, Redis, nginx and HAProxy."""

import asyncio
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError

from calgate import config
from calgate.access.warnings import warnings
from calgate.cli import main
from support.ports import free_port

DEPLOY = Path(__file__).parents[2] / "deploy"


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    """Makes the files that the example names, in a folder of the test."""
    for name in (
        "bi.pem",
        "bi.key",
        "old-name.pem",
        "old-name.key",
        "http.keytab",
        "ad-ca.pem",
        "ldap.secret",
        "oidc.secret",
        "forward-auth.secret",
        "terminator.pem",
    ):
        (tmp_path / name).write_text("x", encoding="utf-8")
    return tmp_path


def example(etc: Path) -> str:
    return (DEPLOY / "calgate.toml").read_text(encoding="utf-8").replace("/etc/calgate", str(etc))


def test_example_settings_have_no_fault_and_no_warning(etc: Path) -> None:
    file = etc / "calgate.toml"
    file.write_text(example(etc), encoding="utf-8")
    settings = config.read(file)
    assert [rule.name for rule in settings.core.access][-1] == "everybody in BI"
    assert warnings(settings.core.access) == []


def test_example_settings_have_no_fault_with_every_comment_uncommented(etc: Path) -> None:
    text = re.sub(r"^# (?=\[\w+\]$|\[\[[\w.]+\]\]|[a-z_]+ = )", "", example(etc), flags=re.MULTILINE)
    assert text.count("\n[users]\n") == 1
    assert text.count("\n[store]\n") == 1
    for name in ("pages", "languages"):
        (etc / name).mkdir()
    (etc / "logo.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>', encoding="utf-8")
    file = etc / "calgate.toml"
    file.write_text(text, encoding="utf-8")
    settings = config.read(file)
    assert settings.core.store.url is not None
    assert settings.core.session.embed_in == ("https://portal.corp.example",)


def test_unit_is_accepted_by_systemd(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd")
    unit = tmp_path / "calgate.service"
    text = (DEPLOY / "calgate.service").read_text(encoding="utf-8")
    unit.write_text(text.replace("/opt/calgate/bin/calgate", "/bin/true"), encoding="utf-8")
    activation = DEPLOY / "calgate.socket"
    shutil.copy(activation, tmp_path)
    # the manual pages come with the package, and are not installed here
    verify: list[str | Path] = ["systemd-analyze", "verify", "--man=no", unit, tmp_path / activation.name]
    done = subprocess.run(verify, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    security: list[str | Path] = ["systemd-analyze", "security", "--offline=true", "--threshold=20", unit]
    assert subprocess.run(security, capture_output=True, check=False).returncode == 0, "exposure above 2.0 of 10"


def commands_of(text: str) -> list[list[str]]:
    """The commands of calgate that a unit runs, without the settings file."""
    found = re.findall(r"^ExecStart=/opt/calgate/bin/calgate (.*)$", text, re.MULTILINE)
    return [line.removesuffix(" -c /etc/calgate/calgate.toml").split() for line in found]


def test_timers_and_their_units_are_accepted_by_systemd_and_run_commands_that_exist(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd")
    files = sorted((DEPLOY / "systemd").iterdir())
    for file in files:
        text = file.read_text(encoding="utf-8")
        for words in commands_of(text):
            run = CliRunner().invoke(main, [*words, "--help"])
            assert run.exit_code == 0, (file.name, run.output)
        text = re.sub(r"/opt/calgate/bin/calgate|/usr/bin/mail(?= -s .* -A)", "/bin/true", text)
        (tmp_path / file.name).write_text(text, encoding="utf-8")
    units = [tmp_path / file.name.replace("@.", "@calgate-check.service.") for file in files]
    (tmp_path / "calgate-mail@.service").rename(tmp_path / "calgate-mail@calgate-check.service.service")
    verify: list[str | Path] = ["systemd-analyze", "verify", "--man=no", *units]
    environment = {**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"}
    done = subprocess.run(verify, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    timers = {file.stem for file in files if file.suffix == ".timer"}
    assert timers <= {file.stem for file in files if file.suffix == ".service"}
    assert len(timers) == 3


def test_health_check_of_the_composition_fails_only_if_nothing_listens() -> None:
    composition = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    gateway = composition["services"]["gateway"]
    words = gateway["healthcheck"]["test"]
    assert words[:2] == ["CMD", "/opt/calgate/bin/python"]
    assert gateway["ports"] == ["443:8443"]
    with socket.create_server(("127.0.0.1", free_port())) as listening:
        port = str(listening.getsockname()[1])
        check = [sys.executable, *(word.replace("8443", port) for word in words[2:])]
        assert subprocess.run(check, check=False).returncode == 0
    assert subprocess.run(check, capture_output=True, check=False).returncode == 1


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[int]:
    """Starts a server with this file, on another port and in another folder."""
    port = free_port()
    command: list[str | Path] = [
        "redis-server",
        DEPLOY / "redis.conf",
        "--port",
        str(port),
        "--dir",
        tmp_path,
        "--save",
        "",
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    yield port
    process.terminate()
    process.wait(10)


async def test_redis_user_of_the_gateway_may_do_its_work_and_no_more(redis: int) -> None:
    client = Redis(port=redis, username="calgate", password="CHANGE-ME")
    async with asyncio.timeout(10):
        while True:
            try:
                await client.ping()
                break
            except OSError:
                await asyncio.sleep(0.02)
    body = "redis.register_function('f', function(keys) return redis.call('INCR', keys[1]) end)"
    await client.function_load(f"#!lua name=calgate_try\n{body}")
    assert await client.fcall("f", 1, "calgate:{qlikview}:n") == 1
    await client.publish("calgate:news", "x")
    for forbidden in (["GET", "other"], ["CONFIG", "GET", "*"], ["FLUSHALL"], ["PUBLISH", "other", "x"], ["SHUTDOWN"]):
        with pytest.raises(NoPermissionError):
            await client.execute_command(*forbidden)
    await client.aclose()


def test_example_is_accepted_by_nginx(tmp_path: Path, certificate: Path) -> None:
    if shutil.which("nginx") is None:
        pytest.skip("needs nginx-light")
    text = (DEPLOY / "proxy/nginx.conf").read_text(encoding="utf-8")
    text = text.replace("/etc/nginx/bi.pem", str(certificate)).replace("/etc/nginx/bi.key", str(certificate))
    file = tmp_path / "nginx.conf"
    file.write_text(
        f"pid {tmp_path}/pid; error_log stderr; events {{}} http {{ access_log off; {text} }}", encoding="utf-8"
    )
    assert "test is successful" in said(["nginx", "-t", "-c", file])


def test_example_is_accepted_by_haproxy(tmp_path: Path, certificate: Path) -> None:
    if shutil.which("haproxy") is None:
        pytest.skip("needs haproxy")
    file = tmp_path / "haproxy.cfg"
    text = (DEPLOY / "proxy/haproxy.cfg").read_text(encoding="utf-8")
    file.write_text(text.replace("/etc/haproxy/bi.pem", str(certificate)), encoding="utf-8")
    assert "valid" in said(["haproxy", "-c", "-f", file])


def said(command: list[str | Path]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr
