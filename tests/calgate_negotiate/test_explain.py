"""Tokens in words."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spnego._ntlm_raw.messages import Challenge, TargetInfo

from calgate.plugin.checks import Finding
from calgate_negotiate import spnego
from calgate_negotiate.explain import explain
from calgate_negotiate.spnego import KERBEROS, MS_KERBEROS, NTLM, State
from support.handshakes import ntlm_client
from support.tickets import in_spnego, ticket


def told(token: bytes) -> list[tuple[str, str, str]]:
    return [(finding.level, finding.subject, finding.what) for finding in explain(token)]


def test_a_ticket_says_for_whom_and_under_which_key() -> None:
    what = "a ticket for HTTP/gateway.corp.example@CORP.EXAMPLE, key version 3, aes256-cts"
    assert told(ticket()) == [("ok", "Kerberos", what)]
    assert told(in_spnego(ticket(), MS_KERBEROS, KERBEROS, NTLM)) == [
        ("ok", "SPNEGO", "a first token; offers Kerberos (Microsoft's number), Kerberos, NTLM"),
        ("ok", "Kerberos", what),
    ]


def test_an_rc4_ticket_is_warned_about() -> None:
    (finding,) = explain(ticket(enctype=23))
    assert (finding.level, "allow AES" in finding.remedy) == ("warn", True)


def test_ntlm_is_told_with_the_reasons_why_it_was_not_kerberos() -> None:
    client = ntlm_client("DEMO\\alice")
    (first,) = explain(client.step())
    assert (first.level, first.subject) == ("warn", "NTLM")
    assert "the SPN is missing" in first.remedy
    challenge = Challenge(0x62898205, b"c" * 8, target_name="X", target_info=TargetInfo()).pack()
    assert explain(challenge) == [Finding("ok", "NTLM", "a server's challenge")]
    (last,) = explain(client.step(challenge))
    assert "DEMO\\alice from " in last.what
    assert "NTLMv2, without a MIC, bound to nothing" in last.what


def test_a_later_token_is_told() -> None:
    token = spnego.write(spnego.Response(State.REQUEST_MIC, NTLM))
    assert told(token) == [
        ("ok", "SPNEGO", "a later token, state REQUEST_MIC"),
        ("note", "SPNEGO", "carries no token of a mechanism"),
    ]


@pytest.mark.parametrize("token", [b"", b"x", b"\x60\x00", b"NTLMSSP\0", ticket()[:-3]])
def test_what_is_no_token_says_so(token: bytes) -> None:
    (finding,) = explain(token)
    assert finding.level == "fail"


@given(st.data())
@settings(max_examples=500, deadline=None)
def test_any_bytes_are_explained_without_a_traceback(data: st.DataObject) -> None:
    whole = data.draw(st.sampled_from([ticket(), in_spnego(ticket(), KERBEROS)]))
    at = data.draw(st.integers(0, len(whole) - 1))
    spoiled = whole[:at] + data.draw(st.binary(max_size=9)) + whole[at + data.draw(st.integers(0, 9)) :]
    assert explain(spoiled)
