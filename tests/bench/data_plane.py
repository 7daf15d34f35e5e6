"""A warm request: calgate beside bare nginx and beside Apache with mod_auth_gssapi, mod_authnz_ldap and mod_proxy.

All sides stand before the same backend and are asked in turn, in one run: load and backend on core 0, the side under
load alone on core 1, one worker, 32 kept connections, a browser's headers, signed in, a sign-on header set, no access
log.
"""

import base64
import contextlib
import os
import re
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import lab as labs
from bench import load, sides
from bench.load import BROWSER, COOKIES, Figures
from bench.results import Result

ROUNDS = 3
SECONDS = 4
MODULES = Path("/usr/lib/apache2/modules")

SETTINGS = """
state_dir = "{folder}/state"
[listen]
bind = "127.0.0.80:{port}"
[log]
level = "warning"
access = {access}
[negotiate]
keytab = "{keytab}"
[ldap]
servers = ["ldaps://dc1.corp.example.test"]
ca = "{ca}"
bind = {{ user = "gateway@corp.example.test", password = "{bind_password}" }}
base = "DC=corp,DC=example,DC=test"
[[access]]
name = "app users"
groups = ["CORP\\\\app-users"]
[licenses.bench]
session = {{ in_license = 100000 }}
[[routes]]
upstreams = ["http://127.0.0.1:{backend}"]
license = "bench"
opens = '^/(?P<document>1k|100k|10m)$'
sign_on = {{ headers = {{ QVUSER = '{{domain}}\\{{account}}' }} }}
"""


@dataclass(frozen=True)
class Side:
    """One proxy under load."""

    name: str
    origin: str
    pids: list[int]
    cookie: str


def measure() -> Iterator[Result]:
    """Starts everything, asks all sides in turn, and ends everything."""
    reason = labs.missing()
    if reason:
        raise SystemExit(f"this benchmark needs the lab's domain: {reason}")
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        here = Path(folder)
        here.chmod(0o755)
        (here / "lab").mkdir()
        lab = labs.start(here / "lab")
        stack.callback(lab.do, "down")
        stack.enter_context(lab.entered())
        os.environ["KRB5_CONFIG"] = str(lab.folder / "krb5.conf")
        backend = stack.enter_context(sides.backend(here / "backend"))
        ticket = lab.ticket("bob", here)
        started = [
            stack.enter_context(side)
            for side in (
                _nginx(here, backend),
                apache(here, backend, lab, ticket),
                calgate(here, backend, lab, ticket, access=False),
                calgate(here, backend, lab, ticket, access=True),
            )
        ]
        yield from _compare(started)


@dataclass(frozen=True)
class Scenario:
    """What is asked for, over how many connections; goals against nginx and Apache, where there are any."""

    name: str
    path: str
    connections: int = 32
    body: int = 0  # bytes sent with each request
    to_nginx: float | None = None
    to_apache: float | None = None


SCENARIOS = (
    Scenario("1 KB", "/1k", to_nginx=3.0, to_apache=0.3),
    Scenario("100 KB", "/100k", to_nginx=1.3),
    Scenario("10 MB", "/10m"),
    Scenario("1 KB, 1 connection", "/1k", connections=1),
    Scenario("1 KB, 1000 connections", "/1k", connections=1000),
    Scenario("1 KB up", "/up", body=1 << 10),
    Scenario("10 MB up", "/up", body=10 << 20, connections=4),
)


def _compare(started: list[Side]) -> Iterator[Result]:
    for scenario in SCENARIOS:
        rounds = [{side.name: _ask(side, scenario) for side in started} for _ in range(ROUNDS)]
        for side in started:
            yield from _figures(side.name, scenario.name, [figures[side.name] for figures in rounds])
        yield from _ratios(scenario, rounds)


def _ask(side: Side, scenario: Scenario) -> Figures:
    cookie = f"{COOKIES}; {side.cookie}" if side.cookie else COOKIES
    fields = BROWSER | {"Cookie": cookie}
    url = f"{side.origin}{scenario.path}"
    return load.run(url, fields, side.pids, seconds=SECONDS, connections=scenario.connections, body=scenario.body)


