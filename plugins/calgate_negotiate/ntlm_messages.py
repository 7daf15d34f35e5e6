"""NTLM's messages and keys (MS-NLMP): the only file that imports pyspnego's private modules; it is pinned for that.

Hostile bytes make the library raise anything (struct.error, KeyError, UnicodeDecodeError …); this module raises
`MalformedError` instead.
"""

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC

from spnego._ntlm_raw.crypto import hmac_md5, rc4init, rc4k, sealkey, signkey
from spnego._ntlm_raw.messages import (
    Authenticate,
    AvId,
    Challenge,
    FileTime,
    Negotiate,
    NegotiateFlags,
    TargetInfo,
    Version,
)
from spnego._ntlm_raw.security import sign as ntlm_sign

SIGNATURE = b"NTLMSSP\0"
NEGOTIATE, AUTHENTICATE = 1, 3

_AV_FLAGS, _AV_BINDINGS = 6, 10  # MS-NLMP 2.2.2.1
_MIC_PROVIDED = 2
_NTLMV1_RESPONSE = 24
_BLOB_HEADER = 28  # of NTLMv2_CLIENT_CHALLENGE, before its AV pairs (MS-NLMP 2.2.2.7)

# The client's flags that a challenge repeats; the gateway sets the challenge's other flags (MS-NLMP 2.2.2.5).
_CLIENT_CHOICES = (
    NegotiateFlags.sign
    | NegotiateFlags.seal
    | NegotiateFlags.key_128
    | NegotiateFlags.key_56
    | NegotiateFlags.key_exch
    | NegotiateFlags.version
)
_OURS = (
    NegotiateFlags.unicode
    | NegotiateFlags.ntlm
    | NegotiateFlags.always_sign
    | NegotiateFlags.request_target
    | NegotiateFlags.target_info
    | NegotiateFlags.target_type_domain
    | NegotiateFlags.extended_session_security
)


class MalformedError(ValueError):
    """The bytes are not the expected message."""


@dataclass(frozen=True, slots=True)
class AuthenticateMessage:
    """A client's AUTHENTICATE message: its response to our challenge."""

    flags: int
    domain: str
    account: str
    workstation: str
    nt_response: bytes
    lm_response: bytes
    encrypted_key: bytes
    mic_promised: bool  # covered by the proof, so a relay cannot remove the promise (CVE-2019-1040)
    mic: bytes | None
    without_mic: bytes  # the message with its MIC zeroed: the input of the MIC
    binding: bytes | None  # MD5 of the client's channel binding; None: the client sent none


@dataclass(frozen=True, slots=True)
class Names:
    """The server's names in our challenge: NetBIOS names, and DNS names if there are any."""

    domain: str
    computer: str
    dns_domain: str = ""
    dns_computer: str = ""


def message_type(token: bytes) -> int | None:
    """Returns 1, 2 or 3 for an NTLM message, None for anything else."""
    if not token.startswith(SIGNATURE) or len(token) < len(SIGNATURE) + 4:
        return None
    return int.from_bytes(token[8:12], "little")


def challenge(negotiate: bytes, nonce: bytes, names: Names) -> bytes:
    """Returns the CHALLENGE message for this NEGOTIATE message. `nonce`: 8 random bytes. Raises MalformedError."""
    try:
        wanted = Negotiate.unpack(negotiate).flags
    except Exception as error:
        raise MalformedError(f"not an NTLM NEGOTIATE message: {type(error).__name__}") from error
    flags = (wanted & _CLIENT_CHOICES) | _OURS
    info = TargetInfo()
    info[AvId.nb_domain_name] = names.domain
    info[AvId.nb_computer_name] = names.computer
    if names.dns_domain:
        info[AvId.dns_domain_name] = names.dns_domain
        info[AvId.dns_computer_name] = names.dns_computer
    info[AvId.timestamp] = FileTime.now(tz=UTC)  # makes every client that can send a MIC do so (MS-NLMP 3.1.5.1.2)
    version = {"version": Version(10, 0, 17763)} if flags & NegotiateFlags.version else {}
    packed: bytes = Challenge(flags, nonce, target_name=names.domain, target_info=info, **version).pack()
    return packed


