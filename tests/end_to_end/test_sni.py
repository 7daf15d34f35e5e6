"""Several certificates on one listener: each name gets its own, and a sign-in is bound to that certificate."""

import asyncio
import base64
import random
import re
import ssl
import subprocess
from pathlib import Path

import spnego
from spnego.channel_bindings import GssChannelBindings

from calgate.plugin.channel_binding import certificate_binding
from support.gateway_process import PASSWORD, DocumentServer, Exchange, Gateway, curl, gateway, write_settings

FIRST, SECOND = "bi.demo.example", "old.demo.example"


def certificate(folder: Path, name: str) -> Path:
    """Creates a self-signed certificate for a name, with its key next to it; returns the path of the certificate."""
    pem = folder / f"{name}.pem"
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    words += ["-keyout", str(pem.with_suffix(".key")), "-out", str(pem), "-subj", f"/CN={name}"]
    subprocess.run([*words, "-addext", f"subjectAltName=DNS:{name}"], check=True, capture_output=True)
    return pem


def settings(folder: Path, server: DocumentServer) -> Path:
    first, second = (certificate(folder, name) for name in (FIRST, SECOND))
    listen = f"""tls = {{ certificate = "{first}", key = "{first.with_suffix(".key")}" }}
sni = [{{ certificate = "{second}", key = "{second.with_suffix(".key")}" }}]"""
    file = write_settings(folder, server.port, listen=listen)
    file.write_text(file.read_text().replace("[negotiate]", '[negotiate]\nchannel_binding = "require"'))
    return file


async def connect(gate: Gateway, name: str | None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    context = ssl._create_unverified_context()
    return await asyncio.open_connection("127.0.0.1", gate.port, ssl=context, server_hostname=name)


async def served(gate: Gateway, name: str | None) -> bytes:
    """Returns the certificate that the gateway presents for a name, in DER."""
    _, writer = await connect(gate, name or "")
    der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return bytes(der)


async def sign_in(gate: Gateway, name: str, bound_to: Path) -> int:
    """Signs in by NTLM, bound to a certificate, on a connection for this name; returns the status."""
    binding = GssChannelBindings(application_data=certificate_binding(bound_to))
    client = spnego.client(
        "DEMO\\alice", PASSWORD, protocol="ntlm", channel_bindings=binding, options=spnego.NegotiateOptions.use_ntlm
    )
    reader, writer = await connect(gate, name)
    token, head = client.step(), ""
    for _ in range(2):
        field = base64.b64encode(token).decode()
        writer.write(f"GET /portal HTTP/1.1\r\nHost: {FIRST}\r\nAuthorization: NTLM {field}\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        await reader.readexactly(int(re.search(r"(?i)content-length: (\d+)", head)[1]))  # type: ignore[index]
        challenge = re.search(r"(?i)www-authenticate: ntlm (\S+)", head)
        token = client.step(base64.b64decode(challenge[1])) if challenge else b""
    writer.close()
    return int(head.split(" ")[1])


async def test_each_sni_name_gets_its_certificate_and_others_the_first(server: DocumentServer, tmp_path: Path) -> None:
    async with gateway(settings(tmp_path, server)) as gate:
        der = {name: ssl.PEM_cert_to_DER_cert((tmp_path / f"{name}.pem").read_text()) for name in (FIRST, SECOND)}
        assert await served(gate, FIRST) == der[FIRST]
        assert await served(gate, SECOND) == der[SECOND]
        assert await served(gate, SECOND.upper()) == der[SECOND]
        assert await served(gate, "another.example") == der[FIRST]


async def test_sign_in_is_bound_to_the_certificate_of_its_connection(server: DocumentServer, tmp_path: Path) -> None:
    """The Host header does not matter: it is always the first name here."""
    async with gateway(settings(tmp_path, server)) as gate:
        first, second = tmp_path / f"{FIRST}.pem", tmp_path / f"{SECOND}.pem"
        assert await sign_in(gate, FIRST, first) == 200
        assert await sign_in(gate, SECOND, second) == 200
        assert await sign_in(gate, FIRST, second) == 401
        assert await sign_in(gate, SECOND, first) == 401


async def test_large_responses_over_tls_are_complete(server: DocumentServer, tmp_path: Path) -> None:
    """Headers and a body of more than a few KB are written to the connection separately."""
    sizes = (1, 16_383, 16_384, 100_000, 3_000_000)
    bodies = {f"/{size}": random.Random(size).randbytes(size) for size in sizes}

    async def large(exchange: Exchange) -> None:
        await exchange.answer(bodies.get(exchange.path, b"portal"))

    server.behaviour = large
    file = settings(tmp_path, server)
    file.write_text(file.read_text().replace('channel_binding = "require"', 'channel_binding = "off"'))
    async with gateway(file) as gate:
        for path, body in bodies.items():
            reply = await curl(f"{gate.url}{path}", "-k", user="alice")
            assert (reply.status, reply.body == body) == (200, True), path
