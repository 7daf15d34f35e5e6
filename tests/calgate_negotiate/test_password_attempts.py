"""Attempts with passwords, without a domain: what is refused, when and how slowly; Basic; the change of a password."""

import base64
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, cast

import pytest

from calgate.plugin.errors import AccountRefused, AuthenticationFailed, Refusal, Unavailable
from calgate.plugin.identity import Authenticated, Identity, Peer
from calgate.plugin.sign_in_method import ShowPage, SignInRequest
from calgate_negotiate import password_basic
from calgate_negotiate.guard import Guard, UndecidedError
from calgate_negotiate.password import PasswordForm, PasswordFormWithBasic
from calgate_negotiate.password_attempts import PasswordAttempts
from calgate_negotiate.password_names import PasswordName
from calgate_negotiate.password_verifiers import Attempt

ALICE = Identity("CORP", "alice", "password")
REQUEST = SignInRequest(
    peer=Peer("192.0.2.7", behind_proxy=False, scheme="https"),
    method="POST",
    step="",
    query={},
    form={"user": "alice", "password": "old-1"},
    note=b"",
    origin="https://bi.corp.example",
    back_to="/",
)


class Verifier:
    """Knows one password of CORP\\alice; raises `error` instead of accepting it, if there is one."""

    def __init__(self, password: str = "old-1", error: Exception | None = None) -> None:
        self.password = password
        self.error = error
        self.tried: list[str] = []

    def knows(self, name: PasswordName) -> bool:
        return name.domain.casefold() == "corp"

    def canonical(self, name: PasswordName) -> str:
        return f"corp\\{name.account}".casefold()

    async def verify(self, name: PasswordName, password: str) -> Attempt:
        self.tried.append(password)
        if password != self.password:
            raise AuthenticationFailed("wrong")
        if self.error is not None:
            raise self.error
        return Attempt(ALICE)


class Changer:
    """A directory that gives the verifier the new password, and accepts none that is shorter than five characters."""

    def __init__(self, verifier: Verifier, *, replicates: bool = True) -> None:
        self.verifier = verifier
        self.replicates = replicates
        self.asked: list[Identity] = []
        self.is_lost = False

    async def change_password(self, identity: Identity, old: str, new: str) -> str:
        self.asked.append(identity)
        if self.is_lost:
            raise Unavailable("the connection was lost", code="directory-unavailable")
        if old != self.verifier.password:
            raise AuthenticationFailed("wrong")
        if len(new) < 5:
            return "it is too short"
        self.verifier.error = None
        if self.replicates:
            self.verifier.password = new
        return ""


class Counter:
    """Stands for the guard: counts the attempts by account, and carries them out."""

    def __init__(self) -> None:
        self.accounts: list[str] = []

    async def verify(self, account: str, address: str, verify: Callable[[], Awaitable[Any]]) -> Any:
        self.accounts.append(account)
        return await verify()


