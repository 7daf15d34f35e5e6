"""Notes of sign-in methods: only ours are opened, for ten minutes, and by the method that they belong to."""

import base64

import pytest

from calgate.authentication.notes import LIFETIME, LONGEST, Notes


class Keys:
    """The part of a store that notes use."""

    prefix = "calgate"

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    async def execute(self, command: str, key: str, value: bytes = b"", *options: str) -> bytes:
        return self.values.setdefault(key, value) if command == "SET" else self.values[key]


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def notes(keys: Keys | None = None, clock: Clock | None = None) -> Notes:
    return Notes(keys or Keys(), clock or Clock())  # type: ignore[arg-type]


async def test_note_is_opened_by_every_gateway_of_the_site_and_unreadable_to_the_browser() -> None:
    keys = Keys()
    sealed = await notes(keys).seal("password", b"change\0alice")
    assert b"alice" not in base64.urlsafe_b64decode(sealed)
    assert await notes(keys).open("password", sealed) == b"change\0alice"


async def test_note_of_another_method_or_another_site_is_none() -> None:
    keys = Keys()
    sealed = await notes(keys).seal("oidc", b"state")
    assert await notes(keys).open("password", sealed) == b""
    assert await notes().open("oidc", sealed) == b""
    assert await notes(keys).open("oid", await notes(keys).seal("oi", b"d\0state")) == b""


async def test_note_lasts_ten_minutes() -> None:
    keys, clock = Keys(), Clock()
    sealed = await notes(keys, clock).seal("oidc", b"state")
    clock.now += LIFETIME
    assert await notes(keys, clock).open("oidc", sealed) == b"state"
    clock.now += 1
    assert await notes(keys, clock).open("oidc", sealed) == b""


async def test_note_that_was_changed_or_is_no_note_is_none() -> None:
    keys = Keys()
    sealed = await notes(keys).seal("oidc", b"state")
    changed = [sealed[:number] + b"A" + sealed[number + 1 :] for number in (0, 10, 40, len(sealed) - 3)]
    for value in (b"", b"state", b"\xff", sealed[:-4], b"A" * (LONGEST + 1), *changed):
        if value != sealed:
            assert await notes(keys).open("oidc", value) == b"", value


async def test_note_that_no_cookie_can_carry_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit into a cookie"):
        await notes().seal("oidc", b"x" * LONGEST)
