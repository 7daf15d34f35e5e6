"""Asks the domain whether an NTLM answer is right, through winbindd: the one file that calls libwbclient.

winbindd keeps this machine's place in the domain, and finds a domain controller. A call blocks for 2 to 90 ms, without
Python's lock, so each thread has a context of its own (libwbclient's are not shared) and many are under way at once.
"""

import asyncio
import ctypes
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from calgate.plugin import AccountRefused, AuthenticationFailed, Identity, NtlmAttempt, NtlmProof, Refusal, Unavailable
from calgate_negotiate import name_checks, ntlm_messages
from calgate_negotiate.ntlm import canonical

T = TypeVar("T")

LIBRARY = "libwbclient.so.0"
THREADS = 16
DEADLINE = 10.0
"""Seconds; winbindd itself waits longer for a domain controller that is silent."""

_AUTH_ERROR = 10  # WBC_ERR_AUTH_ERROR: an NTSTATUS says why
_RESPONSE = 3  # WBC_AUTH_USER_LEVEL_RESPONSE
_GUEST = 1  # LOGON_GUEST of UserFlags (MS-NRPC 2.2.1.4.11)

# NTSTATUS (MS-ERREF 2.3.1) that mean no; anything else says that nobody could tell.
_WRONG = {
    0xC000006A: "wrong password",
    0xC0000064: "no such user",
    0xC000006D: "wrong user or password",
    0xC0000073: "no such user",
}
_REFUSED = {
    0xC0000072: ("account-disabled", "is disabled"),
    0xC0000193: ("account-expired", "has expired"),
    0xC0000234: ("account-locked", "is locked"),
    0xC0000071: ("password-expired", "has a password that has expired"),
    0xC0000224: ("password-expired", "must change the password"),
    0xC000006E: ("account-restricted", "is restricted by policy"),
    0xC000006F: ("account-restricted", "may not sign in at this hour"),
    0xC0000070: ("account-restricted", "may not sign in from this workstation"),
}


class _Sid(ctypes.Structure):
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


class _SidWithAttributes(ctypes.Structure):
    _fields_ = (("sid", _Sid), ("attributes", ctypes.c_uint32))


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


class _Info(ctypes.Structure):
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
        ("sids", ctypes.POINTER(_SidWithAttributes)),
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


@dataclass(frozen=True, slots=True)
class Membership:
    """This machine's place in its domain."""

    computer: str  # NetBIOS; a domain controller refuses right passwords under a challenge that names another
    domain: str  # NetBIOS
    dns_domain: str


class Winbind:
    """Fills the role `NtlmVerifier` with the domain's own verdict."""

    def __init__(self, also: Sequence[str] = ()) -> None:
        """`also`: trusted domains whose people may come. Raises ValueError where libwbclient is not installed."""
        try:
            self._library = _load()
        except OSError as error:
            raise ValueError(
                f'negotiate.ntlm = "domain" needs {LIBRARY} ({error}): install winbind and join this machine to it'
            ) from error
        self._also = frozenset(domain.casefold() for domain in also)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="winbind")
        self._mine = threading.local()
        self._membership: Membership | None = None

    async def membership(self) -> Membership:
        """Which machine this is; raises Unavailable while winbindd does not answer."""
        if self._membership is None:
            self._membership = await self._in_thread(self._ask_membership)
        return self._membership

    async def names(self) -> ntlm_messages.Names:
        """Raises Unavailable while winbindd does not answer."""
        member = await self.membership()
        dns_name = f"{member.computer.lower()}.{member.dns_domain}"
        return ntlm_messages.Names(member.domain, member.computer, member.dns_domain, dns_name)

    async def prove(self, attempt: NtlmAttempt) -> NtlmProof:
        """Raises Unproven, AccountRefused or Unavailable (logon-server-unavailable)."""
        member = await self.membership()
        if attempt.domain and not self._may_come(attempt.domain, member):
            raise AuthenticationFailed(f"NTLM: domain {attempt.domain} is neither ours nor among negotiate.domains")
        proof = await self._in_thread(self._authenticate, attempt)
        if not self._may_come(proof.identity.domain, member):
            raise AuthenticationFailed(f"NTLM: {proof.identity.name} is neither of our domain nor of negotiate.domains")
        return proof

    async def check_trust(self) -> str:
        """Empty where the domain still knows this machine's secret, else its NTSTATUS; raises Unavailable."""
        return await self._in_thread(self._check_trust)

    def canonical(self, attempt: NtlmAttempt) -> str:
        member = self._membership
        return canonical(attempt, member.domain, member.dns_domain) if member is not None else canonical(attempt, "")

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _may_come(self, domain: str, member: Membership) -> bool:
        """A member has accounts of its own too; they are nobody here."""
        return domain.casefold() in {member.domain.casefold(), member.dns_domain.casefold(), *self._also}

    async def _in_thread(self, call: Callable[..., T], *args: object) -> T:
        work = asyncio.get_running_loop().run_in_executor(self._threads, call, *args)
        try:
            return await asyncio.wait_for(work, DEADLINE)
        except TimeoutError as error:
            raise _unavailable(f"winbindd was silent for {DEADLINE:.0f} s") from error

    # ------------------------------------------------------------ in a thread

    def _ask_membership(self) -> Membership:
        details = ctypes.POINTER(_Details)()
        with self._freeing(details):
            code = self._library.wbcCtxInterfaceDetails(self._context(), ctypes.byref(details))
            if code != 0:
                raise self._no_answer(code)
            found = details.contents
            return Membership(_text(found.netbios_name), _text(found.netbios_domain), _text(found.dns_domain))

    def _check_trust(self) -> str:
        error = ctypes.POINTER(_Error)()
        with self._freeing(error):
            code = self._library.wbcCtxCheckTrustCredentials(self._context(), None, ctypes.byref(error))
            if code == _AUTH_ERROR and error:
                return _text(error.contents.nt_string)
            if code != 0:
                raise self._no_answer(code)
            return ""

    def _authenticate(self, attempt: NtlmAttempt) -> NtlmProof:
        nt, lm = _buffer(attempt.nt_response), _buffer(attempt.lm_response)
        params = _params(attempt, nt, lm)
        info, error = ctypes.POINTER(_Info)(), ctypes.POINTER(_Error)()
        with self._freeing(info, error):
            code = self._library.wbcCtxAuthenticateUserEx(
                self._context(), ctypes.byref(params), ctypes.byref(info), ctypes.byref(error)
            )
            if code == _AUTH_ERROR and error:
                raise _verdict(attempt, error.contents.nt_status, _text(error.contents.nt_string))
            if code != 0:
                raise self._no_answer(code)
            return _proof(info.contents)

    def _context(self) -> int:
        """This thread's own."""
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
        return _unavailable(
            f"winbindd gives no answer ({why}): is it running, and may the gateway's user use its pipe"
            " (group winbindd_priv)?"
        )


