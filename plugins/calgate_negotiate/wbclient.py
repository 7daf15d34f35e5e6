"""Calls libwbclient, which queries winbindd: the only file that knows its C interface. Every call blocks."""

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from calgate.plugin import AuthenticationFailed, Identity, NtlmAttempt, NtlmProof, Unavailable
from calgate_negotiate import name_checks
from calgate_negotiate.nt_status import unavailable, verdict

LIBRARY = "libwbclient.so.0"

_AUTH_ERROR = 10  # WBC_ERR_AUTH_ERROR: an NTSTATUS says why
_RESPONSE = 3  # WBC_AUTH_USER_LEVEL_RESPONSE
_GUEST = 1  # LOGON_GUEST of UserFlags (MS-NRPC 2.2.1.4.11)


class Sid(ctypes.Structure):
    """struct wbcDomainSid."""

    _fields_ = (
        ("revision", ctypes.c_uint8),
        ("count", ctypes.c_uint8),
        ("authority", ctypes.c_uint8 * 6),
        ("subauthorities", ctypes.c_uint32 * 15),
    )

    def __str__(self) -> str:
        authority = int.from_bytes(bytes(self.authority), "big")
        rest = self.subauthorities[: min(self.count, 15)]
        return "-".join(["S", str(self.revision), str(authority), *map(str, rest)])


class SidWithAttributes(ctypes.Structure):
    """struct wbcSidWithAttr."""

    _fields_ = (("sid", Sid), ("attributes", ctypes.c_uint32))


class _Response(ctypes.Structure):
    _fields_ = (
        ("challenge", ctypes.c_uint8 * 8),
        ("nt_length", ctypes.c_uint32),
        ("nt_data", ctypes.c_void_p),
        ("lm_length", ctypes.c_uint32),
        ("lm_data", ctypes.c_void_p),
    )


class _Hashes(ctypes.Structure):
    _fields_ = (("nt", ctypes.c_uint8 * 16), ("lm", ctypes.c_uint8 * 16))


class _Password(ctypes.Union):
    _fields_ = (("plaintext", ctypes.c_char_p), ("hashes", _Hashes), ("response", _Response))


class _Params(ctypes.Structure):
    """struct wbcAuthUserParams (wbclient.h)."""

    _fields_ = (
        ("account_name", ctypes.c_char_p),
        ("domain_name", ctypes.c_char_p),
        ("workstation_name", ctypes.c_char_p),
        ("flags", ctypes.c_uint32),
        ("parameter_control", ctypes.c_uint32),
        ("level", ctypes.c_int),
        ("password", _Password),
    )


class UserInfo(ctypes.Structure):
    """struct wbcAuthUserInfo."""

    _fields_ = (
        ("user_flags", ctypes.c_uint32),
        ("account_name", ctypes.c_char_p),
        ("user_principal", ctypes.c_char_p),
        ("full_name", ctypes.c_char_p),
        ("domain_name", ctypes.c_char_p),
        ("dns_domain_name", ctypes.c_char_p),
        ("acct_flags", ctypes.c_uint32),
        ("user_session_key", ctypes.c_uint8 * 16),
        ("lm_session_key", ctypes.c_uint8 * 8),
        ("logon_count", ctypes.c_uint16),
        ("bad_password_count", ctypes.c_uint16),
        ("times", ctypes.c_uint64 * 6),
        ("logon_server", ctypes.c_char_p),
        ("logon_script", ctypes.c_char_p),
        ("profile_path", ctypes.c_char_p),
        ("home_directory", ctypes.c_char_p),
        ("home_drive", ctypes.c_char_p),
        ("sid_count", ctypes.c_uint32),
        ("sids", ctypes.POINTER(SidWithAttributes)),
    )


class _Error(ctypes.Structure):
    """struct wbcAuthErrorInfo."""

    _fields_ = (
        ("nt_status", ctypes.c_uint32),
        ("nt_string", ctypes.c_char_p),
        ("pam_error", ctypes.c_int32),
        ("display_string", ctypes.c_char_p),
        ("authoritative", ctypes.c_uint8),
    )


class _Details(ctypes.Structure):
    """struct wbcInterfaceDetails."""

    _fields_ = (
        ("interface_version", ctypes.c_uint32),
        ("winbind_version", ctypes.c_char_p),
        ("winbind_separator", ctypes.c_char),
        ("netbios_name", ctypes.c_char_p),
        ("netbios_domain", ctypes.c_char_p),
        ("dns_domain", ctypes.c_char_p),
    )


class _DomainInfo(ctypes.Structure):
    """The beginning of struct wbcDomainInfo."""

    _fields_ = (("short_name", ctypes.c_char_p), ("dns_name", ctypes.c_char_p))


@dataclass(frozen=True, slots=True)
class Machine:
    """This machine's names in its domain."""

    computer: str  # NetBIOS
    domain: str  # NetBIOS
    dns_domain: str


