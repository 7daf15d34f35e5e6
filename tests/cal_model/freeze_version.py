"""Freezes a version of the functions with data that they wrote, for later versions.

    cd tests && python -m cal_model.freeze_version

Run it once when a version is released; the next version must read these data and run alongside these functions.
"""

import asyncio
import base64
import json
import tempfile
from pathlib import Path
from typing import Any

from cal_model.license import CLOCK, HOUR, MINUTE, Lab, a_license
from calgate_cal import lua
from support.redis_servers import Server

FROZEN = Path(__file__).parents[1] / "calgate_cal" / "frozen"
SETTINGS: dict[str, Any] = {
    "named": {"in_license": 3, "dynamic": True, "dynamic_for": ["Analysts"]},
    "document": {"in_license": 2, "dynamic": True},
    "session": {"in_license": 2, "reserve": [{"group": "Board", "cals": 1}]},
    "usage": {"in_license": 2},
    "queue": True,
}


async def live(lab: Lab) -> None:
    """Uses a little of everything."""
    await lab.license_admin.allocate("hr.qvw", 1)
    await lab.license_admin.limit("usage", 1)
    await lab.license_admin.assign("alice")
    for user in ("ann", "ben"):
        await lab.open(user, groups="Analysts")
    await lab.license_admin.remove("ben")
    await lab.open("carl", "hr.qvw")
    await lab.at(2 * HOUR)
    await lab.open("dora")
    await lab.claim("dora", client="laptop", groups="Board")
    await lab.open("emil")
    await lab.at(2 * HOUR + MINUTE)
    await lab.open("fred")
    await lab.denial("gwen")


async def freeze(url: str, folder: Path) -> None:
    async with a_license(url, folder, **SETTINGS) as lab:
        await live(lab)
        keys = [key async for key in lab.store.redis.scan_iter("calgate:*")]
        dumps = {key: await lab.store.redis.dump(key) for key in sorted(keys)}
        data = {key.decode(): base64.b64encode(dump).decode() for key, dump in dumps.items() if dump is not None}
    (FROZEN / f"{lua.VERSION}.json").write_text(json.dumps(data, indent=1) + "\n")
    (FROZEN / f"{lua.VERSION}.lua").write_text(lua.source(clock=CLOCK))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder) / "server").start()
        try:
            asyncio.run(freeze(server.url, Path(folder)))
        finally:
            server.stop()


if __name__ == "__main__":
    main()