class Slept:
    """A clock that notes how long a failure was held back."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


def attempts(verifier: Verifier, slept: Slept | None = None, counter: Counter | None = None) -> PasswordAttempts:
    return PasswordAttempts([verifier], cast(Guard, counter or Counter()), sleep=slept or Slept())


EXPIRED = AccountRefused("expired", code="password-expired")


def changeable(*, replicates: bool = True) -> tuple[PasswordForm, Changer, Counter]:
    verifier, counter = Verifier(error=EXPIRED), Counter()
    changer = Changer(verifier, replicates=replicates)
    return PasswordForm(attempts(verifier, counter=counter), needs_https=True, changer=changer), changer, counter


async def note_of(form: PasswordForm) -> bytes:
    page = await form.handle(REQUEST)
    assert isinstance(page, ShowPage)
    return page.note


def change(note: bytes, old: str, new: str, again: str = "") -> SignInRequest:
    return replace(REQUEST, step="change", note=note, form={"old": old, "new": new, "again": again or new})


@pytest.mark.parametrize(
    ("user", "password"),
    [("alice", "wrong"), ("alice", ""), ("alice", "x" * 257), ("alice", "a\0b"), ("EVIL\\alice", "old-1"), ("", "x")],
)
async def test_every_failure_is_held_back_until_a_second_after_the_request(user: str, password: str) -> None:
    slept = Slept()
    with pytest.raises(AuthenticationFailed):
        await attempts(Verifier(), slept).verify(user, password, "192.0.2.7")
    (seconds,) = slept.seconds
    assert 0.8 < seconds <= 1


async def test_right_password_is_not_held_back_and_counts_under_the_canonical_name() -> None:
    slept, counter = Slept(), Counter()
    attempt = await attempts(Verifier(), slept, counter).verify("CORP\\ALICE", "old-1", "192.0.2.7")
    assert (attempt.identity, slept.seconds, counter.accounts) == (ALICE, [], ["corp\\alice"])


@pytest.mark.parametrize("password", ["", "x" * 257, "a\0b"])
async def test_impossible_password_reaches_no_verifier(password: str) -> None:
    verifier = Verifier()
    with pytest.raises(AuthenticationFailed):
        await attempts(verifier).verify("alice", password, "192.0.2.7")
    assert verifier.tried == []


# ---------------------------------------------------------------- Basic


def encoded(text: bytes) -> str:
    return base64.b64encode(text).decode()


@pytest.mark.parametrize("credentials", ["", "%", "YWxpY2U", encoded(b"alice"), encoded(b"\xff:x"), "ä"])
def test_malformed_basic_credentials_are_refused(credentials: str) -> None:
    with pytest.raises(AuthenticationFailed):
        password_basic.read(credentials)


def test_password_of_basic_credentials_may_have_colons_and_umlauts() -> None:
    assert password_basic.read(encoded("björn:pä:ss".encode())) == ("björn", "pä:ss")


async def test_basic_is_verified_over_https_only() -> None:
    verifier = Verifier()
    form = PasswordFormWithBasic(attempts(verifier), needs_https=True)
    plain, secure = replace(REQUEST.peer, scheme="http"), REQUEST.peer
    with pytest.raises(AuthenticationFailed, match="over https only"):
        await form.begin(plain).step("Basic", encoded(b"alice:old-1"))
    assert verifier.tried == []
    assert (await form.begin(secure).step("Basic", encoded(b"alice:old-1"))).identity == ALICE


# ---------------------------------------------------------------- the change of an expired password


async def test_expired_password_is_changed_and_signs_in() -> None:
    form, changer, counter = changeable()
    note = await note_of(form)
    assert b"old-1" not in note
    assert await form.handle(change(note, "old-1", "new-12")) == Authenticated(ALICE, is_fresh=True)
    assert changer.asked == [Identity("", "alice", mechanism="")]
    assert counter.accounts == ["corp\\alice"] * 2, "the change is limited like the sign-in"


@pytest.mark.parametrize("note", [b"", b"alice", b"\0alice", b"chang\0alice"])
async def test_change_without_the_note_reaches_no_directory(note: bytes) -> None:
    form, changer, _ = changeable()
    page = await form.handle(change(note, "old-1", "new-12"))
    assert isinstance(page, ShowPage)
    assert page.form == form.form
    assert changer.asked == []


@pytest.mark.parametrize(
    ("old", "new", "again", "text"),
    [
        ("old-1", "new-12", "new-13", "The two new passwords differ"),
        ("old-1", "new", "new", "it is too short"),
        ("", "new-12", "new-12", "Enter the old password"),
        ("old-1", "x" * 257, "x" * 257, "at most 256"),
    ],
)
async def test_unusable_entries_are_explained_on_the_same_page(old: str, new: str, again: str, text: str) -> None:
    form, _, _ = changeable()
    page = await form.handle(change(await note_of(form), old, new, again))
    assert isinstance(page, ShowPage)
    assert text in page.text
    assert page.note == await note_of(form)


async def test_change_with_a_wrong_old_password_fails_like_a_sign_in() -> None:
    form, _, _ = changeable()
    with pytest.raises(AuthenticationFailed):
        await form.handle(change(await note_of(form), "guess", "new-12"))


async def test_changed_password_that_another_controller_does_not_know_yet_is_no_failure() -> None:
    form, _, _ = changeable(replicates=False)
    page = await form.handle(change(await note_of(form), "old-1", "new-12"))
    assert isinstance(page, ShowPage)
    assert page.title == "Your password is changed"


async def test_expired_password_is_refused_where_it_cannot_be_changed() -> None:
    form = PasswordForm(attempts(Verifier(error=EXPIRED)), needs_https=True)
    with pytest.raises(AccountRefused):
        await form.handle(REQUEST)
    with pytest.raises(Refusal):
        await form.handle(change(b"change\0alice", "old-1", "new-12"))


async def test_unavailable_domain_is_no_failure_of_the_password() -> None:
    with pytest.raises(Unavailable):
        await attempts(Verifier(error=Unavailable("down"))).verify("alice", "old-1", "192.0.2.7")


async def test_change_whose_outcome_is_unknown_is_undecided_so_that_the_guard_counts_it() -> None:
    """The domain controller may have counted a wrong old password before the connection was lost."""
    form, changer, counter = changeable()
    note = await note_of(form)
    changer.is_lost = True
    with pytest.raises(UndecidedError) as caught:
        await form.handle(change(note, "guess", "new-1"))
    assert caught.value.code == "directory-unavailable"
    assert len(counter.accounts) == 2
