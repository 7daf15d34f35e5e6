"""Reading the entries of a keytab."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calgate_negotiate import keytab
from calgate_negotiate.keytab import Key
from support import keytabs


def test_keytab_entries_are_read_without_their_keys(tmp_path: Path) -> None:
    file = keytabs.write(
        tmp_path / "k",
        keytabs.entry("HTTP/gateway.corp.example", 3, keytabs.AES256),
        keytabs.entry("HTTP/gateway.corp.example", 300, keytabs.AES128),
        b"\xff\xff\xff\xf0" + bytes(16),  # a hole, where an entry was removed
        keytabs.entry("host/gateway", 1, keytabs.RC4, key=b"s" * 16),
    )
    assert keytab.read(file) == [
        Key("HTTP/gateway.corp.example", keytabs.REALM, 3, 18),
        Key("HTTP/gateway.corp.example", keytabs.REALM, 300, 17),
        Key("host/gateway", keytabs.REALM, 1, 23),
    ]
    assert "ssss" not in repr(keytab.read(file))


@pytest.mark.parametrize("content", [b"", b"\x05\x01", b"not a keytab"])
def test_other_file_is_refused_as_not_a_keytab(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "k"
    file.write_bytes(content)
    with pytest.raises(ValueError, match="not a keytab"):
        keytab.read(file)


@given(st.binary(max_size=120), st.integers(0, 80))
@settings(max_examples=300)
def test_keytab_reader_returns_or_raises_value_error_for_hostile_bytes(tmp_path: Path, garbage: bytes, at: int) -> None:
    whole = b"\x05\x02" + keytabs.entry("HTTP/gateway.corp.example")
    file = tmp_path / "k"
    file.write_bytes(whole[: at + 2] + garbage)
    try:
        keytab.read(file)
    except ValueError:
        return


@pytest.mark.parametrize(
    ("error", "remedy", "harmful"),
    [
        (PermissionError(13, "Permission denied"), "let the gateway's user read it", "export"),
        (FileNotFoundError(2, "No such file or directory"), "export it with ktpass", "chmod"),
        (IsADirectoryError(21, "Is a directory"), "make it a file", "export"),
    ],
)
def test_remedy_for_an_unreadable_keytab_never_resets_its_password(error: OSError, remedy: str, harmful: str) -> None:
    """ktpass sets the account's password again and raises the key version, so it is for a missing keytab only."""
    said = keytab.why_unreadable(Path("/etc/calgate/http.keytab"), error)
    assert remedy in said
    assert harmful not in said
    assert str(error.strerror) in said
