"""The lab's domain as Python sees it, and how a test gets into its namespaces."""

import ctypes
import hashlib
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "active_directory" / "lab.sh"
CACHE = Path(__file__).parents[2] / ".lab"
PASSWORD = "P4ss-word-1!"
SERVICE_PASSWORD = "Svc-Passw0rd-1!"
DOMAIN = "corp.example.test"
HOST = f"gateway.{DOMAIN}"
OLD_HOST = f"other.{DOMAIN}"  # no account holds its SPN until a test adds it
ADDRESS = "127.0.0.80"
BASE = "DC=corp,DC=example,DC=test"
PARTNER_DOMAIN = "partner.example.net"
PARTNER_BASE = "DC=partner,DC=example,DC=net"

_CLONE_FS, _CLONE_NEWNS, _CLONE_NEWNET = 0x200, 0x20000, 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Lab:
    """A running domain."""

    folder: Path

    @property
    def keytab(self) -> Path:
        return self.folder / "http.keytab"

    @property
    def ca(self) -> Path:
        return self.folder / "tls" / "ca.pem"

    @property
    def samba(self) -> Path:
        """The domain controller's smb.conf, for samba-tool."""
        return self.folder / "dc" / "etc" / "smb.conf"

    def do(self, action: str, *words: str) -> None:
        """Runs an action of lab.sh on this lab."""
        run(str(SCRIPT), action, str(self.folder), *words)

    def samba_tool(self, *words: str) -> str:
        """Changes the directory on the domain controller. Returns the output."""
        return run("samba-tool", *words, "-s", str(self.samba))

    def ticket(self, account: str, folder: Path, password: str = PASSWORD) -> dict[str, str]:
        """Returns the environment of a user who has signed in to Windows: it names their ticket-granting ticket."""
        cache = folder / f"cc.{account}"
        environment = {"KRB5CCNAME": f"FILE:{cache}", "KRB5_CONFIG": str(self.folder / "krb5.conf")}
        run("kinit", account, stdin=f"{password}\n", env={**os.environ, **environment})
        return environment

    @contextmanager
    def partner(self) -> Iterator[Path]:
        """Runs the other domain, with trust in both directions. Yields its domain controller's smb.conf."""
        self.do("partner", "start", str(_cache("partner-")))
        try:
            yield self.folder / "partner" / "etc" / "smb.conf"
        finally:
            self.do("partner", "stop")

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Moves this thread, and the threads and processes that it starts, into the member's namespaces."""
        pid = (self.folder / "member.pid").read_text().strip()
        before = {kind: os.open(f"/proc/thread-self/ns/{kind}", os.O_RDONLY) for kind in ("net", "mnt")}
        here = Path.cwd()
        try:
            _enter({kind: os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY) for kind in before}, here)
            yield
        finally:
            _enter(before, here)


def _enter(spaces: dict[str, int], folder: Path) -> None:
    # a mount namespace can only be entered by a thread that shares its folder and root with no other
    _check(_libc.unshare(_CLONE_FS))
    for kind, flag in (("net", _CLONE_NEWNET), ("mnt", _CLONE_NEWNS)):
        _check(_libc.setns(spaces[kind], flag))
        os.close(spaces[kind])
    os.chdir(folder)  # setns changes it to the root


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def run(*words: str, stdin: str = "", env: dict[str, str] | None = None) -> str:
    """Returns a command's output; raises AssertionError with all of it if the command fails."""
    done = subprocess.run(words, input=stdin, env=env, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != 0:
        raise AssertionError(f"{words}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def missing() -> str:
    """Returns why there can be no lab here, "" if there can."""
    if os.geteuid() != 0:
        return "the lab needs root"
    needed = ("samba", "winbindd", "samba-tool", "kinit", "nsenter", "ip", "openssl")
    absent = [name for name in needed if not any((Path(p) / name).exists() for p in _path())]
    return f"the lab needs {', '.join(absent)}" if absent else ""


def _path() -> list[str]:
    return [*os.environ.get("PATH", "").split(":"), "/usr/sbin", "/sbin"]


def start(folder: Path) -> Lab:
    """Starts a lab from the scripts' cache. It ends with this process at the latest."""
    run(str(SCRIPT), "up", str(folder), str(_cache()), str(os.getpid()))
    return Lab(folder)


def _cache(kind: str = "") -> Path:
    CACHE.mkdir(exist_ok=True)
    made_of = b"".join(file.read_bytes() for file in (SCRIPT, SCRIPT.with_name("seed.py")))
    return CACHE / f"{kind}{hashlib.sha256(made_of).hexdigest()[:16]}.tgz"
