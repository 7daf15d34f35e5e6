"""Checks the document servers: sends each a HEAD request."""

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from urllib.parse import urlsplit

from calgate.config.model import Route
from calgate.plugin.checks import Finding

ANSWER_WITHIN = 5.0  # seconds


async def check(routes: Sequence[Route]) -> AsyncIterator[Finding]:
    """Yields a finding for each document server; one that fails is reported once, however many routes have it."""
    failed = set[str]()
    for route in routes:
        for url in (url for url in route.upstreams if url not in failed):
            finding = await _upstream(route, url)
            if finding.level == "fail":
                failed.add(url)
            yield finding


async def _upstream(route: Route, url: str) -> Finding:
    try:
        async with asyncio.timeout(ANSWER_WITHIN):
            status = await _knock(route, url)
    except TimeoutError:
        return Finding(
            "fail", url, f"silent for {ANSWER_WITHIN:.0f} s", "start the document server, or open the firewall"
        )
    except socket.gaierror:
        return Finding("fail", url, "the name has no address", "correct the name in `upstreams`, or the DNS")
    except ssl.SSLCertVerificationError as error:
        return Finding(
            "fail", url, f"its certificate is refused: {error.verify_message}", "set the route's upstream_ca"
        )
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        return Finding("fail", url, f"cannot be reached: {reason}", "start the document server, or correct `upstreams`")
    except ValueError as error:
        return Finding("fail", url, f"{error}", "start the document server, or correct `upstreams`")
    return Finding("ok", url, f"responds ({status})")


async def _knock(route: Route, url: str) -> str:
    parts = urlsplit(url)
    assert parts.hostname is not None
    is_tls = parts.scheme == "https"
    context = ssl.create_default_context(cafile=route.upstream_ca) if is_tls else None
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port or (443 if is_tls else 80), ssl=context)
    try:
        head = f"HEAD {route.path} HTTP/1.1\r\nHost: {route.host or parts.netloc}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode("latin-1"))
        line = (await reader.readline()).decode("latin-1").strip()
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    if not line.startswith("HTTP/1."):
        raise ValueError(f"not an HTTP/1.1 server: {line[:40]!r}")
    return line.partition(" ")[2]
