"""A document server under QlikView's URLs, for demonstrations and tests. It does not know the gateway.

It trusts the header QVUSER, as a document server behind a gateway does, so nothing else may reach it: it
binds to the loopback address alone.
"""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

from aiohttp import WSMsgType, web
from jinja2 import Environment, PackageLoader, StrictUndefined

from calgate.demo.data import DOCUMENTS, Document, Sitting, Sittings

_STATIC = Path(__file__).parent / "static"
_ROWS = 200
_templates = Environment(loader=PackageLoader("calgate.demo"), autoescape=True, undefined=StrictUndefined)


@asynccontextmanager
async def serve(port: int = 0) -> AsyncIterator[str]:
    """Serves on 127.0.0.1 and yields the address, such as "http://127.0.0.1:40123". Port 0 takes a free one."""
    runner = web.AppRunner(application(), access_log=None, shutdown_timeout=1, max_field_size=65_536)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def application() -> web.Application:
    """The document server as an aiohttp application."""
    app = web.Application()
    app[_SITTINGS] = Sittings()
    app[_STOPPING] = asyncio.Event()
    app.on_shutdown.append(_stop)
    app.router.add_get("/", _portal)
    app.router.add_get("/qlikview/", _portal)
    app.router.add_get("/QvAJAXZfc/AccessPoint.aspx", _link)
    app.router.add_get("/QvAJAXZfc/opendoc.htm", _open)
    app.router.add_post("/QvAJAXZfc/QvsViewClient.aspx", _call)
    app.router.add_static("/QvAJAXZfc/htc/", _STATIC)
    app.router.add_get("/export.csv", _export)
    app.router.add_get("/live", _live)
    return app


_SITTINGS = web.AppKey("sittings", Sittings)
_STOPPING = web.AppKey("stopping", asyncio.Event)


async def _stop(app: web.Application) -> None:
    app[_STOPPING].set()


# ---------------------------------------------------------------- pages


async def _portal(request: web.Request) -> web.Response:
    names = ", ".join(document.name for document in DOCUMENTS.values())
    return _page(
        request, "portal.html", f"AccessPoint for {_user(request)}: {names}", documents=list(DOCUMENTS.values())
    )


async def _link(request: web.Request) -> web.Response:
    """AccessPoint.aspx?open=&id=QVS@demo|Sales.qvw&client=Ajax, as the real portal links to documents."""
    _, _, name = request.query.get("id", "").partition("|")
    location = request.url.with_path("/QvAJAXZfc/opendoc.htm").with_query(document=name, host="QVS@demo").relative()
    return web.Response(status=302, headers={"Location": str(location)})


async def _open(request: web.Request) -> web.Response:
    document = _document(request.query.get("document", ""))
    if document is None:
        return _page(request, "missing.html", "There is no such document.", status=404)
    return _page(request, "document.html", f"{document.name}, opened for {_user(request)}", document=document)


def _page(request: web.Request, template: str, plain: str, status: int = 200, **more: object) -> web.Response:
    """A page for browsers, and one line for clients that do not accept HTML, such as curl in a terminal."""
    if "text/html" not in request.headers.get("Accept", ""):
        return web.Response(text=f"{plain}\n", status=status)
    body = _templates.get_template(template).render(user=_user(request), **more)
    return web.Response(text=body, content_type="text/html", status=status, headers={"Cache-Control": "no-store"})


def _user(request: web.Request) -> str:
    """Returns the user from the header: aiohttp decodes each byte to one character, and the gateway writes UTF-8."""
    return request.headers.get("QVUSER", "nobody").encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _document(name: str) -> Document | None:
    return DOCUMENTS.get(name.replace("\\", "/").casefold())


# ---------------------------------------------------------------- the AJAX client's calls


async def _call(request: web.Request) -> web.Response:
    """Handles one `<update>`: without a mark it opens the document, with one it selects or only polls."""
    try:
        update = ElementTree.fromstring(await request.text())  # noqa: S314 - a demonstration on the loopback address
    except ElementTree.ParseError:
        return _told("This is not a command.", status=400)
    document = _document(update.get("view", ""))
    if document is None:
        return _told("There is no such document.", status=404)
    sittings = request.app[_SITTINGS]
    sitting = sittings.find(update.get("mark", "")) if update.get("mark") else sittings.open(document)
    if sitting is None or sitting.document is not document:
        return _told("This page has been open for too long; open the document again.")
    for command in update.iter("set"):
        sitting.select(command.get("name", ""), command.get("value", ""))
    return _xml(_state(sitting))


def _state(sitting: Sitting) -> str:
    """Returns the whole state as attributes: the fields with their selections, and the bars."""
    document = sitting.document
    lists = "".join(
        f"<list name={quoteattr(name)}>"
        + "".join(f"<value text={quoteattr(v)} selected='{int(sitting.selected.get(name) == v)}'/>" for v in values)
        + "</list>"
        for name, values in document.fields.items()
    )
    figures = document.figures(sitting.selected)
    bars = "".join(f"<bar text={quoteattr(text)} value='{value}'/>" for text, value in figures)
    chart = f"<chart unit={quoteattr(document.unit)}>{bars}</chart>"
    return f"<result mark='{sitting.mark}' stamp='1'>{lists}{chart}</result>"


def _told(words: str, status: int = 200) -> web.Response:
    return _xml(f"<result><message text={quoteattr(words)}/></result>", status)


def _xml(text: str, status: int = 200) -> web.Response:
    return web.Response(text=text, content_type="text/xml", status=status, headers={"Cache-Control": "no-store"})


# ---------------------------------------------------------------- slow responses


async def _export(request: web.Request) -> web.StreamResponse:
    """A slow download: a row each twentieth of a second, for ten seconds."""
    response = web.StreamResponse(headers={"Content-Disposition": 'attachment; filename="export.csv"'})
    response.content_type = "text/csv"
    await response.prepare(request)
    with suppress(ConnectionResetError):  # the user may cancel the download
        await response.write(b"row,value\r\n")
        for row in range(_ROWS):
            if await _is_stopping(request.app, 0.05):
                break
            await response.write(f"{row},{math.sin(row / 10):.4f}\r\n".encode())
    return response


async def _live(request: web.Request) -> web.WebSocketResponse:
    """A WebSocket that counts up every second and echoes messages."""
    socket = web.WebSocketResponse(heartbeat=30)
    await socket.prepare(request)
    async with asyncio.TaskGroup() as group:
        ticking = group.create_task(_tick(request.app, socket))
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                await socket.send_str(f"echo {message.data}")
        ticking.cancel()
    return socket


async def _tick(app: web.Application, socket: web.WebSocketResponse) -> None:
    count = 0
    while not socket.closed:
        await socket.send_str(f"tick {count}")
        count += 1
        if await _is_stopping(app, 1):
            await socket.close(code=1001)


async def _is_stopping(app: web.Application, seconds: float) -> bool:
    """Waits, but ends early with True when the server stops."""
    try:
        async with asyncio.timeout(seconds):
            await app[_STOPPING].wait()
    except TimeoutError:
        return False
    return True