class WbClient:
    """The calls that the gateway makes. Each thread has a context of its own: threads cannot share one."""

    def __init__(self) -> None:
        """Raises OSError if the library is not installed."""
        self._library = _load()
        self._mine = threading.local()

    def machine(self) -> Machine:
        """Returns this machine's names. Raises Unavailable."""
        details = ctypes.POINTER(_Details)()
        with self._freeing(details):
            code = self._library.wbcCtxInterfaceDetails(self._context(), ctypes.byref(details))
            if code != 0:
                raise self._no_answer(code)
            found = details.contents
            return Machine(_text(found.netbios_name), _text(found.netbios_domain), _text(found.dns_domain))

    def names_of(self, domain: str) -> tuple[str, ...]:
        """Returns NetBIOS and DNS name of a trusted domain, or () if winbindd has not learned them yet."""
        info = ctypes.POINTER(_DomainInfo)()
        with self._freeing(info):
            code = self._library.wbcCtxDomainInfo(self._context(), domain.encode(), ctypes.byref(info))
            if code != 0:
                return ()
            return _text(info.contents.short_name), _text(info.contents.dns_name)

    def check_trust(self) -> str:
        """Returns the NTSTATUS of this machine's trust with the domain, "" if it is good. Raises Unavailable."""
        error = ctypes.POINTER(_Error)()
        with self._freeing(error):
            code = self._library.wbcCtxCheckTrustCredentials(self._context(), None, ctypes.byref(error))
            if code == _AUTH_ERROR and error:
                return _text(error.contents.nt_string)
            if code != 0:
                raise self._no_answer(code)
            return ""

    def authenticate(self, attempt: NtlmAttempt) -> NtlmProof:
        """Has the domain verify an attempt. Raises the refusal that the status stands for, or Unavailable."""
        nt, lm = _buffer(attempt.nt_response), _buffer(attempt.lm_response)
        params = _params(attempt, nt, lm)
        info, error = ctypes.POINTER(UserInfo)(), ctypes.POINTER(_Error)()
        with self._freeing(info, error):
            code = self._library.wbcCtxAuthenticateUserEx(
                self._context(), ctypes.byref(params), ctypes.byref(info), ctypes.byref(error)
            )
            if code == _AUTH_ERROR and error:
                raise verdict(attempt, error.contents.nt_status, _text(error.contents.nt_string))
            if code != 0:
                raise self._no_answer(code)
            return proof_of(info.contents)

    def _context(self) -> int:
        """Returns the calling thread's own context."""
        context: int | None = getattr(self._mine, "context", None)
        if context is None:
            context = self._mine.context = self._library.wbcCtxCreate()
        return context

    @contextmanager
    def _freeing(self, *pointers: "ctypes._Pointer[Any]") -> Iterator[None]:
        try:
            yield
        finally:
            for pointer in pointers:
                if pointer:
                    self._library.wbcFreeMemory(pointer)

    def _no_answer(self, code: int) -> Unavailable:
        why = _text(self._library.wbcErrorString(code))
        return unavailable(
            f"winbindd does not respond ({why}): check that it runs, and that the gateway's user is in winbindd_priv"
        )


def _load() -> ctypes.CDLL:
    library = ctypes.CDLL(LIBRARY)
    library.wbcCtxCreate.restype = ctypes.c_void_p
    library.wbcCtxInterfaceDetails.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    library.wbcCtxDomainInfo.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    library.wbcCtxCheckTrustCredentials.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    library.wbcCtxAuthenticateUserEx.argtypes = [ctypes.c_void_p] * 4
    library.wbcFreeMemory.argtypes = [ctypes.c_void_p]
    library.wbcFreeMemory.restype = None
    library.wbcErrorString.restype = ctypes.c_char_p
    return library


def _params(attempt: NtlmAttempt, nt: "ctypes.Array[ctypes.c_char]", lm: "ctypes.Array[ctypes.c_char]") -> _Params:
    """Returns the parameters of a call. The caller keeps the buffers alive until it returns."""
    params = _Params()
    params.account_name = attempt.account.encode()
    params.domain_name = attempt.domain.encode()
    params.workstation_name = _plain(attempt.workstation).encode()
    params.level = _RESPONSE
    response = params.password.response
    response.challenge[:] = attempt.challenge
    response.nt_length, response.nt_data = len(attempt.nt_response), ctypes.addressof(nt)
    if attempt.lm_response:  # an empty response must be a null pointer
        response.lm_length, response.lm_data = len(attempt.lm_response), ctypes.addressof(lm)
    return params


def _buffer(data: bytes) -> "ctypes.Array[ctypes.c_char]":
    return ctypes.create_string_buffer(data, max(len(data), 1))


def _plain(workstation: str) -> str:
    """Returns the workstation's name, by which an account may be restricted; "" if it is not a plain name."""
    try:
        name_checks.check_part(workstation)
    except ValueError:
        return ""
    return workstation


def proof_of(info: UserInfo) -> NtlmProof:
    """Returns what winbindd reports of a verified user. Raises AuthenticationFailed for a guest, Unavailable."""
    if info.user_flags & _GUEST:  # with the domain's Guest account enabled, any name and password is a guest
        raise AuthenticationFailed(
            "NTLM: the domain does not know this name and password, and signed the user in as a guest"
        )
    sids = [str(entry.sid) for entry in info.sids[: info.sid_count]]
    if not sids:
        raise unavailable("winbindd returned a user without a SID")
    identity = Identity(
        domain=_text(info.domain_name),
        account=_text(info.account_name),
        mechanism="ntlm",
        sid=sids[0],  # the user's own SID is first, groups follow
        groups=frozenset(sids[1:]),
    )
    return NtlmProof(identity, bytes(info.user_session_key))


def _text(value: bytes | None) -> str:
    return (value or b"").decode("utf-8", "replace")
