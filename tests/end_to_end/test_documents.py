"""Documents that patterns find: a name is denied in every spelling, on every kind of server."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from support.gateway_process import DocumentServer, Gateway, cookie_of, curl, document_server, gateway, write_settings

pytestmark = pytest.mark.asyncio(loop_scope="module")


def write_patterns(folder: Path, upstream: int) -> Path:
    """Writes settings whose document is a parameter of /file, or a path below /docs; secret.pdf is denied."""
    file = write_settings(folder, upstream)
    text = re.sub(r"^(opens|uses|polls) = .*\n", "", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    patterns = (
        r"""opens = '^/docs/(?P<document>[^?]+)'""" + "\n" + r"""uses = '^/file\?(?:.*&)?name=(?P<document>[^&]+)'"""
    )
    text = text.replace('license = "demo"\n', f'license = "demo"\n{patterns}\n')
    closed = '[[access]]\nname = "secret"\ndocuments = ["secret.pdf"]\ndeny = true\n\n'
    file.write_text(text.replace("[[access]]", f"{closed}[[access]]", 1), encoding="utf-8")
    return file


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Gateway, DocumentServer, str]]:
    async with (
        document_server() as server,
        gateway(write_patterns(tmp_path_factory.mktemp("patterns"), server.port)) as gate,
    ):
        yield gate, server, await cookie_of(gate, "alice")


@pytest.mark.parametrize(
    "target",
    [
        *(
            "/file?name=secret.pdf",
            "/file?%6eame=secret.pdf",
            "/file?NAME=%53ecret.PDF",
            "/file?x=1&%u006eame=secret.pdf",
        ),
        *("/file?name=public.pdf&%6Eame=secret.pdf", "/file?name=public.pdf;name=secret.pdf", "/file?name=secret.pdf."),
        *("/file?name=secret.pdf%20", "/file?name=secret.pdf::$DATA", "/file?name=SECRET~1.PDF", "/file?name=%uD800"),
        *("/docs/secret.pdf", "/docs/secret.pdf?x=1", "/docs/secret.pdf.", "/docs/secret.pdf%20", "/docs/SECRET~1.PDF"),
        *("/docs/secret.pdf::$DATA", "/docs/pub%3F/secret.pdf", "/DOCS/%73ecret.pdf", f"/docs/{'a/' * 200}secret.pdf"),
    ],
)
async def test_denied_document_is_never_forwarded_in_another_spelling(
    running: tuple[Gateway, DocumentServer, str], target: str
) -> None:
    gate, server, cookie = running
    server.seen.clear()
    reply = await curl(gate.url + target, "--path-as-is", "--globoff", "-H", f"Cookie: {cookie}")
    assert reply.status in (400, 403), reply
    assert server.seen == []


@pytest.mark.parametrize(
    "options",
    [
        ("/file", "-d", "name=secret.pdf"),
        ("/file?name=public.pdf", "-d", "name=secret.pdf"),
        ("/file", "-F", "name=secret.pdf"),
        ("/file?x=1", "-F", "y=2", "-F", "NAME=secret.pdf"),
        ("/file", "-X", "PUT", "-d", "%6eame=secret.pdf"),
        ("/file", "-H", "Content-Type: application/x-www-form-urlencoded; charset=ibm037", "-d", "\x95\x81"),
        ("/file/?name=secret.pdf",),
        ("/file?+name=secret.pdf",),
        ("/file?%256eame=secret.pdf",),
    ],
)
async def test_denied_document_is_never_forwarded_by_a_form_or_another_reading(
    running: tuple[Gateway, DocumentServer, str], options: tuple[str, ...]
) -> None:
    gate, server, cookie = running
    server.seen.clear()
    reply = await curl(gate.url + options[0], *options[1:], "-H", f"Cookie: {cookie}")
    assert reply.status in (400, 403, 405), reply
    assert server.seen == []


async def test_form_that_names_another_document_is_forwarded_whole(
    running: tuple[Gateway, DocumentServer, str],
) -> None:
    gate, server, cookie = running
    server.seen.clear()
    reply = await curl(f"{gate.url}/file", "-d", "name=public.pdf&x=%26", "-H", f"Cookie: {cookie}")
    assert (reply.status, server.seen[0].body) == (200, b"name=public.pdf&x=%26")
    form = await curl(f"{gate.url}/docs/form", "-F", f"x={'y' * 100_000}", "-H", f"Cookie: {cookie}")
    assert form.status == 200, "the path alone names the document there, so the form is not looked at"


@pytest.mark.parametrize(
    "target", ["/file?name=public.pdf", "/docs/Rapport%20co%C3%BBts%C2%A0: 2026~2.pdf", "/file?q=100%"]
)
async def test_ordinary_document_is_forwarded(running: tuple[Gateway, DocumentServer, str], target: str) -> None:
    gate, server, cookie = running
    server.seen.clear()
    reply = await curl(gate.url + target.replace(": ", "%20"), "-H", f"Cookie: {cookie}")
    assert (reply.status, len(server.seen)) == (200, 1)
