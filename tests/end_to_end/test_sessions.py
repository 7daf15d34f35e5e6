"""Sessions that an administrator ends, and sessions that a stranger tries to plant."""

from pathlib import Path

from support.gateway_process import DocumentServer, Gateway, calgate, curl, gateway, write_settings
from support.redis_servers import Server


async def sign_in(gate: Gateway, user: str, address: str) -> str:
    """The cookie that somebody gets at this address."""
    reply = await curl(f"{gate.url}/portal", "--interface", address, user=user)
    assert reply.status == 200
    return reply.values("set-cookie")[0].partition(";")[0]


async def shows(gate: Gateway, cookie: str, address: str) -> int:
    return (await curl(f"{gate.url}/portal", "--interface", address, "-H", f"Cookie: {cookie}")).status


async def test_sessions_are_ended_by_address_or_user_on_every_gateway_at_once(
    server: DocumentServer, tmp_path: Path
) -> None:
    store = Server(tmp_path / "store").start()
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    one, two = (write_settings(folder, server.port, store=f'url = "{store.url}"') for folder in folders)
    try:
        async with gateway(one) as here, gateway(two) as there:
            places = [("alice", "127.0.0.1"), ("alice", "127.0.0.2"), ("bob", "127.0.0.2"), ("bob", "127.0.0.3")]
            cookies = [await sign_in(here, user, address) for user, address in places]

            async def living() -> list[list[int]]:
                pairs = [(cookie, address) for cookie, (_, address) in zip(cookies, places, strict=True)]
                return [[await shows(gate, *pair) for gate in (here, there)] for pair in pairs]

            assert await living() == [[200, 200]] * 4
            end = await calgate("sessions", "end", "--address", "127.0.0.2", "-c", str(one))
            users = [f"DEMO\\{name} (key demo\\{name}): 1 session ended" for name in ("alice", "bob")]
            assert end == (0, "\n".join([*users, "2 sessions ended", ""]), "")
            assert await living() == [[200, 200], [401, 401], [401, 401], [200, 200]]
            end = await calgate("sessions", "end", "DEMO\\bob", "--address", "127.0.0.1", "-c", str(two))
            assert end == (1, "0 sessions ended\n", "")
            end = await calgate("sessions", "end", "demo\\BOB", "-c", str(two))
            assert end == (0, "1 session ended\n", "")
            assert await living() == [[200, 200], [401, 401], [401, 401], [401, 401]]
    finally:
        store.stop()


async def test_id_that_was_there_before_the_sign_in_is_never_the_sessions(gate: Gateway) -> None:
    """Somebody may have planted it (session fixation)."""
    planted = f"calgate={'A' * 43}"
    first = await curl(f"{gate.url}/portal", "-H", f"Cookie: {planted}", user="alice")
    mine = first.values("set-cookie")[0].partition(";")[0]
    again = await curl(f"{gate.url}/portal", user="alice")
    assert len({planted, mine, again.values("set-cookie")[0].partition(";")[0]}) == 3
    assert (await curl(f"{gate.url}/portal", "-H", f"Cookie: {planted}")).status == 401
