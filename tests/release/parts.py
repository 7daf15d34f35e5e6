"""The list of all parts that a gateway runs on (SBOM, CycloneDX), and a check of their licenses.

    python tests/release/parts.py licenses TOOLS PYTHON     # fails for a license that is not accepted
    python tests/release/parts.py sbom TOOLS PYTHON         # prints the list

TOOLS is the folder of cyclonedx-py and pip-licenses, PYTHON the Python of an environment with the parts. Other packages
in it, such as those of the tests, do not count: only what the lock files name does, and the libraries that the
console's pages load.
"""

import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from calgate.console.vendor import Library, libraries

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements-kerberos.txt", "requirements-tracing.txt")
ACCEPTED = (
    *("Apache", "BSD", "MIT", "ISC", "PSF", "Python Software Foundation", "Zlib"),
    *("MPL-2.0", "Mozilla Public License 2.0"),  # file by file; unchanged here
    *("LGPL", "GNU Lesser General Public License"),  # ldap3 and gssapi's libraries: used as they are, and replaceable
)


def names() -> Sequence[str]:
    """Returns the packages of the lock files that are for this system."""
    text = "\n".join((ROOT / "deploy" / lock).read_text(encoding="utf-8") for lock in LOCKS)
    found = re.findall(r"^([A-Za-z0-9._-]+)==[^\s;]+(?:\s*;\s*(.*?))?\s*\\$", text, re.MULTILINE)
    return sorted({name.lower() for name, condition in found if "win32" not in condition and "pypy" not in condition})


def licenses(tools: Path, python: Path) -> int:
    """Returns the exit code of pip-licenses, which prints the first package that is not accepted."""
    words = [str(tools / "pip-licenses"), "--python", str(python), "--from=mixed", "--partial-match"]
    words += [f"--allow-only={';'.join(ACCEPTED)}", "--packages", *names()]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    print(done.stderr or f"{len(done.stdout.splitlines()) - 1} packages are under accepted licenses")
    refused = [one for one in libraries() if not any(name in one.license for name in ACCEPTED)]
    for one in refused:
        print(f"{one.package}: {one.license} is not an accepted license")
    return done.returncode or int(bool(refused))


def sbom(tools: Path, python: Path) -> str:
    """Returns the list: licenses as the environment has them, hashes as the lock files do."""
    tool = str(tools / "cyclonedx-py")
    installed = _run(
        tool, "environment", "--output-reproducible", "--pyproject", str(ROOT / "pyproject.toml"), str(python)
    )
    hashes: dict[str, Any] = {}
    for lock in LOCKS:
        locked = _run(tool, "requirements", "--output-reproducible", str(ROOT / "deploy" / lock))
        hashes |= {part["name"].lower(): part.get("externalReferences", ()) for part in locked["components"]}
    wanted = set(names())
    installed["components"] = [part for part in installed["components"] if part["name"].lower() in wanted]
    kept = {part["bom-ref"] for part in installed["components"]} | {installed["metadata"]["component"]["bom-ref"]}
    for part in installed["components"]:
        part["externalReferences"] = hashes[part["name"].lower()]
        part.pop("properties", None)
    installed["dependencies"] = [
        {**one, "dependsOn": [ref for ref in one.get("dependsOn", ()) if ref in kept]}
        for one in installed["dependencies"]
        if one["ref"] in kept
    ]
    installed["components"] += [_vendored(library) for library in libraries()]
    return json.dumps(installed, indent=1) + "\n"


def _vendored(library: Library) -> Mapping[str, Any]:
    """Returns a library of the console's pages, of whose npm package only some files are here."""
    url = f"pkg:npm/{library.package}@{library.version}"
    hashes = [{"alg": "SHA-256", "content": file.sha256} for file in library.files if file.content_type]
    return {
        "type": "library",
        "bom-ref": url,
        "name": library.package,
        "version": library.version,
        "purl": url,
        "licenses": [{"license": {"id": library.license}}],
        "externalReferences": [{"type": "distribution", "url": url, "hashes": [one]} for one in hashes],
    }


def _run(*words: str) -> Any:
    return json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)


def main() -> int:
    """Runs the action of the command line."""
    what, tools, python = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    if what == "licenses":
        return licenses(tools, python)
    print(sbom(tools, python), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
