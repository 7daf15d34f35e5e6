"""The Debian package: built twice with the same files, accepted by lintian, installed and removed in a clean system."""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from support.ports import free_port

ROOT = Path(__file__).parents[2]
EITHER_WAY = "gssapi/raw/oids.abi3.so"  # Cython writes it in one of two ways: see deploy/package/build.sh
NEEDED = ("lintian", "mmdebstrap", "dpkg-deb", "unshare", "chroot", "curl")

pytestmark = [pytest.mark.long, pytest.mark.alone, pytest.mark.timeout(1800)]


def run(*words: str | Path, **options: object) -> str:
    """Returns a command's output; raises AssertionError with all of it if the command fails."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=900, check=False, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return str(done.stdout)


def build(source: Path, folder: Path) -> Path:
    """Builds the package of a checkout; returns its file."""
    run("make", "-C", source, "deb", f"DIST={folder}", f"RELEASE={ROOT / '.venv' / '.release'}")
    (package,) = folder.glob("*.deb")
    return package


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    lacking = [name for name in NEEDED if shutil.which(name) is None]
    if lacking or os.geteuid() != 0:
        pytest.skip(f"needs root and {', '.join(lacking or NEEDED)}")
    return build(ROOT, tmp_path_factory.mktemp("dist"))


def test_package_has_no_error_by_lintian(package: Path) -> None:
    done = subprocess.run(
        ["lintian", "--fail-on", "error", package],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def contents(package: Path, folder: Path) -> Mapping[str, str]:
    """Unpacks a package; returns its entries, with their modes and times, and what is in its files."""
    listed = run("dpkg-deb", "--contents", package).splitlines()
    run("dpkg-deb", "--raw-extract", package, folder)
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    digests = {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    del digests["DEBIAN/md5sums"]
    return digests | {line: "" for line in listed if EITHER_WAY not in line}


def test_second_build_from_another_folder_has_the_same_files(package: Path, tmp_path: Path) -> None:
    run("git", "clone", "-q", "--local", ROOT, tmp_path / "clone")
    changed = run("git", "-C", ROOT, "status", "--porcelain")
    if changed:
        pytest.skip("the checkout has changes that a clone has not")
    again = build(tmp_path / "clone", tmp_path)
    [wheel], [other_wheel] = package.parent.glob("*.whl"), again.parent.glob("*.whl")
    assert wheel.read_bytes() == other_wheel.read_bytes()
    one, other = contents(package, tmp_path / "one"), contents(again, tmp_path / "other")
    differing = {name for name in one.keys() | other.keys() if one.get(name) != other.get(name)}
    assert {name for name in differing if not name.endswith(EITHER_WAY)} == set()


@pytest.fixture(scope="module")
def system(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A minimal Debian with what the package depends on, and the package's file in /tmp."""
    root = tmp_path_factory.mktemp("debian") / "root"
    depends = "python3,libgssapi-krb5-2,libkrb5-3,krb5-config,tzdata,passwd"
    run("mmdebstrap", "--variant=minbase", f"--include={depends}", "bookworm", root)
    shutil.copy(package, root / "tmp" / "calgate.deb")
    yield root
    shutil.rmtree(root)


def inside(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs a command in the system, without a network."""
    command = ["unshare", "--net", "--pid", "--fork", "--kill-child", "chroot", str(root), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_container_is_made_from_the_package(package: Path, system: Path, tmp_path: Path) -> None:
    if shutil.which("buildah") is None:
        pytest.skip("needs buildah")
    (tmp_path / "dist").mkdir()
    shutil.copy(package, tmp_path / "dist")
    stored = ("--root", tmp_path / "images", "--runroot", tmp_path / "run", "--storage-driver", "vfs")
    environment = {**os.environ, "BUILDAH_ISOLATION": "chroot"}

    def buildah(*words: str | Path) -> str:
        return run("buildah", *stored, *words, env=environment).strip()

    base = buildah("from", "scratch")
    buildah("add", base, system, "/")
    buildah("commit", base, "docker.io/library/debian:bookworm-slim")
    buildah("bud", "--pull-never", "-f", ROOT / "deploy" / "Containerfile", "-t", "calgate", tmp_path)
    container = buildah("from", "--pull-never", "localhost/calgate")
    assert "0.1.0" in buildah("run", container, "--", "calgate", "--version")
    assert "uid=10001(calgate) gid=10001(calgate)" in buildah("run", container, "--", "id")


def test_package_is_installed_runs_and_is_removed_in_a_clean_system(system: Path) -> None:
    done = inside(system, "dpkg", "-i", "/tmp/calgate.deb")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0.1.0" in inside(system, "calgate", "--version").stdout
    assert inside(system, "stat", "-c", "%a %U %G", "/etc/calgate").stdout.split() == ["750", "root", "calgate"]
    faults = inside(system, "calgate", "run")
    assert (faults.returncode, "/etc/calgate/calgate.toml" in faults.stderr) == (2, True), faults.stderr
    serving = f"""
        ip link set lo up 2>/dev/null || /usr/bin/python3 - <<'END'
import fcntl, socket, struct
line = socket.socket()
fcntl.ioctl(line, 0x8914, struct.pack("16sh", b"lo", 0x49))
END
        export HOME=/tmp
        setpriv --reuid=calgate --regid=calgate --clear-groups \\
            calgate demo --bind 127.0.0.1:{free_port()} >/tmp/demo.log 2>&1 &
        for i in $(seq 300); do grep -q ready /tmp/demo.log && exit 0; sleep 0.1; done
        cat /tmp/demo.log; exit 1
    """
    demo = inside(system, "sh", "-c", serving)
    assert demo.returncode == 0, demo.stdout + demo.stderr
    for file in ("/usr/share/man/man1/calgate.1.gz", "/usr/share/man/man5/calgate.toml.5.gz"):
        assert (system / file[1:]).exists()
    assert (system / "opt/calgate/share/calgate/guide/start.md").exists()
    done = inside(system, "dpkg", "--purge", "calgate")
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (system / "opt/calgate").exists()
    assert (system / "etc/calgate").exists(), "keys stay"
    assert inside(system, "getent", "passwd", "calgate").returncode == 0