def _figures(name: str, scenario: str, figures: list[Figures]) -> Iterator[Result]:
    def median(of: Callable[[Figures], float]) -> float:
        return statistics.median(of(one) for one in figures)

    yield Result(f"{scenario}: {name}: CPU a request", median(lambda f: f.cpu), "µs")
    yield Result(f"{scenario}: {name}: requests", median(lambda f: f.rate), "1/s")
    yield Result(f"{scenario}: {name}: p50", median(lambda f: f.p50), "ms")
    yield Result(f"{scenario}: {name}: p99", median(lambda f: f.p99), "ms")
    yield Result(f"{scenario}: {name}: errors", sum(f.errors for f in figures), "requests", goal=0)


def _ratios(scenario: Scenario, rounds: list[dict[str, Figures]]) -> Iterator[Result]:
    def ratio(one: str, other: str) -> float:
        return statistics.median(figures[one].cpu / figures[other].cpu for figures in rounds)

    name = scenario.name
    yield Result(f"{name}: calgate / nginx: CPU", ratio("calgate", "nginx"), "x", goal=scenario.to_nginx)
    yield Result(f"{name}: calgate / Apache: CPU", ratio("calgate", "Apache"), "x", goal=scenario.to_apache)
    yield Result(f"{name}: calgate with access log / Apache: CPU", ratio("calgate+log", "Apache"), "x")


@contextlib.contextmanager
def _nginx(here: Path, backend: int) -> Iterator[Side]:
    with sides.nginx(here / "nginx", backend) as (port, pids):
        yield Side("nginx", f"http://127.0.0.1:{port}", pids, "")


@contextlib.contextmanager
def apache(here: Path, backend: int, lab: labs.Lab, ticket: dict[str, str]) -> Iterator[Side]:
    folder = here / "apache"
    folder.mkdir()
    port = sides.free_port()
    keytab = folder / "http.keytab"
    keytab.write_bytes(lab.keytab.read_bytes())
    subprocess.run(["chown", "-R", "www-data", str(folder)], check=True)
    config = folder / "apache.conf"
    template = (Path(__file__).parent / "apache.conf").read_text()
    key = base64.b64encode(os.urandom(32)).decode()
    text = template.format(
        folder=folder, port=port, modules=MODULES, ca=lab.ca, keytab=keytab, session_key=key, backend=backend,
        bind_password=labs.SERVICE_PASSWORD,
    )  # fmt: skip
    config.write_text(text)
    with sides.process(["apache2", "-DFOREGROUND", "-f", str(config)], port, core=1, host="127.0.0.80") as pid:
        origin = f"http://{labs.HOST}:{port}"
        cookie = _sign_in(origin, ticket, "apache_session")
        yield Side("Apache", origin, [pid, *sides.children_of(pid)], cookie)


@contextlib.contextmanager
def calgate(here: Path, backend: int, lab: labs.Lab, ticket: dict[str, str], *, access: bool) -> Iterator[Side]:
    name = "calgate+log" if access else "calgate"
    folder = here / name
    folder.mkdir()
    port = sides.free_port()
    settings = folder / "calgate.toml"
    settings.write_text(
        SETTINGS.format(
            folder=folder, port=port, keytab=lab.keytab, ca=lab.ca, backend=backend, access=str(access).lower(),
            bind_password=labs.SERVICE_PASSWORD,
        )
    )  # fmt: skip
    words = [sides.PYTHON, "-m", "calgate", "run", "-c", str(settings)]
    with sides.process(words, port, core=1, host="127.0.0.80") as pid:
        origin = f"http://{labs.HOST}:{port}"
        cookie = _sign_in(origin, ticket, "calgate")
        yield Side(name, origin, [pid, *sides.workers_of(pid)], cookie)


def _sign_in(origin: str, ticket: dict[str, str], name: str) -> str:
    """The session cookie of a sign-in by Kerberos; tries for a while, since the side may still be starting."""
    words = ["curl", "-sS", "-i", "--negotiate", "-u", ":", "--retry", "20", "--retry-delay", "1", "--retry-all-errors"]
    said = subprocess.run(
        [*words, "-f", f"{origin}/1k"], capture_output=True, timeout=60, check=False, env={**os.environ, **ticket}
    )
    found = re.findall(rf"(?im)^set-cookie: ({name}=[^;\r]+)", said.stdout.decode("latin-1"))
    if not found:
        raise RuntimeError(f"no sign-in at {origin}: {said.stderr.decode()} {said.stdout[:300]!r}")
    return str(found[-1])
