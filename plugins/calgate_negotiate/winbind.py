"""Has the domain verify NTLM responses, through winbindd: the only file that calls libwbclient.

winbindd maintains this machine's membership, and finds a domain controller. A call blocks for 2 to 90 ms without the
GIL, so each thread has a context of its own (libwbclient's cannot be shared) and many calls run in parallel.
"""

import asyncio
import ctypes
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from calgate.plugin import AccountRefused, AuthenticationFailed, Identity, NtlmAttempt, NtlmProof, Refusal, Unavailable
from calgate_negotiate import name_checks, ntlm_messages
from calgate_negotiate.guard import UndecidedError
from calgate_negotiate.ntlm import canonical

T = TypeVar("T")

LIBRARY = "libwbclient.so.0"
THREADS = 16
DEADLINE = 10.0
"""Seconds; winbindd itself waits longer for a silent domain controller."""

_RETRY_UNKNOWN = 60.0  # seconds until winbindd is queried again for a trusted domain it did not know

_AUTH_ERROR = 10  # WBC_ERR_AUTH_ERROR: an NTSTATUS says why
_RESPONSE = 3  # WBC_AUTH_USER_LEVEL_RESPONSE
_GUEST = 1  # LOGON_GUEST of UserFlags (MS-NRPC 2.2.1.4.11)

# NTSTATUS (MS-ERREF 2.3.1) of a wrong password or name
_WRONG = {
    0xC000006A: "wrong password",
    0xC0000064: "no such user",
    0xC000006D: "wrong user or password",
    0xC0000073: "no such user",
}
# NTSTATUS of an attempt that reached no domain controller, so that none has counted it
_NOT_PASSED_ON = {
    0xC000005E,  # NO_LOGON_SERVERS
    0xC0000233,  # DOMAIN_CONTROLLER_NOT_FOUND
    0xC000023C,  # NETWORK_UNREACHABLE
    0xC000023D,  # HOST_UNREACHABLE
    0xC0000236,  # CONNECTION_REFUSED
    0xC00000DA,  # CANT_ACCESS_DOMAIN_INFO
    0xC00000DF,  # NO_SUCH_DOMAIN
    0xC000018A,  # NO_TRUST_LSA_SECRET
    0xC000018B,  # NO_TRUST_SAM_ACCOUNT
    0xC000018C,  # TRUSTED_DOMAIN_FAILURE
    0xC000018D,  # TRUSTED_RELATIONSHIP_FAILURE
    0xC0000022,  # ACCESS_DENIED, to this machine's own account
}
_REFUSED = {
    0xC0000072: ("account-disabled", "is disabled"),
    0xC0000193: ("account-expired", "has expired"),
    0xC0000234: ("account-locked", "is locked"),
    0xC0000071: ("password-expired", "has a password that has expired"),
    0xC0000224: ("password-expired", "has to change the password"),
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


class _DomainInfo(ctypes.Structure):
    """The beginning of struct wbcDomainInfo."""

    _fields_ = (("short_name", ctypes.c_char_p), ("dns_name", ctypes.c_char_p))


@dataclass(frozen=True, slots=True)
class Membership:
    """This machine's domain, and the other domains whose users may sign in."""

    computer: str  # NetBIOS; with any other name in the challenge a domain controller refuses right passwords
    domain: str  # NetBIOS
    dns_domain: str
    trusted: Mapping[str, str] = field(default_factory=dict)  # NetBIOS and DNS names, folded -> NetBIOS name
    unknown: tuple[str, ...] = ()  # of negotiate.domains, those that winbindd has not learned yet

    def netbios(self, domain: str) -> str | None:
        """Returns the NetBIOS name of a domain whose users may sign in, given by either name; None for any other."""
        folded = domain.casefold()
        if folded in (self.domain.casefold(), self.dns_domain.casefold()):
            return self.domain
        first_label = folded.partition(".")[0]
        return self.trusted.get(folded) or self.trusted.get(first_label)


class Winbind:
    """Fills the role `Verifier` by asking the domain."""

    def __init__(self, trusted: Sequence[str] = ()) -> None:
        """`trusted`: other domains whose users may sign in. Raises ValueError if libwbclient is not installed."""
        try:
            self._library = _load()
        except OSError as error:
            raise ValueError(
                f'negotiate.ntlm = "domain" needs {LIBRARY} ({error}): install winbind and join the domain'
            ) from error
        self._trusted = tuple(trusted)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="winbind")
        self._mine = threading.local()
        self._membership: Membership | None = None
        self._retry_at = 0.0

    async def membership(self) -> Membership:
        """Returns this machine's membership. Raises Unavailable while winbindd does not answer."""
        member = self._membership
        if member is None or (member.unknown and time.monotonic() >= self._retry_at):
            member = self._membership = await self._in_thread(self._read_membership)
            self._retry_at = time.monotonic() + _RETRY_UNKNOWN
        return member

    async def names(self) -> ntlm_messages.Names:
        member = await self.membership()
        dns_name = f"{member.computer.lower()}.{member.dns_domain}"
        return ntlm_messages.Names(member.domain, member.computer, member.dns_domain, dns_name)

    async def verify(self, attempt: NtlmAttempt) -> NtlmProof:
        """Raises AuthenticationFailed, AccountRefused, Unavailable (logon-server-unavailable) or UndecidedError."""
        member = await self.membership()
        if attempt.domain and member.netbios(attempt.domain) is None:
            raise AuthenticationFailed(f"NTLM: domain {attempt.domain} is neither ours nor in negotiate.domains")
        try:
            proof = await self._in_thread(self._authenticate, attempt)
        except _SilentError as error:  # winbindd goes on with it, and a domain controller may count it
            raise UndecidedError(error.detail, code=error.code) from error
        if member.netbios(proof.identity.domain) is None:  # a member server has local accounts of its own
            raise AuthenticationFailed(f"NTLM: {proof.identity.name} is neither of our domain nor of negotiate.domains")
        return proof

    async def check_trust(self) -> str:
        """Returns the NTSTATUS of this machine's trust with the domain, "" if it is good. Raises Unavailable."""
        return await self._in_thread(self._check_trust)

    def canonical(self, attempt: NtlmAttempt) -> str:
        member = self._membership
        return canonical(attempt, member.domain, member.netbios) if member is not None else canonical(attempt, "")

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _in_thread(self, call: Callable[..., T], *args: object) -> T:
        work = asyncio.get_running_loop().run_in_executor(self._threads, call, *args)
        try:
            return await asyncio.wait_for(work, DEADLINE)
        except TimeoutError as error:
            raise _SilentError(
                f"NTLM: winbindd has not answered for {DEADLINE:.0f} s", code="logon-server-unavailable"
            ) from error

    # ------------------------------------------------------------ in a thread

    def _read_membership(self) -> Membership:
        details = ctypes.POINTER(_Details)()
        with self._freeing(details):
            code = self._library.wbcCtxInterfaceDetails(self._context(), ctypes.byref(details))
            if code != 0:
                raise self._no_answer(code)
            found = details.contents
            names = {domain: self._names_of(domain) for domain in self._trusted}
            return Membership(
                computer=_text(found.netbios_name),
                domain=_text(found.netbios_domain),
                dns_domain=_text(found.dns_domain),
                trusted=trusted_names(names),
                unknown=tuple(domain for domain, both in names.items() if not both),
            )

    def _names_of(self, domain: str) -> tuple[str, ...]:
        """Returns NetBIOS and DNS name of a trusted domain, or () if winbindd has not learned them yet."""
        info = ctypes.POINTER(_DomainInfo)()
        with self._freeing(info):
            code = self._library.wbcCtxDomainInfo(self._context(), domain.encode(), ctypes.byref(info))
            if code != 0:
                return ()
            return _text(info.contents.short_name), _text(info.contents.dns_name)

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
        return _unavailable(
            f"winbindd does not answer ({why}): check that it runs, and that the gateway's user is in winbindd_priv"
        )


