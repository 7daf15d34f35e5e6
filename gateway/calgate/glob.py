"""Patterns for names with folders, anchored at both ends and blind to case, as Windows' own names are."""

import re

_PARTS = re.compile(r"\*\*/?|\*|\?|[^*?]+")


def compile_glob(pattern: str) -> re.Pattern[str]:
    """`*` is any run of characters within one folder, `?` one of them, `**` any run across folders.

    `Sales/*.qvw` is a document in the folder Sales itself, `Sales/**` everything below it, `**/Plan.qvw` that name in
    any folder or in none. `\\` counts as `/`. The whole name must match.
    """
    return re.compile("".join(map(_translate, _PARTS.findall(fold(pattern)))), re.DOTALL)


def fold(name: str) -> str:
    """The one spelling that names are compared in."""
    return name.replace("\\", "/").casefold()


def _translate(part: str) -> str:
    match part:
        case "**/":
            return "(?:.*/)?"
        case "**":
            return ".*"
        case "*":
            return "[^/]*"
        case "?":
            return "[^/]"
        case _:
            return re.escape(part)
