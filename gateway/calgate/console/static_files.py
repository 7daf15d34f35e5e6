"""The files that the console's pages load: scripts and styles, under names that change with their content."""

import hashlib
from collections.abc import Iterator, Mapping
from importlib.resources import files

from calgate.console.vendor import TYPES, loaded_files

STATIC = "static"  # their path below the console's own
_OWN = files("calgate.console") / "static"
_SHARED = files("calgate.pages") / "templates" / "_style.css"  # the look of the gateway's other pages


def static_files() -> Mapping[str, tuple[str, bytes]]:
    """Returns type and content of each file by name, in the order in which pages load them."""
    return {**loaded_files(), **dict(_own_files())}


def _own_files() -> Iterator[tuple[str, tuple[str, bytes]]]:
    style = _SHARED.read_bytes() + (_OWN / "console.css").read_bytes()
    script = (_OWN / "console.js").read_bytes() + (_OWN / "charts.js").read_bytes()
    for end, content in ((".css", style), (".js", script)):
        yield f"console-{hashlib.sha256(content).hexdigest()[:12]}{end}", (TYPES[end], content)