def _load() -> ctypes.CDLL:
    library = ctypes.CDLL(LIBRARY)
    library.wbcCtxCreate.restype = ctypes.c_void_p
    library.wbcCtxInterfaceDetails.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    library.wbcCtxCheckTrustCredentials.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    library.wbcCtxAuthenticateUserEx.argtypes = [ctypes.c_void_p] * 4
    library.wbcFreeMemory.argtypes = [ctypes.c_void_p]
    library.wbcFreeMemory.restype = None
    library.wbcErrorString.restype = ctypes.c_char_p
    return library


def _params(attempt: NtlmAttempt, nt: "ctypes.Array[ctypes.c_char]", lm: "ctypes.Array[ctypes.c_char]") -> _Params:
    """The buffers belong to the caller, and must live as long as the call."""
    params = _Params()
    params.account_name = attempt.account.encode()
    params.domain_name = attempt.domain.encode()
    params.workstation_name = _plain(attempt.workstation).encode()
    params.level = _RESPONSE
    response = params.password.response
    response.challenge[:] = attempt.challenge
    response.nt_length, response.nt_data = len(attempt.nt_response), ctypes.addressof(nt)
    if attempt.lm_response:  # an empty one must be no pointer at all
        response.lm_length, response.lm_data = len(attempt.lm_response), ctypes.addressof(lm)
    return params


def _buffer(data: bytes) -> "ctypes.Array[ctypes.c_char]":
    return ctypes.create_string_buffer(data, max(len(data), 1))


def _plain(workstation: str) -> str:
    """The workstation's name, for those who may sign in from some only; one that is no name is none."""
    try:
        name_checks.check_part(workstation)
    except ValueError:
        return ""
    return workstation


def _proof(info: _Info) -> NtlmProof:
    if info.user_flags & _GUEST:  # any name and password, where the domain's Guest account is enabled
        raise AuthenticationFailed("NTLM: the domain knows nobody of that name and password, and took him for a guest")
    sids = [str(entry.sid) for entry in info.sids[: info.sid_count]]
    if not sids:
        raise _unavailable("winbindd proved somebody without a SID")
    identity = Identity(
        domain=_text(info.domain_name),
        account=_text(info.account_name),
        mechanism="ntlm",
        sid=sids[0],  # the person's own is first, groups follow
        groups=frozenset(sids[1:]),
    )
    return NtlmProof(identity, bytes(info.user_session_key))


def _verdict(attempt: NtlmAttempt, status: int, name: str) -> Refusal:
    who = f"{attempt.domain}\\{attempt.account}"
    if status in _WRONG:
        return AuthenticationFailed(f"NTLM: {_WRONG[status]}: {who}")
    if status in _REFUSED:
        code, why = _REFUSED[status]
        return AccountRefused(f"{who} {why} ({name})", code=code)
    return _unavailable(f"the domain gives no verdict on {who}: {name} ({status:#010x})")


def _unavailable(detail: str) -> Unavailable:
    return Unavailable(f"NTLM: {detail}", code="logon-server-unavailable")


def _text(value: bytes | None) -> str:
    return (value or b"").decode("utf-8", "replace")
