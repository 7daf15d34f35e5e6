"""The user in a PAC: a real one, and hostile ones."""

import base64
import json
import struct
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calgate.plugin.errors import AuthenticationFailed
from calgate_negotiate import pac

SEEDS = json.loads((Path(__file__).parents[1] / "fuzz" / "seeds.json").read_text())
ALICE, BOB = (base64.b64decode(seed) for seed in SEEDS["pac"])


def test_real_pac_has_name_sid_and_groups() -> None:
    alice = pac.read(ALICE)
    domain = alice.sid.rpartition("-")[0]
    assert (alice.account, alice.domain) == ("alice", "CORP")
    assert alice.sid not in alice.groups
    assert f"{domain}-513" in alice.groups, "the primary group"
    assert "S-1-18-1" in alice.groups, "an extra SID"
    assert len(alice.groups) == 8
    assert pac.read(BOB).account == "bob"


@pytest.mark.parametrize("buffer", [ALICE, BOB])
def test_truncated_pac_is_refused_at_any_length(buffer: bytes) -> None:
    whole = pac.read(buffer)
    for length in range(len(buffer) - 8):
        with pytest.raises(ValueError, match=r"PAC|decode"):
            pac.read(buffer[:length])
    assert pac.read(buffer + bytes(8)) == whole, "what follows is padding"


def test_disabled_group_is_ignored() -> None:
    """SE_GROUP_ENABLED is clear for deny-only groups of a filtered token (MS-PAC 2.2.1)."""
    alice = pac.read(ALICE)
    enabled = struct.pack("<I", 7)
    for rid in sorted(int(group.rpartition("-")[2]) for group in alice.groups if group.startswith(alice.sid[:20])):
        entry = struct.pack("<I", rid) + enabled
        if entry in ALICE and rid != 513:
            disabled = ALICE.replace(entry, struct.pack("<II", rid, 3))
            assert f"{alice.sid.rpartition('-')[0]}-{rid}" not in pac.read(disabled).groups
            return
    raise AssertionError("no group found")


def test_primary_group_counts_even_if_it_is_not_among_the_groups() -> None:
    alice = pac.read(ALICE)
    domain, _, rid = alice.sid.rpartition("-")
    ids = struct.pack("<II", int(rid), 513)  # UserId and PrimaryGroupId are adjacent
    assert ALICE.count(ids) == 1
    assert f"{domain}-777" in pac.read(ALICE.replace(ids, struct.pack("<II", int(rid), 777))).groups


def test_unsigned_pac_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    kerberos = pytest.importorskip("calgate_negotiate.kerberos", reason="python-gssapi is not installed")
    for is_signed in (True, False):
        attribute = SimpleNamespace(authenticated=is_signed, values=[ALICE])
        monkeypatch.setattr(kerberos.raw, "get_name_attribute", lambda _name, _what, found=attribute: found)
        if is_signed:
            assert kerberos._logon_info(None).account == "alice"
            continue
        with pytest.raises(AuthenticationFailed, match="not signed"):
            kerberos._logon_info(None)


@given(st.data())
@settings(max_examples=600)
def test_pac_reader_returns_or_raises_value_error_for_hostile_bytes(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(ALICE) - 1))
    spoiled = ALICE[:at] + data.draw(st.binary(max_size=12)) + ALICE[at + data.draw(st.integers(0, 12)) :]
    try:
        found = pac.read(spoiled)
    except ValueError:
        return
    assert found.account
    assert found.sid.startswith("S-")


def test_count_of_four_billion_is_refused_and_takes_no_memory() -> None:
    """Some of these positions are counts; the others are times or numbers that are not read."""
    refused = 0
    tracemalloc.start()
    for at in range(16, len(ALICE) - 4, 4):
        try:
            pac.read(ALICE[:at] + b"\xff\xff\xff\xff" + ALICE[at + 4 :])
        except ValueError:
            refused += 1
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert refused > 10
    assert peak < 100 * len(ALICE)
