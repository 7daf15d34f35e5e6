"""Requests that are decided from memory: which need no task, and how each exchange that does need one goes on.

The gateway runs in the test's own process, so that a test can see which requests were given to a task.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import pytest_asyncio

from calgate import routes
from calgate.config.model import Route as RouteSection
from calgate.exchange.admission import Admission
from calgate.exchange.reading import Reading
from calgate.http.request import Request
from calgate.licensing.leases import Licensing
from calgate.plugin.access import Grant
from calgate.plugin.errors import AccountRefused
from calgate.plugin.identity import Identity, Person
from support.gateway_process import Exchange, document_server, write_settings
from support.qlikview import CALL, update, write_qlikview
from support.waiting import until
from support.warm_gateway import Warm, warm_gateway

pytestmark = pytest.mark.server


@pytest_asyncio.fixture
async def warm(tmp_path: Path) -> AsyncIterator[Warm]:
    """Starts a gateway with a signed-in client."""
    async with document_server() as server, warm_gateway(write_settings(tmp_path, server.port), server) as running:
        yield running


# ------------------------------------------------------------ what needs no task


async def test_warm_request_needs_no_task(warm: Warm) -> None:
    for _ in range(3):
        head, body = await warm.get()
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert body == b"<h1>a document</h1>"
    assert warm.tasks == []
    assert [exchange.values("QVUSER") for exchange in warm.server.seen] == [["DEMO\\alice"]] * 3
    assert warm.cookie not in str(warm.server.seen[-1].fields)


async def test_warm_post_whose_body_has_arrived_needs_no_task(warm: Warm) -> None:
    warm.send("/form", method="POST", fields="Content-Length: 5\r\n", body=b"a=bcd")
    await warm.receive()
    warm.send("/form", method="POST", fields="Content-Length: 5\r\n", body=b"a=xyz")
    assert (await warm.receive())[0].startswith(b"HTTP/1.1 200")
    assert [exchange.body for exchange in warm.server.seen] == [b"a=bcd", b"a=xyz"]
    assert len(warm.tasks) == 1  # the first: the rules had not been asked about this path


async def test_warm_use_of_a_document_needs_no_task_and_is_reported(
    warm: Warm, monkeypatch: pytest.MonkeyPatch
) -> None:
    await warm.get("/docs/a")
    await warm.get("/docs/a")
    del warm.tasks[:]
    noted: list[str] = []
    monkeypatch.setattr(Licensing, "note", lambda self, lease: noted.append(lease.document))
    await warm.get("/docs/a")
    assert warm.tasks == []
    assert noted == ["a"]


async def test_redirect_and_strict_transport_security_are_rewritten_without_a_task(warm: Warm) -> None:
    async def redirect(exchange: Exchange) -> None:
        location = f"http://127.0.0.1:{warm.server.port}/elsewhere"
        await exchange.answer(b"", status="302 Found", fields=[f"Location: {location}"])

    warm.server.behaviour = redirect
    head, _ = await warm.get()
    assert f"\r\nLocation: http://127.0.0.1:{warm.port}/elsewhere\r\n".encode() in head
    assert warm.tasks == []


async def test_answer_from_memory_is_the_first_step_of_a_task_too(warm: Warm, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunked upload needs a task; the same function decides about it."""
    answered: list[object] = []
    questions = warm.gateway._handler._pipeline.questions
    answer = questions.answer_from_memory

    def answer_and_note(request: Request, reading: Reading) -> Admission | None:
        answered.append(answer(request, reading))
        return answer(request, reading)

    monkeypatch.setattr(questions, "answer_from_memory", answer_and_note)
    warm.send(method="POST", fields="Transfer-Encoding: chunked\r\n", body=b"1\r\na\r\n0\r\n\r\n")
    assert (await warm.receive())[0].startswith(b"HTTP/1.1 200")
    assert len(warm.tasks) == 1
    assert len(answered) == 1
    assert answered[0] is not None


# ------------------------------------------------------------ requests that need a task from the start


@pytest.mark.parametrize(
    "fields",
    [
        "Authorization: Basic YWxpY2U6eA==\r\n",
        "Connection: close\r\n",
        "Connection: Upgrade\r\nUpgrade: h2c\r\n",
        "Expect: 100-continue\r\n",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n",
        "Cookie: calgate=other\r\n",
        "X_Y: 1\r\n",
    ],
)
async def test_request_that_is_not_plain_is_left_to_a_task(warm: Warm, fields: str) -> None:
    await warm.get(fields=fields)
    assert len(warm.tasks) == 1


