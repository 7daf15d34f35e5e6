"""Hostile bytes for every reader of a client's tokens and forms, guided by coverage (atheris). `make fuzz` runs it.

    python tests/fuzz/tokens.py TARGET [--plant] [libFuzzer's own options, such as -runs=1000000]

TARGET is a key of TARGETS. A finding is any exception but the documented refusals, an input that takes five seconds, or
memory that grows. Seeds are real tokens (seeds.json). --plant breaks a bounds check, which the fuzzer must find.
"""

import base64
import json
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import atheris

with atheris.instrument_imports(
    include=[
        *("calgate_negotiate", "calgate_oidc", "spnego", "calgate.endpoints.sign_in_pages"),
        *("calgate.authentication.handshakes", "calgate.authentication.notes", "calgate.authentication.anonymous"),
    ]
):
    import spnego._ntlm_raw.messages

    from calgate.authentication import anonymous, handshakes, notes
    from calgate.endpoints import sign_in_pages
    from calgate_negotiate import channel_binding, handshake, ntlm, ntlm_messages, pac, password_change, spnego, ticket
    from calgate_negotiate.explain import explain
    from calgate_negotiate.password_names import PasswordName
    from calgate_oidc import discovery, person, provider, tokens
    from calgate_oidc.settings import Config as OidcConfig

import contextlib
from types import SimpleNamespace

from joserfc import jws
from joserfc.jwk import ECKey

from calgate.authentication.settings import SessionSection
from calgate.commands.check import explain as explain_text
from calgate.endpoints import PREFIX
from calgate.http.headers import Cookies, RequestHeaders
from calgate.plugin.errors import Refusal, TooLarge
from calgate.plugin.identity import Identity, NtlmAttempt, NtlmProof, Peer

SEEDS = Path(__file__).with_name("seeds.json")
FOUND = Path(".fuzz")  # findings, and inputs that reach new code, kept from run to run
PEER = Peer("192.0.2.7", behind_proxy=False)


class AcceptingVerifier:
    """An NTLM verifier that accepts every proof, so that the code after it is reached."""

    async def names(self) -> ntlm_messages.Names:
        return ntlm_messages.Names("DEMO", "CALGATE")

    async def verify(self, attempt: NtlmAttempt) -> NtlmProof:
        return NtlmProof(Identity(attempt.domain, attempt.account, "ntlm"), bytes(16))

    def canonical(self, attempt: NtlmAttempt) -> str:
        return attempt.account


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """Runs a coroutine that never waits, and returns its result."""
    try:
        work.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("the coroutine waits")


def shake(scheme: str, *tokens: bytes) -> None:
    """Takes a handshake through these tokens; every Refusal is fine."""
    conversation = handshake.NegotiateHandshake(handshake.Mechanisms(ntlm_verifier=AcceptingVerifier()), PEER)
    try:
        for token in tokens:
            run(conversation.step_token(scheme, token))
    except Refusal:
        return


NEGOTIATE = ntlm_messages.SIGNATURE + b"\1\0\0\0" + (0xE2088297).to_bytes(4, "little") + bytes(24)


