"""`make demo-domain`: the gateway in front of a real Windows domain on this machine, and how to try it. Needs root."""

import asyncio
import contextlib
import signal
import sys
import tempfile
from pathlib import Path

from calgate import demo
from support import domain as labs
from support.domain import BASE, DOMAIN, HOST, PASSWORD, SCRIPT, SERVICE_PASSWORD, Lab
from support.gateway_process import curl

PORT = 8080
CALGATE = Path(sys.executable).with_name("calgate")
URL = f"http://{HOST}:{PORT}"
DOCUMENT = f"{URL}/QvAJAXZfc/opendoc.htm?document=Sales.qvw&host=QVS@demo"

SETTINGS = f"""
state_dir = "@FOLDER@/state"

[listen]
bind = ["127.0.0.1:{PORT}", "{labs.ADDRESS}:{PORT}"]

[log]
format = "console"

[negotiate]
keytab = "@LAB@/http.keytab"
ntlm = "domain"

[ldap]
servers = ["ldaps://dc1.{DOMAIN}"]
ca = "@LAB@/tls/ca.pem"
bind = {{ user = "gateway@{DOMAIN}", password = {{ file = "@FOLDER@/ldap.secret" }} }}
base = "{BASE}"
cache = "10s"

[[access]]
name = "app users"
groups = ["CORP\\\\app-users"]

[licenses.demo]
named = {{ in_license = 2 }}
session = {{ in_license = 2, minimum = "2m", idle_timeout = "5m" }}
contact = "the person at the keyboard"

[[routes]]
path = "/"
upstreams = ["@UPSTREAM@"]
license = "demo"
dialect = "qlikview"
sign_on = {{ headers = {{ QVUSER = '{{domain}}\\{{account}}' }} }}
"""

TO_TRY = f"""
The domain is CORP ({DOMAIN}); everybody's password is {PASSWORD}. It lives in namespaces of its own, so from another
terminal, as root, go inside first:

    {SCRIPT} exec @LAB@ bash

    kinit alice   # app-users, nested four deep: let in
    curl --negotiate -u : '{DOCUMENT}' -o /dev/null -w '%{{http_code}}\\n'
    kinit carol   # in none of the groups: 403
    curl --negotiate -u : '{DOCUMENT}'
    curl --ntlm -u 'CORP\\bob:{PASSWORD}' {URL}/ -o /dev/null -w '%{{http_code}}\\n'   # by winbindd
    {CALGATE} check --host {HOST} --as alice -c @FOLDER@/calgate.toml    # the first thing to run
    samba-tool user disable bob -s @LAB@/dc/etc/smb.conf    # takes effect within 10 seconds, whatever the ticket says
    {SCRIPT} dc @LAB@ stop    # 503 with a page, and back after: dc @LAB@ start

In a browser (inside, with a display): chromium --no-sandbox --auth-server-allowlist='*.{DOMAIN}' {URL}/
(a fresh profile needs a second load). Settings: @FOLDER@/calgate.toml   Ctrl-C stops everything.
"""


async def show(lab: Lab, folder: Path) -> None:
    """Runs document server and gateway until it is stopped."""
    async with demo.serve() as upstream:
        places = {"@FOLDER@": str(folder), "@LAB@": str(lab.folder), "@UPSTREAM@": upstream}
        (folder / "ldap.secret").write_text(SERVICE_PASSWORD)
        settings = folder / "calgate.toml"
        settings.write_text(_filled(SETTINGS, places))
        words = (sys.executable, "-m", "calgate", "run", "-c", str(settings))
        gateway = await asyncio.create_subprocess_exec(*words)
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        ended = asyncio.ensure_future(gateway.wait())
        try:
            while not stop.is_set() and not ended.done() and (await curl(f"{URL}/_calgate/health")).status != 200:
                await asyncio.sleep(0.1)
            print(_filled(TO_TRY, places) + f"\nready {URL}/", flush=True)
            await asyncio.wait([ended, asyncio.ensure_future(stop.wait())], return_when=asyncio.FIRST_COMPLETED)
        finally:
            with contextlib.suppress(ProcessLookupError):
                gateway.terminate()
            await ended


def _filled(text: str, places: dict[str, str]) -> str:
    for name, value in places.items():
        text = text.replace(name, value)
    return text


def main() -> None:
    reason = labs.missing()
    if reason:
        sys.exit(f"demo-domain: {reason}; `make packages` installs what it can")
    with tempfile.TemporaryDirectory(prefix="calgate-domain-") as folder:
        print("starting the domain (10 seconds, the first time 30)", flush=True)
        lab = labs.start(Path(folder) / "lab")
        try:
            with lab.entered():
                asyncio.run(show(lab, Path(folder)))
        finally:
            lab.do("down")


if __name__ == "__main__":
    main()