@pytest.mark.parametrize("path", ["/_calgate/", "/docs/other", "/%00"])
async def test_path_that_memory_does_not_know_is_left_to_a_task(warm: Warm, path: str) -> None:
    await warm.get(path)
    assert len(warm.tasks) == 1


async def test_path_of_the_gateway_is_never_forwarded_whatever_memory_says(warm: Warm) -> None:
    (session,) = warm.gateway.sessions.known()
    session.remember_grant((0, "/_calgate/health", "", "127.0.0.1"), warm.gateway.rules.current, Grant("app users"))
    await warm.get("/_calgate/health")
    assert len(warm.tasks) == 1
    assert warm.server.seen == []


async def test_pipelined_requests_are_answered_in_order(warm: Warm) -> None:
    """The second must not overtake the first, which was sent without a task."""
    held = asyncio.Event()

    async def slow_first(exchange: Exchange) -> None:
        if exchange.path.endswith("1"):
            await held.wait()
        await exchange.answer(exchange.path.encode())

    for number in "12":
        await warm.get(f"/{number}")
    warm.server.seen.clear()
    warm.server.behaviour = slow_first
    warm.send("/1")
    await warm.arrived(1)
    warm.send("/2")
    await asyncio.sleep(0.05)  # long enough for the second to be sent on, if it were
    assert len(warm.server.seen) == 1
    held.set()
    assert [(await warm.receive())[1] for _ in range(2)] == [b"/1", b"/2"]


async def test_route_with_a_setting_that_is_not_known_to_be_remembered_is_left_to_a_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new setting may ask for something that memory does not look at."""
    monkeypatch.setattr(routes, "_REMEMBERED_SETTINGS", routes._REMEMBERED_SETTINGS - {"host_header"})
    async with (
        document_server() as server,
        warm_gateway(write_settings(tmp_path, server.port, route='host_header = "upstream"'), server) as warm,
    ):
        assert (await warm.get())[0].startswith(b"HTTP/1.1 200")
        assert len(warm.tasks) == 1


async def test_warm_request_is_judged_again_when_the_hours_of_a_rule_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock is set forward to the boundary; until then the same request needs no task."""
    ahead = 12 - time.gmtime().tm_hour  # of UTC, where it is noon now
    async with document_server() as server:
        file = write_settings(tmp_path, server.port)
        closed = '[[access]]\nname = "closed"\nhours = "14:00-24:00"\ndeny = true\n\n[[access]]'
        file.write_text(f'timezone = "Etc/GMT{-ahead:+d}"\n' + file.read_text().replace("[[access]]", closed, 1))
        async with warm_gateway(file, server) as warm:
            assert (await warm.get())[0].startswith(b"HTTP/1.1 200")
            assert warm.tasks == []
            (session,) = warm.gateway.sessions.known()
            boundary = session._grants[0, "/page", "", "127.0.0.1"].until
            assert boundary is not None
            session.person_at = boundary  # so that only the grant is out of date
            monkeypatch.setattr("calgate.exchange.questions.time", SimpleNamespace(time=lambda: boundary + 1))
            assert (await warm.get())[0].startswith(b"HTTP/1.1 403")
            assert len(warm.tasks) == 1


async def test_person_is_looked_up_ahead_of_time_and_by_one_query(warm: Warm, monkeypatch: pytest.MonkeyPatch) -> None:
    (session,) = warm.gateway.sessions.known()
    sign_in = warm.gateway._handler._pipeline.questions._sign_in
    held, queries, look_up = asyncio.Event(), 0, sign_in._look_up

    async def slow(identity: Identity) -> Person:
        nonlocal queries
        queries += 1
        await held.wait()
        return await look_up(identity)

    monkeypatch.setattr(sign_in, "_look_up", slow)
    session.person_at = before = time.time() - 8
    for _ in range(3):
        assert (await warm.get())[0].startswith(b"HTTP/1.1 200")
    held.set()
    await until(lambda: session.person_at != before)
    assert (queries, warm.tasks) == (1, [])


