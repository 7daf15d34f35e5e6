"""The one parser of user and group names."""

import pytest

from calgate.plugin.identity import Identity
from calgate.plugin.names import Name, identity_of, parse_group, parse_user

DN = "CN=Sales\\, EMEA,OU=Groups,DC=corp,DC=example"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("CORP\\alice", Name("qualified", "alice", "CORP")),
        ("corp.example\\alice", Name("qualified", "alice", "corp.example")),
        ("alice@corp.example", Name("upn", "alice", "corp.example")),
        ("a@b@corp.example", Name("upn", "a@b", "corp.example")),
        ("CORP\\a@b", Name("qualified", "a@b", "CORP")),
        ("alice", Name("bare", "alice")),
        ("s-1-5-21-1-2-3-1001", Name("sid", "S-1-5-21-1-2-3-1001")),
        ("S-1-5-", Name("bare", "S-1-5-")),
        (DN, Name("dn", DN)),
        ("cn=alice\\2C b,DC=x", Name("dn", "cn=alice\\2C b,DC=x")),
        ("2.5.4.3=alice,DC=x", Name("dn", "2.5.4.3=alice,DC=x")),
        (" CORP \\ alice ", Name("qualified", "alice", "CORP")),
        (" alice @ corp.example ", Name("upn", "alice", "corp.example")),
        ("\tS-1-5-21-1-2-3-1001 ", Name("sid", "S-1-5-21-1-2-3-1001")),
        (" CN=alice\\ ,DC=x ", Name("dn", "CN=alice\\ ,DC=x")),
        ("DC=x,CN=alice\\ ", Name("dn", "DC=x,CN=alice\\ ")),
        ("CORP/alice", Name("qualified", "alice", "CORP")),
        ("CORP / alice", Name("qualified", "alice", "CORP")),
        ("HTTP/bi@CORP.EXAMPLE", Name("upn", "HTTP/bi", "CORP.EXAMPLE")),
        ("/alice", Name("bare", "/alice")),
    ],
)
def test_user_name_is_parsed_by_its_form(text: str, name: Name) -> None:
    assert parse_user(text) == name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("BI Users", Name("bare", "BI Users")),
        ("team@work", Name("bare", "team@work")),
        ("CORP\\BI Users", Name("qualified", "BI Users", "CORP")),
        (" CORP\\ BI Users ", Name("qualified", "BI Users", "CORP")),
        ("R/D", Name("bare", "R/D")),
        (DN, Name("dn", DN)),
    ],
)
def test_group_name_is_never_a_upn(text: str, name: Name) -> None:
    assert parse_group(text) == name


def test_identity_of_a_typed_name_has_no_mechanism() -> None:
    assert identity_of("CORP\\alice") == Identity("CORP", "alice", "")
    assert identity_of("alice@corp.example") == Identity("corp.example", "alice", "")
    assert identity_of("S-1-5-21-1-2-3-1001") == Identity("", "", "", sid="S-1-5-21-1-2-3-1001")
