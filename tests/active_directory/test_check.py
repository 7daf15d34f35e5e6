"""`calgate check` on a real domain: no warning if it is healthy, one line for each fault and no other."""

import json
from pathlib import Path

import pytest

from calgate import config
from calgate.commands import checks as checking
from support.certificates import Authority
from support.check_settings import ALICE, LDAPS, Report, Write, findings, report, write
from support.domain import BASE, DOMAIN, HOST, PASSWORD, Lab, run
from support.gateway_process import calgate
from support.ports import free_port

__all__ = ["write"]  # a fixture


async def test_check_of_a_healthy_domain_has_no_warning_and_accepts_a_ticket(write: Write) -> None:
    found = await findings(write())
    assert [f for f in found if f.level != "ok"] == []
    what = {f.subject: f.what for f in found}
    assert {"keytab", "clock", "DNS", "SPN", "ticket", "winbindd", "guard", "groups", "access", "store"} <= set(what)
    assert "CORP\\alice" in what["ticket"]
    assert f"HTTP/{HOST} is held by gateway" in what["SPN"]


async def test_check_without_host_and_user_notes_what_it_did_not_try(write: Write) -> None:
    file = write()
    file.write_text(file.read_text().replace(f'host = "{HOST}"\n', ""))
    found = await findings(file, None)
    assert [(f.level, f.subject, f.remedy) for f in found if f.level != "ok"] == [
        ("note", "SPN", "give --host NAME"),
        ("note", "ticket", "give --as USER to try one from end to end"),
    ]


async def test_check_command_prints_a_table_or_json_and_exits_1_after_a_failure(write: Write) -> None:
    file = write()
    code, out, errors = await calgate("check", "-c", str(file), "--json")
    assert (code, errors) == (0, "")
    assert {row["level"] for row in json.loads(out)} <= {"ok", "note"}
    code, out, _ = await calgate("check", "-c", str(write(upstream="1")))
    assert code == 1
    assert "FAILS" in out
    assert "start the document server" in out


async def test_check_command_marks_untried_checks_and_does_not_count_them_as_failures(
    write: Write, tmp_path: Path
) -> None:
    file = write(ca=str(Authority(tmp_path, "Another CA").file))
    code, out, errors = await calgate("check", "-c", str(file), "--json")
    assert (code, errors) == (1, "")
    levels = [row["level"] for row in json.loads(out)]
    assert (levels.count("fail"), levels.count("untried"), levels.count("warn")) == (1, 5, 0)
    code, out, _ = await calgate("check", "-c", str(file))
    assert (code, out.count("FAILS"), out.count("not tried")) == (1, 1, 5)


# ---------------------------------------------------------------- the directory

_WITHOUT_DIRECTORY = ["licenses", "clock", "SPN", "ticket", "guard", "access"]


async def test_check_reports_a_certificate_of_another_ca(write: Write, tmp_path: Path) -> None:
    found = await report(write(ca=str(Authority(tmp_path, "Another CA").file)))
    assert found.only("fail", f"{LDAPS}:636", "certificate is not accepted", "check ldap.ca") == _WITHOUT_DIRECTORY


async def test_check_reports_a_fault_of_all_servers_once(write: Write, tmp_path: Path) -> None:
    """Name and address are the same server here, and both are in its certificate."""
    by_address = "ldaps://127.0.0.53"
    found = await report(write(servers=f'"{LDAPS}", "{by_address}"', ca=str(Authority(tmp_path, "Another CA").file)))
    assert found.only("fail", f"{LDAPS}:636, {by_address}:636", "check ldap.ca") == _WITHOUT_DIRECTORY