async def test_person_whose_early_query_fails_is_looked_up_when_the_time_is_over(
    warm: Warm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the directory does not respond, or the account was disabled, the early query decides nothing."""
    (session,) = warm.gateway.sessions.known()
    sign_in = warm.gateway._handler._pipeline.questions._sign_in
    asked = asyncio.Event()

    async def refuse(identity: Identity) -> Person:
        asked.set()
        raise AccountRefused("disabled", code="account-disabled")

    monkeypatch.setattr(sign_in, "_look_up", refuse)
    session.person_at = time.time() - 8
    assert (await warm.get())[0].startswith(b"HTTP/1.1 200")
    await asyncio.wait_for(asked.wait(), 5)
    assert warm.tasks == []
    session.person_at = time.time() - 11
    assert (await warm.get())[0].startswith(b"HTTP/1.1 403")
    assert len(warm.tasks) == 1


# ------------------------------------------------------------ exchanges that are handed over to a task


async def _in_two_pieces(exchange: Exchange) -> None:
    exchange.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nfir")
    await asyncio.sleep(0.05)
    exchange.writer.write(b"st!")


async def _in_chunks(exchange: Exchange) -> None:
    exchange.writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nfir\r\n")
    await asyncio.sleep(0.05)
    exchange.writer.write(b"3\r\nst!\r\n0\r\n\r\n")


async def _with_a_cookie(exchange: Exchange) -> None:
    await exchange.answer(b"first!", fields=["Set-Cookie: ASP.NET_SessionId=1; path=/"])


async def _after_its_session_was_renewed(exchange: Exchange) -> None:
    await asyncio.sleep(0.15)
    await exchange.answer(b"first!")


@pytest.mark.parametrize(
    ("behaviour", "status", "body"),
    [
        (_in_two_pieces, 200, b"first!"),
        (_in_chunks, 200, b""),
        (_with_a_cookie, 200, b"first!"),
        (_after_its_session_was_renewed, 200, b"first!"),
    ],
)
async def test_response_that_needs_more_is_handed_over(
    warm: Warm,
    monkeypatch: pytest.MonkeyPatch,
    behaviour: Callable[[Exchange], Awaitable[None]],
    status: int,
    body: bytes,
) -> None:
    if behaviour is _after_its_session_was_renewed:
        monkeypatch.setattr("calgate.pipeline.EVERY", 0.1)
    warm.server.behaviour = behaviour
    head, received = await warm.get()
    assert head.startswith(b"HTTP/1.1 %d " % status)
    if b"chunked" in head:
        received = await asyncio.wait_for(warm.reader.readuntil(b"0\r\n\r\n"), 5)
        body = b"3\r\nfir\r\n3\r\nst!\r\n0\r\n\r\n"
    assert received == body
    assert len(warm.tasks) == 1
    assert len(warm.server.seen) == 1  # it was not sent again


async def test_idle_connection_that_ends_costs_a_get_nothing_and_a_post_502(warm: Warm) -> None:
    async def hang_up(exchange: Exchange) -> None:
        if len(warm.server.seen) == 1:
            exchange.writer.close()
        else:
            await exchange.answer(b"again")

    warm.server.behaviour = hang_up
    assert (await warm.get())[1] == b"again"
    assert len(warm.tasks) == 1
    assert len(warm.server.seen) == 2
    await warm.get("/form")
    warm.server.seen.clear()
    warm.send("/form", method="POST", fields="Content-Length: 1\r\n", body=b"x")
    assert (await warm.receive())[0].startswith(b"HTTP/1.1 502")
    assert len(warm.server.seen) == 1


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", b"nonsense\r\n\r\n"])
async def test_malformed_response_becomes_502(warm: Warm, head: bytes) -> None:
    async def malformed(exchange: Exchange) -> None:
        exchange.writer.write(head)

    warm.server.behaviour = malformed
    assert (await warm.get())[0].startswith(b"HTTP/1.1 502")
    assert len(warm.tasks) == 1


async def test_informational_responses_are_skipped_without_a_task(warm: Warm) -> None:
    async def hinting(exchange: Exchange) -> None:
        exchange.writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        await asyncio.sleep(0.05)
        await exchange.answer(b"whole")

    warm.server.behaviour = hinting
    assert (await warm.get())[1] == b"whole"
    assert warm.tasks == []


async def test_deadline_of_a_warm_exchange_is_504(tmp_path: Path) -> None:
    async def silent(exchange: Exchange) -> None:
        await asyncio.sleep(10)

    async with (
        document_server() as server,
        warm_gateway(write_settings(tmp_path, server.port, route='answer_timeout = "1s"'), server) as warm,
    ):
        server.behaviour = silent
        assert (await warm.get())[0].startswith(b"HTTP/1.1 504")
        assert len(warm.tasks) == 1


async def test_client_that_disconnects_closes_the_upstream_connection(warm: Warm) -> None:
    closed = asyncio.Event()

    async def wait_for_the_end(exchange: Exchange) -> None:
        await exchange.reader.read()
        closed.set()

    warm.server.behaviour = wait_for_the_end
    warm.send()
    await warm.arrived(1)
    warm.writer.close()
    await asyncio.wait_for(closed.wait(), 5)
    assert warm.tasks == []
    assert not any(session.is_open for session in warm.gateway.sessions.known())


async def test_end_of_the_session_ends_a_poll_that_has_no_task(warm: Warm) -> None:
    await warm.get("/docs/a")
    await warm.get("/docs/a/poll")
    del warm.tasks[:]
    arrived = len(warm.server.seen)

    async def silent(exchange: Exchange) -> None:
        await asyncio.sleep(10)

    warm.server.behaviour = silent
    warm.send("/docs/a/poll")
    await warm.arrived(arrived + 1)
    assert warm.tasks == []
    (session,) = warm.gateway.sessions.known()
    await warm.gateway.sessions.end(session.key, "test")
    assert (await warm.receive())[0].startswith(b"HTTP/1.1 401")
    assert len(warm.tasks) == 1


async def test_draining_gateway_says_that_the_connection_closes(warm: Warm) -> None:
    """The exchange is open when the drain begins."""
    held = asyncio.Event()

    async def slow(exchange: Exchange) -> None:
        await held.wait()
        await exchange.answer(b"late")

    warm.server.behaviour = slow
    warm.send()
    await warm.arrived(1)
    draining = asyncio.create_task(warm.gateway.server.drain(10))
    await asyncio.sleep(0)
    held.set()
    head, body = await warm.receive()
    assert b"\r\nConnection: close\r\n" in head
    assert body == b"late"
    await draining


async def test_drain_waits_for_an_exchange_without_a_task(warm: Warm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("calgate.http.server.LAST_REQUEST", 0.05)
    held = asyncio.Event()

    async def slow(exchange: Exchange) -> None:
        await held.wait()
        await exchange.answer(b"late")

    warm.server.behaviour = slow
    warm.send()
    await warm.arrived(1)
    draining = asyncio.create_task(warm.gateway.server.drain(10))
    await asyncio.sleep(0.3)
    assert not draining.done()
    held.set()
    assert (await warm.receive())[1] == b"late"
    await draining


async def test_keep_alive_timer_does_not_close_an_exchange_without_a_task(warm: Warm) -> None:
    held = asyncio.Event()

    async def slow(exchange: Exchange) -> None:
        await held.wait()
        await exchange.answer(b"late")

    warm.server.behaviour = slow
    warm.send()
    await warm.arrived(1)
    (connection,) = warm.gateway.server.connections
    connection._next_keepalive_close_time = 0.0
    connection._process_keepalive()
    held.set()
    assert (await warm.receive())[1] == b"late"
    assert warm.tasks == []
    assert connection._keepalive_handle is not None  # it runs again


async def test_slow_reader_gets_all_and_then_the_next_response(warm: Warm) -> None:
    """While it does not read, its next request waits."""

    async def large(exchange: Exchange) -> None:
        await exchange.answer(b"x" * 150_000)

    warm.server.behaviour = large
    for _ in range(40):
        warm.send()
    for _ in range(40):
        head, body = await warm.receive()
        assert head.startswith(b"HTTP/1.1 200")
        assert len(body) == 150_000


async def test_bug_in_finishing_a_warm_exchange_is_a_500_and_no_silence(
    warm: Warm, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    loop = asyncio.get_running_loop()
    reported: list[object] = []
    loop.set_exception_handler(lambda _, context: reported.append(context["exception"]))
    monkeypatch.setattr("calgate.pipeline.Pipeline._make_response", broken)
    assert (await warm.get())[0].startswith(b"HTTP/1.1 500")
    assert [type(one) for one in reported] == [ZeroDivisionError]


async def test_command_of_qlikview_needs_no_task_and_opens_its_document(tmp_path: Path) -> None:
    """The first one claims a CAL, which the document server's response settles; the next are decided from memory."""

    async def open_document(exchange: Exchange) -> None:
        await exchange.answer(b'<result mark="0123456789abcdef"/>')

    async with document_server() as server:
        server.behaviour = open_document
        async with warm_gateway(write_qlikview(tmp_path, server.port), server) as warm:
            command = update("Sales.qvw").encode()
            for _ in range(3):
                warm.send(CALL, method="POST", fields=f"Content-Length: {len(command)}\r\n", body=command)
                assert (await warm.receive())[0].startswith(b"HTTP/1.1 200")
            assert len(warm.tasks) == 1
            assert [exchange.body for exchange in server.seen] == [command] * 3
            (session,) = warm.gateway.sessions.known()
            assert [lease.provisional for lease in session._leases.values()] == [False]


def test_only_settings_that_exist_are_remembered_and_none_that_changes_who_a_request_is_for() -> None:
    assert set(RouteSection.model_fields) >= routes._REMEMBERED_SETTINGS
    for setting in ("sign_in", "authorization"):
        assert setting in RouteSection.model_fields
        assert not routes.has_only_remembered_settings({"path", "upstreams", setting})
