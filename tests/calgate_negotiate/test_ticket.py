"""The ticket in a Negotiate token."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calgate.plugin.errors import AuthenticationFailed
from calgate_negotiate import der, spnego
from calgate_negotiate.channel_binding import ExpectedBinding
from calgate_negotiate.spnego import KERBEROS, MS_KERBEROS, NTLM, Response
from calgate_negotiate.ticket import Ticket, presented
from support.tickets import in_spnego, ticket

TICKET = Ticket("CORP.EXAMPLE", "HTTP/gateway.corp.example", 3, 23)


@pytest.mark.parametrize(
    "token",
    [
        ticket(enctype=23),
        in_spnego(ticket(enctype=23), KERBEROS),
        in_spnego(ticket(enctype=23), MS_KERBEROS, KERBEROS, NTLM),
        spnego.write(Response(token=ticket(enctype=23))),
    ],
)
def test_ticket_is_found_in_every_wrapping(token: bytes) -> None:
    assert presented(token) == TICKET


@pytest.mark.parametrize(
    "token", [in_spnego(ticket(), NTLM, KERBEROS), in_spnego(ticket()), spnego.write(Response(mic=b"signed"))]
)
def test_no_ticket_is_found_in_a_token_for_another_mechanism_or_a_signature(token: bytes) -> None:
    assert presented(token) is None


def test_token_that_could_be_read_in_two_ways_is_refused() -> None:
    """A second ticket, which the library might use instead of the first; and any bytes before the request."""
    whole = ticket()
    request = whole[whole.index(b"\x6e") :]
    fields = der.expect(0x30, der.expect(0x6E, request))
    (shown,) = [value for tag, value in der.elements(fields) if tag == 0xA3]
    doubled = der.pack(0x6E, der.pack(0x30, fields + der.pack(0xA3, shown)))
    for body in (doubled, b"\x00" + request, b""):
        with pytest.raises(ValueError, match=r"."):
            presented(der.pack(0x60, KERBEROS + b"\1\0" + body))


@pytest.mark.parametrize("service", [b"x" * 30_000, b"gateway\n.example", "gateway\u202e".encode(), "\u009b".encode()])
@pytest.mark.parametrize("enctype", [18, 23])
def test_name_that_would_flood_or_forge_the_log_is_refused_and_not_repeated(service: bytes, enctype: int) -> None:
    for token in (ticket(service, enctype=enctype), in_spnego(ticket(service, enctype=enctype), KERBEROS)):
        with pytest.raises(ValueError, match="cannot be a real one") as caught:
            presented(token)
        assert len(str(caught.value)) < 200
        assert str(caught.value).isascii()


def test_reason_of_a_refused_ticket_is_short() -> None:
    kerberos = pytest.importorskip("calgate_negotiate.kerberos", reason="python-gssapi is not installed")
    acceptance = kerberos.KerberosAcceptance(None, ExpectedBinding("off", None), None)
    with pytest.raises(AuthenticationFailed) as caught:
        acceptance.step_blocking(ticket(b"x" * 30_000))
    assert len(caught.value.detail) < 300
    assert len(kerberos.explain("x" * 30_000)) < 700


@given(st.data())
@settings(max_examples=500)
def test_ticket_reader_returns_or_raises_value_error_for_hostile_bytes(data: st.DataObject) -> None:
    whole = data.draw(st.sampled_from([ticket(), in_spnego(ticket(), KERBEROS)]))
    at = data.draw(st.integers(0, len(whole) - 1))
    spoiled = whole[:at] + data.draw(st.binary(max_size=9)) + whole[at + data.draw(st.integers(0, 9)) :]
    with contextlib.suppress(ValueError):
        assert isinstance(presented(spoiled), Ticket | None)
