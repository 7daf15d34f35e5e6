"""A busy morning: people sign in, read documents, wait in the queue and leave, so that the console has much to show.

They are clients like any other, and come through the gateway's own listener.
"""

import asyncio
import base64
import random
from collections.abc import Sequence
from contextlib import suppress
from urllib.parse import quote

import aiohttp
import spnego

from calgate.demo.data import DOCUMENTS
from calgate.demo.people import DOMAIN, PASSWORD, STAFF, Person

_WITHIN = aiohttp.ClientTimeout(total=20)
_ARRIVE = 15.0  # seconds within which everybody arrives
_READS = (5.0, 25.0)  # seconds
_LOOKS_AGAIN = 3.0  # seconds between two requests of an open page
_PATIENCE = (10.0, 60.0)  # seconds in the queue
_PAUSE = (5.0, 30.0)
_SIGNS_OUT = 0.5  # share of visits that end with a sign-out; after the others a CAL waits for its idle timeout
_MAY_ENTER = 200
_DENIED = 403


async def play(url: str, people: Sequence[Person] = STAFF) -> None:
    """Plays people at the gateway until it is cancelled. `url` has no slash at its end."""
    async with asyncio.TaskGroup() as tasks:
        for person in people:
            tasks.create_task(_spend_the_morning(url, person))


async def _spend_the_morning(url: str, person: Person) -> None:
    chance = random.Random(person.account)  # noqa: S311 - nobody has to be surprised
    await asyncio.sleep(chance.uniform(0, _ARRIVE))
    while True:
        with suppress(aiohttp.ClientError, TimeoutError, spnego.exceptions.SpnegoError):
            await _visit(url, person, chance)
        await asyncio.sleep(chance.uniform(*_PAUSE))


async def _visit(url: str, person: Person, chance: random.Random) -> None:
    """Opens a document, reads it or waits for it, and leaves."""
    document = f"/QvAJAXZfc/opendoc.htm?document={quote(chance.choice(list(DOCUMENTS)))}&host=QVS@demo"
    connector = aiohttp.TCPConnector(limit=1)  # NTLM signs in on one connection
    cookies = aiohttp.CookieJar(unsafe=True)  # the site has an address instead of a name
    async with aiohttp.ClientSession(url, connector=connector, cookie_jar=cookies, timeout=_WITHIN) as browser:
        await _sign_in(browser, person)
        loop = asyncio.get_running_loop()
        gives_up = loop.time() + chance.uniform(*_PATIENCE)
        leaves = None
        while loop.time() < (leaves or gives_up):
            status = await _open(browser, document)
            if status == _MAY_ENTER and leaves is None:
                leaves = loop.time() + chance.uniform(*_READS)
            elif status not in (_MAY_ENTER, _DENIED):
                return
            await asyncio.sleep(_LOOKS_AGAIN)
        if leaves is None or chance.random() < _SIGNS_OUT:
            async with browser.post("/_calgate/sign-out", headers={"Origin": url}, allow_redirects=False):
                pass


async def _sign_in(browser: aiohttp.ClientSession, person: Person) -> None:
    """Signs in by NTLM; the session's cookie does from then on."""
    context = spnego.client(
        f"{DOMAIN}\\{person.account}",
        PASSWORD,
        hostname="demo",
        service="HTTP",
        protocol="ntlm",
        options=spnego.NegotiateOptions.use_ntlm,
    )
    token = context.step()
    for _ in range(2):
        sent = base64.b64encode(token or b"").decode()
        async with browser.get("/", headers={"Authorization": f"NTLM {sent}"}) as response:
            await response.read()
            challenge = response.headers.get("WWW-Authenticate", "")
        if not challenge.startswith("NTLM "):
            return
        token = context.step(base64.b64decode(challenge.removeprefix("NTLM ")))


async def _open(browser: aiohttp.ClientSession, document: str) -> int:
    async with browser.get(document, headers={"Accept": "text/html"}) as response:
        await response.read()
        return response.status
