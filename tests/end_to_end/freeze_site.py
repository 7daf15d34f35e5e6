"""Freezes the data of a version of the program: settings, users, sessions, CALs and records.

    cd tests && python -m end_to_end.freeze_site PROGRAM NAME      # PROGRAM: the `calgate` of that version

writes NAME.json, a site with a Redis, and NAME-private.json, one with the private store, whose files it contains.

Run it once for a version that sites use; `test_upgrade.py` starts today's program on it.
"""

import asyncio
import base64
import gzip
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from redis.asyncio import Redis

from calgate_users import ntlmv2
from support.gateway_process import PASSWORD, curl, document_server
from support.ports import free_port
from support.redis_servers import Server

FROZEN = Path(__file__).parent / "frozen"
# The settings as that version wrote them. Everything lasts for years, so that a test can use it later.
SETTINGS = """
state_dir = "{folder}/state"

[listen]
bind = "127.0.0.1:{port}"

[session]
lifetime = "3650d"
idle = "3650d"

[log]
level = "info"

[store]
{store}

[negotiate]
ntlm = "users"

[users]
file = "{folder}/users.toml"

[[access]]
name = "no trainees"
groups = ["DEMO\\\\trainees"]
deny = true

[[access]]
name = "app users"
groups = ["DEMO\\\\app-users"]

[licenses.demo]
contact = "help@demo.example"
named = {{ in_license = 2, dynamic = false }}
document = {{ in_license = 1, dynamic = true }}
session = {{ in_license = 1, minimum = "1d", idle_timeout = "3650d", reclaimable_after = "off" }}

[[routes]]
path = "/"
upstreams = ["http://127.0.0.1:{upstream}"]
license = "demo"
opens = '^/docs/(?P<document>[^?/]+)$'
sign_on = {{ headers = {{ QVUSER = '{{domain}}\\{{account}}' }} }}
"""
USERS = ("alice", "bob", "carol", "dave")


def users_file() -> str:
    """Returns the users file."""
    nt_hash = ntlmv2.nt_hash(PASSWORD).hex()
    rows = [f'[[users]]\nname = "{name}"\ngroups = ["app-users"]\nnt_hash = "{nt_hash}"\n' for name in USERS]
    return 'domains = ["DEMO"]\ngroups = ["trainees"]\n\n' + "\n".join(rows)


def write(folder: Path, settings: str, users: str, **values: object) -> Path:
    """Writes both files; returns the settings file."""
    (folder / "users.toml").write_text(users, encoding="utf-8")
    (folder / "users.toml").chmod(0o600)
    file = folder / "calgate.toml"
    file.write_text(settings.format(folder=folder, **values), encoding="utf-8")
    return file


async def use(program: str, file: Path, port: int) -> dict[str, str]:
    """Uses a little of everything; returns the session cookie of each user."""

    def command(*words: str) -> None:
        subprocess.run([program, *words, "-c", file], check=True, capture_output=True)

    gateway = subprocess.Popen([program, "run", "-c", file])
    url, cookies = f"http://127.0.0.1:{port}", {}
    try:
        while (await curl(f"{url}/_calgate/health")).status != 200:
            await asyncio.sleep(0.1)
        command("cals", "assign", "DEMO\\alice")
        command("cals", "allocate", "sales", "1")
        command("cals", "limit", "named", "1")
        for user, path, status in (
            *(("alice", "/docs/sales", 200), ("bob", "/docs/sales", 200), ("carol", "/docs/plan", 200)),
            ("dave", "/docs/plan", 403),
        ):
            reply = await curl(url + path, user=user)
            assert reply.status == status, reply
            cookies[user] = next(c for c in reply.values("set-cookie") if "calgate=" in c).partition(";")[0]
            # a session whose cookie does not come back is forgotten soon
            assert (await curl(url + path, "-b", cookies[user])).status == status
        await asyncio.sleep(5)  # its reports of use
    finally:
        gateway.terminate()
        gateway.wait(30)
    return cookies


def packed(content: bytes) -> str:
    """Returns a file's content as text."""
    return base64.b64encode(gzip.compress(content, mtime=0)).decode()


def unpacked(text: str) -> bytes:
    """Returns the content that `packed` got."""
    return gzip.decompress(base64.b64decode(text))


async def main(program: str, name: str) -> None:
    """Writes the frozen sites."""
    for private in (False, True):
        site = await freeze(program, private=private)
        file = FROZEN / f"{name}{'-private' if private else ''}.json"
        file.write_text(json.dumps(site, indent=1) + "\n", encoding="utf-8")


async def freeze(program: str, *, private: bool) -> dict[str, object]:
    """Returns one site."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        server = Server(folder / "redis").start()
        try:
            async with document_server() as upstream, Redis.from_url(server.url) as client:
                port = free_port()
                users = users_file()
                store = "" if private else f'url = "{server.url}"'
                file = write(folder, SETTINGS, users, port=port, upstream=upstream.port, store=store)
                cookies = await use(program, file, port)
                keys = sorted([key async for key in client.scan_iter("calgate:*")])
                dumps = [(key.decode(), await client.dump(key)) for key in keys]
                data = {key: base64.b64encode(dump).decode() for key, dump in dumps if dump is not None}
        finally:
            server.stop()
        files = sorted(file for file in (folder / "state").rglob("*") if file.is_file() and file.suffix != ".log")
        state = {str(file.relative_to(folder)): packed(file.read_bytes()) for file in files}
    return {"settings": SETTINGS, "users": users, "cookies": cookies, "keys": data, "state": state}


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
