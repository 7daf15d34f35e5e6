"""One spelling for a document's name, and a refusal for names that have more."""

import re
import unicodedata

from calgate.paths import fold
from calgate.plugin.errors import BadRequest

_SHORT_NAME = re.compile(r"~\d+(?:\.|$)")


def canonical(name: str) -> str:
    """Case-folded, `/` between folders; raises BadRequest where file systems could find the same document otherwise."""
    folded = fold(name)
    segments = folded.split("/")
    if "" in segments or {".", ".."} & set(segments):
        raise BadRequest("the document's name has an empty or a dot segment")
    if not folded.isprintable() or any(unicodedata.category(character) in {"Cf", "Co", "Cn"} for character in folded):
        raise BadRequest("the document's name has characters that cannot be seen")
    return folded


def canonical_windows(name: str) -> str:
    """`canonical`, for a document server on Windows."""
    folded = canonical(name)
    refuse_windows_aliases(folded)
    return folded


def refuse_windows_aliases(name: str) -> None:
    """Raises BadRequest for spellings that Windows opens under another name.

    It drops dots and blanks at the end of a name, knows SALES~1.QVW for a longer one, and takes what follows a colon
    for a stream of the same file ("Naming Files, Paths, and Namespaces", Microsoft).
    """
    for segment in name.split("/"):
        if segment != segment.strip(" ").rstrip(".") or _SHORT_NAME.search(segment) or set(':*?"<>|') & set(segment):
            raise BadRequest("Windows would read this name in another way")
