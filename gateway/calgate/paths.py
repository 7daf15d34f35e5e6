"""Patterns for names with folders, anchored at both ends and blind to case, as Windows' own names are.

Users choose the names that are matched, so matching takes time in proportion to their length, whatever the pattern: one
regular expression for the whole, `[^/]*a[^/]*a[^/]*b` say, takes 13 s for a name of 500 characters.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

_PARTS = re.compile(r"\?|[^?]+")
_NOTHING = re.compile(r"(?!)")


def fold(name: str) -> str:
    """The one spelling that names are compared in: one character for one, as Windows has it, so that ß is not ss."""
    plain = name.replace("\\", "/")
    return plain.casefold() if plain.isascii() else "".join(map(_fold_one, plain))


def _fold_one(character: str) -> str:
    return next((one for one in (character.casefold(), character.lower()) if len(one) == 1), character)


def is_at_or_below(path: str, top: str) -> bool:
    """Whether a path is `top` or below it, by whole folders and in any case; only below, where `top` ends with `/`."""
    mine, asked = fold(top), fold(path)
    return asked.startswith(mine) and (mine.endswith("/") or asked[len(mine) :][:1] in ("", "/"))


@dataclass(frozen=True, slots=True)
class Glob:
    """A pattern, one entry a folder; None is `**`."""

    _folders: tuple[re.Pattern[str] | None, ...]

    def matches(self, name: str) -> bool:
        """Whether the whole name matches; it must be folded already."""
        return _match(self._folders, name.split("/"))


def compile_glob(pattern: str) -> Glob:
    """`*` is any run of characters within one folder, `?` one of them, `**` alone between slashes any run of folders.

    `Sales/*.qvw` is a document in the folder Sales itself, `Sales/**` everything below it, `**/Plan.qvw` that name in
    any folder or in none. `\\` counts as `/`. Raises ValueError where `**` does not stand alone.
    """
    folders = fold(pattern).split("/")
    if any("**" in folder and folder != "**" for folder in folders):
        raise ValueError(f"{pattern!r}: ** stands for whole folders, alone between slashes")
    return Glob(tuple(None if folder == "**" else _compile_folder(folder) for folder in folders))


def _compile_folder(folder: str) -> re.Pattern[str]:
    """Every `*` but the last takes the first place where what follows it fits, and is never asked again."""
    pieces = [_translate(piece) for piece in folder.split("*")]
    if len(pieces) == 1:
        return re.compile(pieces[0], re.DOTALL)
    first, *between, last = pieces
    return re.compile(first + "".join(f"(?>.*?{piece})" for piece in between) + f".*{last}", re.DOTALL)


def _translate(piece: str) -> str:
    return "".join("." if part == "?" else re.escape(part) for part in _PARTS.findall(piece))


def _match(pattern: Sequence[re.Pattern[str] | None], name: Sequence[str]) -> bool:
    """Folder by folder; where one does not fit, the latest `**` takes one more. One at the end takes at least one."""
    place = at = 0
    again: tuple[int, int] | None = None  # behind the latest `**`, and how far it has got
    while at < len(name) or place < len(pattern):
        folder = pattern[place] if place < len(pattern) else _NOTHING
        if folder is None:
            at += place == len(pattern) - 1
            if at > len(name):
                return False
            place, again = place + 1, (place + 1, at)
        elif at < len(name) and folder.fullmatch(name[at]):
            place, at = place + 1, at + 1
        elif again is not None and again[1] < len(name):
            again = (again[0], again[1] + 1)
            place, at = again
        else:
            return False
    return True
