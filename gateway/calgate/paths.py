"""Patterns for names with folders, anchored at both ends and blind to case, as Windows' own names are.

Users choose the names that are matched, so matching takes time in proportion to their length, whatever the pattern: a
single regular expression for the whole, such as `[^/]*a[^/]*a[^/]*b`, takes 13 s for a name of 500 characters.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

_PARTS = re.compile(r"\?|[^?]+")
_NOTHING = re.compile(r"(?!)")


def fold(name: str) -> str:
    """Returns the spelling that names are compared in, character by character as in Windows, so that ß is not ss."""
    plain = name.replace("\\", "/")
    return plain.casefold() if plain.isascii() else "".join(map(_fold_one, plain))


def _fold_one(character: str) -> str:
    return next((one for one in (character.casefold(), character.lower()) if len(one) == 1), character)


def is_at_or_below(path: str, top: str) -> bool:
    """Returns whether a path is `top` or below it, by whole folders and in any case.

    If `top` ends with `/`, only paths below it count.
    """
    folded_top, folded_path = fold(top), fold(path)
    return folded_path.startswith(folded_top) and (
        folded_top.endswith("/") or folded_path[len(folded_top) :][:1] in ("", "/")
    )


@dataclass(frozen=True, slots=True)
class Glob:
    """A pattern, one entry per folder; None is `**`."""

    _folders: tuple[re.Pattern[str] | None, ...]

    def matches(self, name: str) -> bool:
        """Returns whether the whole name matches; the name must be folded already."""
        return _match(self._folders, name.split("/"))


@dataclass(frozen=True, slots=True)
class DocumentGlob:
    """A pattern for documents: for those of any host, or of one."""

    _host: Glob | None
    _name: Glob

    def matches(self, document: str, *, on_unknown_host: bool) -> bool:
        """Returns whether a folded `host|document`, or `document` alone, matches.

        `on_unknown_host` is the result for a document without a host whose name matches, if the pattern has a host.
        """
        host, bar, name = document.rpartition("|")
        if not self._name.matches(name):
            return False
        if self._host is None:
            return True
        return self._host.matches(host) if bar else on_unknown_host


def compile_document(pattern: str) -> DocumentGlob:
    """Compiles `document`, which means that document on any host, or `host|document`; both may have wildcards.

    Raises ValueError for a bar without a host, and as `compile_glob` does.
    """
    host, bar, name = pattern.rpartition("|")
    if bar and (not host or "|" in host):
        raise ValueError(f"{pattern!r}: a document of one host is written host|document")
    return DocumentGlob(compile_glob(host) if bar else None, compile_glob(name))


def compile_glob(pattern: str) -> Glob:
    """Compiles a pattern: `*` is any run of characters within one folder, `?` one of them, `**` any run of folders.

    `Sales/*.qvw` is a document in the folder Sales itself, `Sales/**` everything below it, `**/Plan.qvw` that name in
    any folder or in none. `\\` counts as `/`. Raises ValueError if `**` does not stand alone between slashes.
    """
    folders = fold(pattern).split("/")
    if any("**" in folder and folder != "**" for folder in folders):
        raise ValueError(f"{pattern!r}: ** stands for whole folders, alone between slashes")
    return Glob(tuple(None if folder == "**" else _compile_folder(folder) for folder in folders))


def _compile_folder(folder: str) -> re.Pattern[str]:
    """Makes every `*` but the last take the first position where what follows it fits, without a second attempt."""
    pieces = [_translate(piece) for piece in folder.split("*")]
    if len(pieces) == 1:
        return re.compile(pieces[0], re.DOTALL)
    first, *between, last = pieces
    return re.compile(first + "".join(f"(?>.*?{piece})" for piece in between) + f".*{last}", re.DOTALL)


def _translate(piece: str) -> str:
    return "".join("." if part == "?" else re.escape(part) for part in _PARTS.findall(piece))


def _match(pattern: Sequence[re.Pattern[str] | None], name: Sequence[str]) -> bool:
    """Matches folder by folder. Where a folder does not fit, the latest `**` takes one more; a final `**` needs one."""
    position = at = 0  # in the pattern, in the name
    retry: tuple[int, int] | None = None  # the position after the latest `**`, and how many folders it has taken
    while at < len(name) or position < len(pattern):
        folder = pattern[position] if position < len(pattern) else _NOTHING
        if folder is None:
            at += position == len(pattern) - 1
            if at > len(name):
                return False
            position, retry = position + 1, (position + 1, at)
        elif at < len(name) and folder.fullmatch(name[at]):
            position, at = position + 1, at + 1
        elif retry is not None and retry[1] < len(name):
            retry = (retry[0], retry[1] + 1)
            position, at = retry
        else:
            return False
    return True