def trusted_names(domains: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """Returns the NetBIOS name by every name of the domains, folded. `domains`: the names that winbindd knows.

    By default winbindd learns of a trusted domain when its first user signs in ("winbind scan trusted domains"). Until
    then the first label of the DNS name stands for the NetBIOS name. A wrong guess lets nobody in: the domain itself
    returns the NetBIOS name of the user, which is checked, too.
    """
    trusted: dict[str, str] = {}
    for domain, known in domains.items():
        netbios = known[0] if known else domain.partition(".")[0].upper()
        trusted |= {name.casefold(): netbios for name in (domain, netbios, *known)}
    return trusted


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


def _proof(info: _Info) -> NtlmProof:
    if info.user_flags & _GUEST:  # with the domain's Guest account enabled, any name and password is a guest
        raise AuthenticationFailed(
            "NTLM: the domain does not know this name and password, and signed the user in as a guest"
        )
    sids = [str(entry.sid) for entry in info.sids[: info.sid_count]]
    if not sids:
        raise _unavailable("winbindd returned a user without a SID")
    identity = Identity(
        domain=_text(info.domain_name),
        account=_text(info.account_name),
        mechanism="ntlm",
        sid=sids[0],  # the user's own SID is first, groups follow
        groups=frozenset(sids[1:]),
    )
    return NtlmProof(identity, bytes(info.user_session_key))


def _verdict(attempt: NtlmAttempt, status: int, name: str) -> Refusal:
    user = f"{attempt.domain}\\{attempt.account}"
    if status in _WRONG:
        return AuthenticationFailed(f"NTLM: {_WRONG[status]}: {user}")
    if status in _REFUSED:
        code, why = _REFUSED[status]
        return AccountRefused(f"{user} {why} ({name})", code=code)
    detail = f"the domain did not verify {user}: {name} ({status:#010x})"
    if status in _NOT_PASSED_ON:
        return _unavailable(detail)
    return UndecidedError(f"NTLM: {detail}", code="logon-server-unavailable")


class _SilentError(Unavailable):
    """winbindd has not answered in time."""


def _unavailable(detail: str) -> Unavailable:
    return Unavailable(f"NTLM: {detail}", code="logon-server-unavailable")


def _text(value: bytes | None) -> str:
    return (value or b"").decode("utf-8", "replace")