def read_authenticate(token: bytes) -> AuthenticateMessage:
    """Reads an AUTHENTICATE message. Raises MalformedError, also if it carries no NTLMv2 response."""
    try:
        message = Authenticate.unpack(token)
        flags = message.flags
        domain, account, workstation = message.domain_name, message.user_name, message.workstation
        nt_response, lm_response = message.nt_challenge_response or b"", message.lm_challenge_response or b""
        encrypted_key, mic = message.encrypted_random_session_key or b"", message.mic
        if mic is not None:
            message.mic = bytes(16)
        without_mic = message.pack()
    except Exception as error:
        raise MalformedError(f"not an NTLM AUTHENTICATE message: {type(error).__name__}") from error
    if not flags & NegotiateFlags.unicode:
        raise MalformedError("NTLM: the names are not in Unicode")
    if flags & NegotiateFlags.anonymous:
        raise MalformedError("NTLM: anonymous sign-in is not accepted")
    if len(nt_response) <= _NTLMV1_RESPONSE:
        raise MalformedError("NTLM: NTLMv1 is not accepted, only NTLMv2")
    pairs = _av_pairs(nt_response[16:])
    av_flags = int.from_bytes(pairs.get(_AV_FLAGS, b""), "little")
    return AuthenticateMessage(
        flags=flags,
        domain=domain or "",
        account=account or "",
        workstation=workstation or "",
        nt_response=nt_response,
        lm_response=lm_response,
        encrypted_key=encrypted_key,
        mic_promised=bool(av_flags & _MIC_PROVIDED),
        mic=mic,
        without_mic=without_mic,
        binding=pairs.get(_AV_BINDINGS),
    )


def exported_key(message: AuthenticateMessage, base_key: bytes) -> bytes:
    """Returns the session key of both sides (MS-NLMP 3.2.5.1.2). NTLMv2's key exchange key is the session base key.

    Raises MalformedError.
    """
    wants_key = message.flags & (NegotiateFlags.sign | NegotiateFlags.seal)
    if not (message.flags & NegotiateFlags.key_exch and wants_key):
        return base_key
    if len(message.encrypted_key) != 16:
        raise MalformedError("NTLM: the session key is not 16 bytes long")
    key: bytes = rc4k(base_key, message.encrypted_key)
    return key


def mic(key: bytes, negotiate: bytes, challenge: bytes, without_mic: bytes) -> bytes:
    """Returns the message integrity code over all three messages (MS-NLMP 3.1.5.1.2)."""
    code: bytes = hmac_md5(key, negotiate + challenge + without_mic)
    return code


def signature(flags: int, key: bytes, data: bytes, *, by_client: bool) -> bytes:
    """Returns the first signature of a new context (MS-NLMP 3.4.4), which SPNEGO sends as mechListMIC.

    Raises MalformedError if the flags, which the client chose, allow no signature.
    """
    side = "initiate" if by_client else "accept"
    try:
        handle = rc4init(sealkey(flags, key, side))
        signed: bytes = ntlm_sign(flags, handle, signkey(flags, key, side), 0, data)
    except Exception as error:
        raise MalformedError(f"NTLM: these flags allow no signature: {type(error).__name__}") from error
    return signed


def binding_hash(application_data: bytes) -> bytes:
    """Returns MsvAvChannelBindings: MD5 of gss_channel_bindings_struct without addresses (RFC 4121, 4.1.1.2)."""
    packed = struct.pack("<IIIII", 0, 0, 0, 0, len(application_data)) + application_data
    return hashlib.md5(packed, usedforsecurity=False).digest()


def _av_pairs(blob: bytes) -> Mapping[int, bytes]:
    """Returns the AV pairs of an NTLMv2 client challenge, up to MsvAvEOL. Raises MalformedError."""
    if len(blob) < _BLOB_HEADER or blob[:2] != b"\1\1":
        raise MalformedError("NTLM: the NTLMv2 response has no client challenge")
    pairs: dict[int, bytes] = {}
    at = _BLOB_HEADER
    while at + 4 <= len(blob):
        kind, length = struct.unpack_from("<HH", blob, at)
        if kind == 0:
            return pairs
        value = blob[at + 4 : at + 4 + length]
        if len(value) != length or kind in pairs:
            raise MalformedError("NTLM: the NTLMv2 response has repeated or truncated AV pairs")
        pairs[kind] = value
        at += 4 + length
    raise MalformedError("NTLM: the NTLMv2 response has no MsvAvEOL")