async def test_check_reports_a_ca_file_without_a_certificate(write: Write, tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("")
    assert (await report(write(ca=str(tmp_path / "empty.pem")))).only("fail", "start", "give the CA's certificate") == [
        "plugins"
    ]


async def test_check_reports_a_stopped_domain_controller_once(domain: Lab, write: Write) -> None:
    domain.do("dc", "stop")
    try:
        found = await report(write())
    finally:
        domain.do("dc", "start")
    untried = found.only("fail", f"{LDAPS}:636", "check the name, the port, and the firewall")
    assert untried == ["licenses", "clock", "SPN", "ticket", "winbindd", "guard", "access"]


async def test_check_reports_a_domain_controller_that_stops_meanwhile_once(domain: Lab, write: Write) -> None:
    found = []
    try:
        async for finding in checking.check(config.read(write()), (), ALICE):
            found.append(finding)
            if finding.subject == "keytab":  # the directory has been checked, and is compared with next
                domain.do("dc", "stop")
    finally:
        domain.do("dc", "start")
    untried = Report(found).only("fail", "directory", "no reply about clock", "check the domain controllers")
    assert untried == ["SPN", "ticket", "winbindd", "guard", "access"]


async def test_check_reports_one_stopped_server_and_uses_the_other(write: Write) -> None:
    off = f"ldaps://dc1.{DOMAIN}:{free_port()}"
    found = await report(write(servers=f'"{off}", "{LDAPS}"'))
    assert found.only("fail", off, "check the name, the port, and the firewall") == []


async def test_check_reports_a_base_that_is_not_a_domain(write: Write) -> None:
    found = await report(write(base="OU=nowhere,DC=corp,DC=example,DC=test"))
    assert found.only("fail", f"{LDAPS}:636", "is not a domain's DN") == _WITHOUT_DIRECTORY


async def test_check_reports_a_wrong_bind_password_after_one_attempt(domain: Lab, write: Write, tmp_path: Path) -> None:
    file = write()
    (tmp_path / "secret").write_text("wrong")
    found = await report(file)
    assert found.only("fail", f"{LDAPS}:636", "refuses ldap.bind's user or password") == _WITHOUT_DIRECTORY
    assert "badPwdCount: 1\n" in domain.samba_tool("user", "show", "gateway", "--attributes=badPwdCount")


@pytest.mark.parametrize(
    ("login", "words"),
    [
        (("disabled", PASSWORD), "is disabled → look at the account"),
        (("nobody", PASSWORD), "is not found below"),
    ],
)
async def test_check_reports_a_user_who_cannot_sign_in(write: Write, login: tuple[str, str], words: str) -> None:
    assert (await report(write(), login)).only("fail", "groups", words) == ["ticket"]


async def test_check_reports_an_unknown_group(write: Write) -> None:
    file = write()
    file.write_text(file.read_text().replace("app-users", "ap-users"))
    assert (await report(file)).only("fail", "access", "no directory has the group CORP\\ap-users") == []


@pytest.mark.parametrize(
    ("user", "words"),
    [
        ("CORP\\\\nobody", "no directory has the user"),
        (f"{DOMAIN}\\\\alice", "who is called CORP\\alice: the rule never applies → write CORP\\alice"),
    ],
)
async def test_check_warns_about_a_user_whom_a_rule_never_matches(write: Write, user: str, words: str) -> None:
    file = write()
    file.write_text(file.read_text().replace('groups = ["CORP', f'users = ["{user}"]\ngroups = ["CORP', 1))
    assert (await report(file)).only("warn", "access", words) == []


async def test_check_hints_at_the_pre_windows_2000_name_of_a_group(domain: Lab, write: Write) -> None:
    domain.samba_tool("group", "add", "short-name")
    dn = f"CN=short-name,CN=Users,{BASE}"
    change = f"dn: {dn}\nchangetype: modify\nreplace: displayName\ndisplayName: A Long Name\n"
    run("ldbmodify", "-H", str(domain.folder / "dc/private/sam.ldb"), stdin=change)
    try:
        file = write()
        file.write_text(file.read_text().replace("app-users", "A Long Name"))
        assert (await report(file)).only(
            "fail", "access", f"the pre-Windows 2000 name of {dn} is CORP\\short-name"
        ) == []
    finally:
        domain.samba_tool("group", "delete", "short-name")


# ---------------------------------------------------------------- the rest of the file


async def test_check_reports_our_certificate_for_another_name(write: Write, tmp_path: Path) -> None:
    signed = Authority(tmp_path).sign("other.example")
    tls = f'tls = {{ certificate = "{signed.certificate}", key = "{signed.key}" }}'
    assert (await report(write(listen=tls))).only("fail", "certificate", f"is not for {HOST}") == []


async def test_check_reports_a_stopped_document_server(write: Write) -> None:
    assert (await report(write(upstream="1"))).only("fail", "http://127.0.0.1:1", "start the document server") == []


async def test_check_reports_a_stopped_store(write: Write, tmp_path: Path) -> None:
    found = await report(write(store=f'url = "unix://{tmp_path}/nowhere"'))
    assert found.only("fail", "store", "start it, or correct [store]") == ["licenses"]
