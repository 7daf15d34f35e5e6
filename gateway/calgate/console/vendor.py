"""The libraries of other projects that the console's pages load, as `static/vendor/vendor.toml` lists them."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

FOLDER = files("calgate.console") / "static" / "vendor"
LIST = "vendor.toml"
TYPES = {".js": "text/javascript", ".css": "text/css"}


@dataclass(frozen=True, slots=True)
class VendoredFile:
    """One file of a library."""

    name: str
    inside: str  # path within the npm package
    sha256: str

    @property
    def content_type(self) -> str:
        """The type that browsers get it as; "" for a file that no page loads."""
        return next((kind for end, kind in TYPES.items() if self.name.endswith(end)), "")


@dataclass(frozen=True, slots=True)
class Library:
    """One library: its npm package, version, and license (SPDX)."""

    package: str
    version: str
    license: str
    files: Sequence[VendoredFile]


def libraries() -> Sequence[Library]:
    """Returns the libraries that are listed."""
    listed = tomllib.loads((FOLDER / LIST).read_text(encoding="utf-8"))["library"]
    return [
        Library(one["package"], one["version"], one["license"], [VendoredFile(**file) for file in one["files"]])
        for one in listed
    ]


def loaded_files() -> Mapping[str, tuple[str, bytes]]:
    """Returns type and content of each file that pages load, by name."""
    return {
        file.name: (file.content_type, (FOLDER / file.name).read_bytes())
        for library in libraries()
        for file in library.files
        if file.content_type
    }
