"""Load by wrk, and the CPU time of the processes under load, which stays true on a noisy machine."""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

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
class Measurement:
    """The outcome of one run of a load."""

    requests: int
    errors: int
    seconds: float
    cpu: float  # microseconds of the processes under load, for each request
    kernel: float  # those of them that were spent in the kernel
    p50: float  # milliseconds
    p99: float

    @property
    def rate(self) -> float:
        return self.requests / self.seconds


@dataclass(frozen=True, slots=True)
class Target:
    """A URL, the session cookie to send, and the processes whose CPU time counts."""

    url: str
    cookies: Sequence[str]  # of its sessions, which the requests use in turn; none where it has no sign-in
    pids: Sequence[int]  # of parent processes: their children count as well


@dataclass(frozen=True, slots=True)
class Requests:
    """The requests to send: GET, or POST with a body; the same headers each time, or another Referer."""

    body: bytes = b""
    content_type: str = "application/octet-stream"
    has_own_referer: bool = False


GET = Requests()


def run(target: Target, requests: Requests = GET, *, seconds: int, connections: int, cores: str = "0") -> Measurement:
    """Requests one URL again and again on kept connections."""
    script = _script(target, requests)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "headers.lua"
        file.write_text(script)
        words = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "--latency", "-s", str(file)]
        before = CpuTime.of(target.pids)
        output = _output_of([*words, target.url], cores, seconds)
        spent = CpuTime.of(target.pids).since(before)
    count = re.search(r"(\d+) requests in ([\d.]+)(m?s)", output)
    assert count is not None, output
    total = int(count[1])
    errors = sum(map(int, re.findall(r"(?:connect|read|write|timeout|Non-2xx or 3xx responses:?) (\d+)", output)))
    p50, p99 = _ms(output, "50%"), _ms(output, "99%")
    return Measurement(total, errors, float(count[2]), *spent.each(total), p50, p99)


def run_websockets(target: Target, *, seconds: int, connections: int) -> Measurement:
    """Sends WebSocket messages, and each next one after the echo of the last."""
    words = [
        sys.executable,
        "-m",
        "bench.sockets",
        "load",
        target.url,
        target.cookies[0] if target.cookies else "",
        str(seconds),
        str(connections),
    ]
    before = CpuTime.of(target.pids)
    report = json.loads(_output_of(words, "0", seconds))
    spent = CpuTime.of(target.pids).since(before).each(report["messages"])
    return Measurement(report["messages"], report["errors"], report["seconds"], *spent, report["p50"], report["p99"])


def _script(target: Target, requests: Requests) -> str:
    """Returns wrk's script. A function for each request costs the load, so there is one only where they differ."""
    cookies = [f"{COOKIES}; {cookie}" for cookie in target.cookies] or [COOKIES]
    fields = BROWSER | {"Cookie": cookies[0]}
    if requests.body:
        fields |= {"Content-Type": requests.content_type}
    script = "wrk.headers = {}\n" + "".join(f"wrk.headers[{_lua(n)}] = {_lua(v)}\n" for n, v in fields.items())
    if requests.body:
        body = _lua(requests.body.decode()) if len(requests.body) < 1000 else f'string.rep("x", {len(requests.body)})'
        script += f'wrk.method = "POST"\nwrk.body = {body}\n'
    if len(cookies) > 1 or requests.has_own_referer:
        script += f"local cookies = {{{', '.join(map(_lua, cookies))}}}\nlocal n = 0\n"
        script += 'request = function()\n  n = n + 1\n  wrk.headers["Cookie"] = cookies[n % #cookies + 1]\n'
        if requests.has_own_referer:
            script += '  wrk.headers["Referer"] = "http://bi.example/AccessPoint/" .. n\n'
        script += "  return wrk.format()\nend\n"
    return script


def _output_of(words: list[str], cores: str, seconds: int) -> str:
    """Runs a program on these cores and returns what it printed."""
    done = subprocess.run(
        ["taskset", "-c", cores, *words],
        check=True, capture_output=True, text=True, timeout=seconds + 60, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    return done.stdout


class CpuTime(NamedTuple):
    """Seconds of the processor."""

    total: float
    kernel: float

    @classmethod
    def of(cls, pids: Sequence[int]) -> "CpuTime":
        """Returns the time of the processes and their descendants, ended ones included."""
        user = kernel = 0
        waiting = list(pids)
        while waiting:
            process = Path(f"/proc/{waiting.pop()}")
            fields = (process / "stat").read_text().rpartition(")")[2].split()
            times = [int(field) for field in fields[11:15]]  # utime, stime, and the children's that were waited for
            user += sum(times[::2])
            kernel += sum(times[1::2])
            for children in process.glob("task/*/children"):
                waiting += map(int, children.read_text().split())
        return cls((user + kernel) / TICK, kernel / TICK)

    def since(self, before: "CpuTime") -> "CpuTime":
        return CpuTime(self.total - before.total, self.kernel - before.kernel)

    def each(self, requests: int) -> tuple[float, float]:
        """Returns the microseconds for each request: total and kernel."""
        return self.total * 1e6 / max(requests, 1), self.kernel * 1e6 / max(requests, 1)


def cpu_of(pids: Sequence[int]) -> float:
    """Returns the seconds of the processes and their descendants, ended ones included."""
    return CpuTime.of(pids).total


def _ms(output: str, percentile: str) -> float:
    match = re.search(rf"{percentile}\s+([\d.]+)(us|ms|s)", output)
    assert match is not None, output
    return float(match[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[match[2]]


def _lua(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
