"""The canonical spelling of a document's name, and the refusal of names that have more than one."""

import unicodedata

from calgate.http.target import windows_alias
from calgate.paths import fold
from calgate.plugin.errors import BadRequest

_LONGEST_SEGMENT = 255  # UTF-16 code units in NTFS, bytes in ext4 and XFS
_LONGEST_WINDOWS = 259  # MAX_PATH, without the NUL at its end
_LONGEST_UNIX = 4095  # PATH_MAX, without the NUL at its end
_LONGEST_HOST = 253  # RFC 1035, section 2.3.4
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})  # not Zs: U+00A0 and U+3000 are ordinary blanks


def canonical_name(name: str, *, windows: bool = True) -> str:
    """Returns the name case-folded and with `/` between folders.

    Raises BadRequest for a name by which a file system could find another document, or that no file system holds.
    """
    _refuse_too_long(name, windows)
    folded = fold(name)
    segments = folded.split("/")
    if "" in segments or {".", ".."} & set(segments):
        raise BadRequest("the document's name has an empty or a dot segment")
    if any(unicodedata.category(character) in _INVISIBLE for character in folded):
        raise BadRequest("the document's name has characters that cannot be seen")
    if "|" in folded:
        raise BadRequest("the document's name has a bar, which divides host and document")
    for segment in segments if windows else ():
        _refuse_windows_alias(segment)
    return folded


def canonical_document(written: str, *, windows: bool = True) -> str:
    """Returns `document` or `host|document`, as an administrator writes it, the way requests name it."""
    host, bar, name = written.strip().rpartition("|")
    canonical = canonical_name(name, windows=windows)
    if bar and not host:
        raise BadRequest("a document of one host is written host|document")
    return f"{canonical_host(host)}|{canonical}" if bar else canonical


def canonical_host(name: str) -> str:
    """Returns the folded name of the server that holds a document. Raises BadRequest if it cannot be one."""
    folded = fold(name)
    if len(name) > _LONGEST_HOST or not folded.isascii() or not folded.isprintable() or "|" in folded:
        raise BadRequest("the name of the document's server cannot be read")
    return folded


def _refuse_too_long(name: str, windows: bool) -> None:
    encoding, unit, longest = ("utf-16-le", 2, _LONGEST_WINDOWS) if windows else ("utf-8", 1, _LONGEST_UNIX)
    if len(name) > longest or _size(name, encoding, unit) > longest:
        raise BadRequest(f"the document's name is longer than {longest} {'characters' if windows else 'bytes'}")
    if any(_size(segment, encoding, unit) > _LONGEST_SEGMENT for segment in fold(name).split("/")):
        raise BadRequest(f"the document's name has a part longer than {_LONGEST_SEGMENT}")


def _size(text: str, encoding: str, unit: int) -> int:
    return len(text.encode(encoding, "surrogatepass")) // unit


def _refuse_windows_alias(segment: str) -> None:
    if reason := windows_alias(segment):
        raise BadRequest(f"the document's name is one that Windows reads in another way: {reason}")
    if segment != segment.strip():  # Path.GetFullPath of the .NET Framework drops U+0085 and U+00A0 at the end as well
        raise BadRequest("the document's name has a folder or file that begins or ends with a blank")
