"""A load by wrk, and what the process under it spent: CPU time stays true on a noisy machine where seconds do not."""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")
BROWSER = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0 Safari/537.36",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "Accept-Language": "en-GB,en;q=0.9,de;q=0.8",
    "Accept-Encoding": "gzip, deflate, br",
    "Referer": "http://bi.example/AccessPoint/",
    "Sec-Fetch-Site": "same-origin",
    "Sec-Fetch-Mode": "no-cors",
    "Sec-Fetch-Dest": "image",
    "Cache-Control": "no-cache",
    "Pragma": "no-cache",
    "DNT": "1",
}
COOKIES = "ASP.NET_SessionId=abcdefghijklmnopqrstuvwx; AccessPointSettings=%7B%22view%22%3A%22thumb%22%7D"


@dataclass(frozen=True, slots=True)
class Figures:
    """One run of a load."""

    requests: int
    errors: int
    seconds: float
    cpu: float  # microseconds of the processes under load, each request
    p50: float  # milliseconds
    p99: float

    @property
    def rate(self) -> float:
        return self.requests / self.seconds


@dataclass(frozen=True, slots=True)
class Target:
    """What is asked for, as whom, and whose CPU time counts."""

    url: str
    cookie: str
    pids: Sequence[int]  # of parents: their children count as well


def run(target: Target, *, seconds: int, connections: int, body: int = 0, cores: str = "0") -> Figures:
    """Asks for one address again and again on kept connections."""
    fields = BROWSER | {"Cookie": f"{COOKIES}; {target.cookie}" if target.cookie else COOKIES}
    script = "wrk.headers = {}\n" + "".join(f"wrk.headers[{_lua(n)}] = {_lua(v)}\n" for n, v in fields.items())
    if body:
        script += f'wrk.method = "POST"\nwrk.body = string.rep("x", {body})\n'
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "headers.lua"
        file.write_text(script)
        words = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "--latency", "-s", str(file)]
        before = cpu_of(target.pids)
        said = _said([*words, target.url], cores, seconds)
        spent = cpu_of(target.pids) - before
    count = re.search(r"(\d+) requests in ([\d.]+)(m?s)", said)
    assert count is not None, said
    requests = int(count[1])
    errors = sum(map(int, re.findall(r"(?:connect|read|write|timeout|Non-2xx or 3xx responses:?) (\d+)", said)))
    return Figures(
        requests, errors, float(count[2]), spent * 1e6 / max(requests, 1), _ms(said, "50%"), _ms(said, "99%")
    )


def talk(target: Target, *, seconds: int, connections: int) -> Figures:
    """The same with WebSocket messages, each an echo that is waited for."""
    words = [sys.executable, "-m", "bench.sockets", "ask", target.url, target.cookie, str(seconds), str(connections)]
    before = cpu_of(target.pids)
    found = json.loads(_said(words, "0", seconds))
    spent = cpu_of(target.pids) - before
    messages = int(found["messages"])
    cpu = spent * 1e6 / max(messages, 1)
    return Figures(messages, int(found["errors"]), found["seconds"], cpu, found["p50"], found["p99"])


def _said(words: list[str], cores: str, seconds: int) -> str:
    """What a program printed that ran on these cores."""
    done = subprocess.run(
        ["taskset", "-c", cores, *words],
        check=True, capture_output=True, text=True, timeout=seconds + 60, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    return done.stdout


def cpu_of(pids: Sequence[int]) -> float:
    """Seconds of user and system time so far: of the processes, their descendants, and those of them that ended."""
    total = 0
    waiting = list(pids)
    while waiting:
        process = Path(f"/proc/{waiting.pop()}")
        fields = (process / "stat").read_text().rpartition(")")[2].split()
        total += sum(map(int, fields[11:15]))  # utime, stime, and the children's that were waited for
        for children in process.glob("task/*/children"):
            waiting += map(int, children.read_text().split())
    return total / TICK


def _ms(said: str, percentile: str) -> float:
    match = re.search(rf"{percentile}\s+([\d.]+)(us|ms|s)", said)
    assert match is not None, said
    return float(match[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[match[2]]


def _lua(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
