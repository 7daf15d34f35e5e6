"""The listener's certificates, on real TLS connections."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from calgate.http.settings import Tls
from calgate.http.tls import Certificates
from calgate.plugin.channel_binding import certificate_binding
from calgate.plugin.errors import ConfigError
from support.certificates import Authority

Connect = Callable[[str | None], Awaitable[ssl.SSLObject]]


@asynccontextmanager
async def tls_server(context: ssl.SSLContext) -> AsyncIterator[Connect]:
    """Connects by a name, or by none; returns the server's state of the TLS connection."""
    arrived: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
    server = await asyncio.start_server(lambda _, writer: arrived.put_nowait(writer), "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    writers: list[asyncio.StreamWriter] = []

    async def connect(name: str | None) -> ssl.SSLObject:
        mine = ssl._create_unverified_context()
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=mine, server_hostname=name or "")
        theirs = await arrived.get()
        writers.extend((writer, theirs))
        found = theirs.get_extra_info("ssl_object")
        assert isinstance(found, ssl.SSLObject)
        return found

    try:
        yield connect
    finally:
        for writer in writers:
            writer.transport.abort()
            with suppress(OSError):
                await writer.wait_closed()
        server.close()


@pytest.mark.parametrize("name", ["bi.example", "old.example", None])
async def test_connection_keeps_its_binding_after_the_certificate_was_renewed(tmp_path: Path, name: str | None) -> None:
    """Browsers keep connections; one that was there before the certificate was renewed signs in by the old one."""
    signed = [Authority(tmp_path).sign(one) for one in ("bi.example", "old.example")]
    served = signed[1 if name == "old.example" else 0].certificate
    files = [Tls(certificate=one.certificate, key=one.key) for one in signed]
    certificates = Certificates(files[0], files[1:])
    async with tls_server(certificates.context) as connect:
        before, here = await connect(name), certificate_binding(served)
        assert certificates.binding_of(before) == here
        for one in ("bi.example", "old.example"):
            Authority(tmp_path).sign(one)
        assert certificates.reload_if_changed()
        after, there = await connect(name), certificate_binding(served)
        assert here != there
        assert certificates.binding_of(after) == there
        assert certificates.binding_of(before) == here


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_tls_session_is_not_resumed_after_the_certificate_was_renewed(
    tmp_path: Path, version: ssl.TLSVersion
) -> None:
    """Otherwise its client would go on to sign in by the certificate that has been replaced."""
    signed = Authority(tmp_path).sign("bi.example")
    certificates = Certificates(Tls(certificate=signed.certificate, key=signed.key), [])
    client = ssl._create_unverified_context()
    client.maximum_version = version

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0, ssl=certificates.context) as listening:
        port = listening.sockets[0].getsockname()[1]

        def visit(session: ssl.SSLSession | None) -> tuple[ssl.SSLSession | None, bool | None]:
            plain = socket.create_connection(("127.0.0.1", port))
            with client.wrap_socket(plain, server_hostname="bi.example", session=session) as connection:
                connection.recv(5)
                return connection.session, connection.session_reused

        session, _ = await asyncio.to_thread(visit, None)
        session, was_resumed = await asyncio.to_thread(visit, session)
        assert was_resumed
        Authority(tmp_path).sign("bi.example")
        assert certificates.reload_if_changed()
        _, was_resumed = await asyncio.to_thread(visit, session)
        assert not was_resumed


def test_encrypted_key_is_a_config_error_without_a_prompt(tmp_path: Path) -> None:
    signed = Authority(tmp_path).sign("bi.example")
    key = serialization.load_pem_private_key(signed.key.read_bytes(), None)
    locked = serialization.BestAvailableEncryption(b"geheim")
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    signed.key.write_bytes(key.private_bytes(pem, pkcs8, locked))
    with pytest.raises(ConfigError, match=r"bi\.example\.key .*key is encrypted"):
        Certificates(Tls(certificate=signed.certificate, key=signed.key), [])
