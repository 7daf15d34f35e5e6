"""Fetches the libraries that the console's pages load from npm, and compares each file: `make vendor`.

A file that is missing is written if the package has it with the hash of vendor.toml.
"""

import hashlib
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path

from calgate.console.vendor import FOLDER, Library, VendoredFile, libraries

_WITHIN = 120.0  # seconds for one package


def main() -> int:
    """Prints a line for each file, and returns 1 if one differs."""
    failed = False
    for library in libraries():
        package = _fetch(library)
        for file in library.files:
            fault = _fault(file, package.get(f"package/{file.inside}", b""))
            print(f"{file.name}: {fault or f'as in {library.package}@{library.version}'}")
            failed = failed or bool(fault)
    return int(failed)


def _fault(file: VendoredFile, content: bytes) -> str:
    """Returns how a file differs from its package, "" if it does not; writes it if it is missing."""
    found = hashlib.sha256(content).hexdigest()
    if found != file.sha256:
        return f"the package has sha256 {found}, vendor.toml {file.sha256}; find out why before you change either"
    kept = Path(str(FOLDER / file.name))
    if not kept.exists():
        kept.write_bytes(content)
    return "" if kept.read_bytes() == content else "differs from the package; remove it and run this again"


def _fetch(library: Library) -> Mapping[str, bytes]:
    """Returns the files of a package, by their path in it."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["npm", "pack", "--silent", "--pack-destination", folder, f"{library.package}@{library.version}"]
        subprocess.run(words, check=True, timeout=_WITHIN, stdout=subprocess.DEVNULL)
        [archive] = Path(folder).iterdir()
        with tarfile.open(archive) as members:
            return {one.name: reader.read() for one in members if (reader := members.extractfile(one)) is not None}


if __name__ == "__main__":
    sys.exit(main())
