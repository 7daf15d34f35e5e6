"""The explanation of a token for an administrator."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spnego._ntlm_raw.messages import Challenge, TargetInfo

from calgate.plugin.checks import Finding
from calgate_negotiate import spnego
from calgate_negotiate.explain import explain
from calgate_negotiate.spnego import KERBEROS, MS_KERBEROS, NTLM, NegState
from support.handshakes import ntlm_client
from support.tickets import in_spnego, ticket


def explained(token: bytes) -> list[tuple[str, str, str]]:
    return [(finding.level, finding.subject, finding.what) for finding in explain(token)]


def test_explanation_of_a_ticket_names_its_service_and_key() -> None:
    what = "a ticket for HTTP/gateway.corp.example@CORP.EXAMPLE, key version 3, aes256-cts"
    assert explained(ticket()) == [("ok", "Kerberos", what)]
    assert explained(in_spnego(ticket(), MS_KERBEROS, KERBEROS, NTLM)) == [
        ("ok", "SPNEGO", "a first token; offers Kerberos (Microsoft's OID), Kerberos, NTLM"),
        ("ok", "Kerberos", what),
    ]


def test_explanation_of_an_rc4_ticket_warns_and_names_aes() -> None:
    (finding,) = explain(ticket(enctype=23))
    assert (finding.level, "allow AES" in finding.remedy) == ("warn", True)


def test_explanation_of_ntlm_gives_the_reasons_for_the_fallback_from_kerberos() -> None:
    client = ntlm_client("DEMO\\alice")
    (first,) = explain(client.step())
    assert (first.level, first.subject) == ("warn", "NTLM")
    assert "the SPN is missing" in first.remedy
    challenge = Challenge(0x62898205, b"c" * 8, target_name="X", target_info=TargetInfo()).pack()
    assert explain(challenge) == [Finding("ok", "NTLM", "a server's challenge")]
    (last,) = explain(client.step(challenge))
    assert "DEMO\\alice from " in last.what
    assert "NTLMv2, without a MIC, not bound to a TLS connection" in last.what


def test_explanation_of_a_later_token_names_its_state() -> None:
    token = spnego.write(spnego.Response(NegState.REQUEST_MIC, NTLM))
    assert explained(token) == [
        ("ok", "SPNEGO", "a later token, state REQUEST_MIC"),
        ("note", "SPNEGO", "carries no token of any mechanism"),
    ]


@pytest.mark.parametrize("token", [b"", b"x", b"\x60\x00", b"NTLMSSP\0", ticket()[:-3]])
def test_explanation_of_other_bytes_is_a_failure(token: bytes) -> None:
    (finding,) = explain(token)
    assert finding.level == "fail"


@given(st.data())
@settings(max_examples=500)
def test_explanation_never_raises_for_hostile_bytes(data: st.DataObject) -> None:
    whole = data.draw(st.sampled_from([ticket(), in_spnego(ticket(), KERBEROS)]))
    at = data.draw(st.integers(0, len(whole) - 1))
    spoiled = whole[:at] + data.draw(st.binary(max_size=9)) + whole[at + data.draw(st.integers(0, 9)) :]
    assert explain(spoiled)