def spnego_token(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        spnego.read(data)
    half = len(data) // 2
    shake("Negotiate", data)
    shake("Negotiate", data[:half], data[half:])


def ntlm_message(data: bytes) -> None:
    shake("NTLM", data)
    shake("NTLM", NEGOTIATE, data)
    binding = channel_binding.ChannelBindingPolicy("require", None).expected(PEER)
    exchange = ntlm.NtlmExchange(AcceptingVerifier(), None, "", binding)
    with contextlib.suppress(Refusal):
        run(exchange.challenge(data))


def pac_buffer(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        pac.read(data)


def kerberos_ticket(data: bytes) -> None:
    """Reads what the gateway inspects before the library opens the ticket, and what `check --token` prints."""
    for look in (ticket.presented, ticket.read):
        with contextlib.suppress(ValueError):
            look(data)


def explained(data: bytes) -> None:
    assert explain(data)


class SignInRequest:
    """A request with nothing but an Authorization header."""

    def __init__(self, value: str) -> None:
        self.headers = {b"authorization": value}


class Reader(handshakes.Handshakes):
    """The gateway's own reader of the header, without what else a sign-in needs."""

    def __init__(self) -> None:
        offered = handshake.NegotiateAuthenticator(handshake.Mechanisms(ntlm_verifier=AcceptingVerifier()))
        self._by_scheme = {scheme.lower(): (scheme, offered) for scheme in offered.schemes}


READER = Reader()


def authorization(data: bytes) -> None:
    """Reads the header as a client sends it: scheme, blank, base64."""
    text = data.decode("latin-1")
    explain_text(text)
    conversation = handshake.NegotiateHandshake(handshake.Mechanisms(ntlm_verifier=AcceptingVerifier()), PEER)
    with contextlib.suppress(Refusal):
        run(conversation.step(*READER._read_authorization(SignInRequest(text))))  # type: ignore[arg-type]


ISSUER = "https://idp.example"
EXPECTED = tokens.Expected(ISSUER, "calgate")
OPENID = OidcConfig.model_validate(
    {"issuer": ISSUER, "client": {"id": "calgate", "secret": "x"}, "person": {"sid": "onprem_sid"}}
)
SIGNING = ECKey.generate_key("P-256", {"kid": "k"})
KEYS = discovery.read_keys({"keys": [SIGNING.as_dict(private=False)]})


def openid_token(data: bytes) -> None:
    """Reads bytes as a token, and as the claims of a token whose signature is right."""
    readers: list[Callable[[str], object]] = [
        lambda text: tokens.read_id_token(text, KEYS, EXPECTED, nonce="n", now=1.8e9, proved_since=1.8e9),
        lambda text: tokens.read_logout_token(text, KEYS, EXPECTED, now=1.8e9),
    ]
    signed = jws.serialize_compact({"alg": "ES256", "kid": "k"}, data, SIGNING, algorithms=["ES256"])
    for text in (data.decode("latin-1"), signed):
        for read in readers:
            with contextlib.suppress(tokens.TokenRefusedError):
                read(text)


def openid_provider(data: bytes) -> None:
    """Reads bytes as a response of the provider: discovery, keys, and the claims of a token."""
    with contextlib.suppress(discovery.ProviderFaultError, Refusal):
        document = provider.read_object(data, ISSUER, 200)
        for read in (lambda: discovery.read_metadata(document, ISSUER), lambda: discovery.read_keys(document)):
            with contextlib.suppress(discovery.ProviderFaultError):
                read()
        person.identity_of(document, OPENID)


class FormRequest:
    """A POST of a form of our own page."""

    def __init__(self, body: bytes) -> None:
        kind, site = b"application/x-www-form-urlencoded", b"same-origin"
        self.headers = RequestHeaders(by_name={b"content-type": kind, b"sec-fetch-site": site})
        self._body = body

    async def read_body(self, limit: int) -> bytes:
        if len(self._body) > limit:
            raise TooLarge("longer than a form")
        return self._body


class FormReader(sign_in_pages.SignInPages):
    """The gateway's own reader of forms, without what else a sign-in needs."""

    def __init__(self) -> None:
        pass


FORMS = FormReader()


def sign_in_form(data: bytes) -> None:
    """Reads bytes as the body of a sign-in form: where to go afterwards, the name, and the new password."""
    with contextlib.suppress(Refusal):
        form = run(FORMS._form(FormRequest(data)))  # type: ignore[arg-type]
        path = sign_in_pages._back_to(form.pop("to", ""))
        assert path.startswith("/"), path
        assert not path.lower().startswith(("//", "/\\", PREFIX)), path
        password_change._fault(form)
        PasswordName.read(form.get("user", ""))


class NoteStore:
    """Has the key of the notes, and nothing else."""

    prefix = "calgate"

    async def execute(self, *command: str | bytes) -> bytes:
        return base64.urlsafe_b64encode(bytes(32))


NOTES = notes.Notes(NoteStore())  # type: ignore[arg-type]
BROWSERS = anonymous.AnonymousBrowsers(NOTES, SessionSection())
GENUINE = run(BROWSERS.new_cookie(SimpleNamespace(address="192.0.2.1", scheme="http")))[1]  # type: ignore[arg-type]


def browser_of(cookie: bytes) -> object:
    """Returns the gateway's reading of a cookie on a public route."""
    headers = RequestHeaders(cookies=Cookies({b"calgate-anonymous": cookie}, (), b""))
    return run(BROWSERS.find(SimpleNamespace(headers=headers, scheme="http")))  # type: ignore[arg-type]


def sealed_note(data: bytes) -> None:
    """Reads bytes as a sealed note: as they are, put into a genuine one, and sealed for another owner."""
    genuine = GENUINE.partition(b";")[0].partition(b"=")[2]
    at = data[0] % len(genuine) if data else 0
    for forged in (
        data,
        genuine[:at] + data[1:] + genuine[at:],
        genuine[:at] + data[1:] + genuine[at + len(data) - 1 :],
    ):
        if forged != genuine:
            assert run(NOTES.open("password", forged)) == b""
            assert browser_of(forged) is None
    note = data[:1500]
    sealed = run(NOTES.seal("password", note))
    assert run(NOTES.open("password", sealed)) == note
    assert run(NOTES.open("oidc", sealed)) == b""
    assert browser_of(sealed) is None


TARGETS: dict[str, Callable[[bytes], None]] = {
    "spnego": spnego_token,
    "ntlm": ntlm_message,
    "pac": pac_buffer,
    "ticket": kerberos_ticket,
    "explain": explained,
    "authorization": authorization,
    "openid_token": openid_token,
    "openid_provider": openid_provider,
    "sign_in_form": sign_in_form,
    "sealed_note": sealed_note,
}


def plant() -> None:
    """Removes the bounds check of the PAC reader: a truncated buffer then ends in a struct.error."""
    reader = pac._Reader

    def take(self: pac._Reader, length: int) -> bytes:
        piece = self._data[self._at : self._at + length]
        self._at += length
        return piece

    reader.take = take  # type: ignore[method-assign]


def main() -> None:
    target, options = sys.argv[1], sys.argv[2:]
    if "--plant" in options:
        options.remove("--plant")
        plant()
    corpus = FOUND / target
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(json.loads(SEEDS.read_text())[target]):
        (corpus / f"seed-{number}").write_bytes(base64.b64decode(seed))
    limits = ["-timeout=5", "-rss_limit_mb=1024", "-max_len=16384", f"-artifact_prefix={FOUND}/"]
    atheris.Setup([sys.argv[0], str(corpus), *limits, *options], TARGETS[target])
    atheris.Fuzz()  # ends the process


if __name__ == "__main__":
    main()
