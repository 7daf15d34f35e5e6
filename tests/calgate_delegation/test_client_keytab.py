"""The copy of the keytab under the account's own name."""

import stat
import struct
from pathlib import Path

import pytest

from calgate_delegation import client_keytab
from calgate_delegation.settings import Config


def counted(text: str) -> bytes:
    return struct.pack(">H", len(text)) + text.encode()


def entry(*components: str, realm: str = "CORP.EXAMPLE", key: bytes = b"k" * 32) -> bytes:
    body = struct.pack(">H", len(components)) + counted(realm) + b"".join(map(counted, components))
    body += struct.pack(">IIBHH", 1, 0, 3, 18, len(key)) + key + struct.pack(">I", 3)
    return struct.pack(">i", len(body)) + body


def test_keys_are_written_once_under_the_name_of_the_account(tmp_path: Path) -> None:
    """A KDC does not find a client by its SPN; a hole is an entry that was removed."""
    hole = struct.pack(">i", -8) + b"\0" * 8
    source, target = tmp_path / "http.keytab", tmp_path / "client.keytab"
    source.write_bytes(b"\x05\x02" + entry("HTTP", "bi.corp.example") + hole + entry("HTTP", "bi"))
    client_keytab.write(source, "svc@CORP.EXAMPLE", target)
    assert target.read_bytes() == b"\x05\x02" + entry("svc")
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


def test_copy_replaces_a_file_that_others_could_read(tmp_path: Path) -> None:
    source, target = tmp_path / "http.keytab", tmp_path / "client.keytab"
    source.write_bytes(b"\x05\x02" + entry("HTTP", "bi.corp.example"))
    target.write_bytes(b"old")
    target.chmod(0o644)
    client_keytab.write(source, "svc@CORP.EXAMPLE", target)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


@pytest.mark.parametrize("data", [b"", b"\x05\x01", b"\x05\x02", b"\x05\x02\0\0\0\x08\0\x02\0\xff\0\0\0\0"])
def test_file_without_a_usable_key_is_a_fault(tmp_path: Path, data: bytes) -> None:
    source = tmp_path / "http.keytab"
    source.write_bytes(data)
    with pytest.raises(ValueError, match=r"http\.keytab"):
        client_keytab.write(source, "svc@CORP.EXAMPLE", tmp_path / "client.keytab")


@pytest.mark.parametrize("account", ["svc", "HTTP/bi@CORP.EXAMPLE", "CORP\\svc", "svc@", "a@b@c"])
def test_account_without_a_realm_is_a_fault_with_an_example(account: str) -> None:
    with pytest.raises(ValueError, match=r"svc-calgate@CORP\.EXAMPLE"):
        Config(keytab=Path("/k"), account=account)


def test_service_is_the_one_of_the_host_unless_a_farm_has_one_name() -> None:
    settings = Config(keytab=Path("/k"), account="svc@corp.example")
    assert (settings.realm, settings.service_on("qvws1")) == ("CORP.EXAMPLE", "HTTP/qvws1")
    farm = Config(keytab=Path("/k"), account="svc@corp.example", service="HTTP/qlik.corp.example")
    assert farm.service_on("qvws1") == "HTTP/qlik.corp.example"
