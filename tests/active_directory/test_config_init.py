"""`calgate config init` for the lab's domain: what it writes is understood by `calgate check`, step by step."""

import json
import shutil
from pathlib import Path

import pytest

from support.certificates import Authority
from support.dns_server import dns_server
from support.domain import DOMAIN, HOST, SERVICE_PASSWORD, Lab
from support.gateway_process import calgate

RECORDS = {f"{name}.{DOMAIN}": [f"0 100 389 dc1.{DOMAIN}."] for name in ("_ldap._tcp.dc._msdcs", "_kerberos._tcp")}


@pytest.mark.usefixtures("inside")
async def test_first_file_finds_the_domain_once_the_steps_that_remain_are_done(domain: Lab, tmp_path: Path) -> None:
    file = tmp_path / "calgate.toml"
    words = ("--host", HOST, "--upstreams", "http://127.0.0.1:1", "--group", "CORP\\app-users", "--named", "1")
    with dns_server(RECORDS) as address:
        code, out, errors = await calgate(
            *("config", "init", DOMAIN, "--dns", address, "-c", str(file)),
            *(*words, "--session", "2", "--reader", f"gateway@{DOMAIN}"),
        )
    assert (code, errors) == (0, ""), out
    code, out, _ = await calgate("check", "-c", str(file), "--json")
    assert code == 2, "the files that the steps name do not exist yet"
    Authority(tmp_path).sign(HOST)  # under the names that the file has
    shutil.copy(domain.keytab, tmp_path / "http.keytab")
    shutil.copy(domain.ca, tmp_path / "ad-ca.pem")
    (tmp_path / "ldap.secret").write_text(SERVICE_PASSWORD, encoding="utf-8")
    text = file.read_text(encoding="utf-8").replace('"/var/lib/calgate"', f'"{tmp_path}/state"')
    file.write_text(text, encoding="utf-8")
    code, out, errors = await calgate("check", "-c", str(file), "--json")
    levels = {row["subject"]: row["level"] for row in json.loads(out)}
    assert {levels[name] for name in ("keytab", "SPN", "clock", "DNS", "store")} == {"ok"}, out
    failed = [row["subject"] for row in json.loads(out) if row["level"] == "fail"]
    assert failed == ["http://127.0.0.1:1"], "only the document server is missing"
