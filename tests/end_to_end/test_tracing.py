"""Traces of a real gateway, as a receiver of OTLP over HTTP gets them."""

import asyncio
import contextlib
import json
import re
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from calgate import config
from calgate.plugin.errors import ConfigError
from support.gateway_process import (
    PASSWORD,
    DocumentServer,
    Exchange,
    calgate,
    cookie_of,
    curl,
    gateway,
    write_settings,
)
from support.ports import free_port
from support.waiting import until

STRANGERS_TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{STRANGERS_TRACE}-b7ad6b7169203331-01"


@dataclass
class Receiver:
    """Keeps the spans that it is sent."""

    port: int
    spans: list[Span] = field(default_factory=list)
    raw: bytes = b""
    keys: list[str] = field(default_factory=list)
    service: str = ""
    hangs: bool = False

    async def take(self, request: web.Request) -> web.Response:
        if self.hangs:
            await asyncio.sleep(60)
        body = await request.read()
        self.raw += body
        self.keys.append(request.headers.get("X-Key", ""))
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.service = next(a.value.string_value for a in resource.resource.attributes if a.key == "service.name")
            for scope in resource.scope_spans:
                self.spans += scope.spans
        answer = ExportTraceServiceResponse().SerializeToString()
        return web.Response(body=answer, content_type="application/x-protobuf")

    def of(self, name: str) -> list[Span]:
        return sorted((span for span in self.spans if span.name == name), key=lambda span: span.start_time_unix_nano)

    def under(self, parent: Span) -> dict[str, Span]:
        return {span.name: span for span in self.spans if span.parent_span_id == parent.span_id}


@contextlib.asynccontextmanager
async def receiver(port: int = 0) -> AsyncIterator[Receiver]:
    app = web.Application()
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    running = Receiver(port)
    app.router.add_post("/v1/traces", running.take)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    assert isinstance(site._server, asyncio.Server)
    running.port = site._server.sockets[0].getsockname()[1]
    try:
        yield running
    finally:
        await runner.cleanup()


def tracing(port: int, more: str = "") -> str:
    return f'[tracing]\nendpoint = "http://127.0.0.1:{port}/v1/traces"\n{more}'


def attributes(span: Span) -> dict[str, object]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value") or "") for a in span.attributes}


async def test_sign_in_with_a_claim_is_one_trace_without_secrets(server: DocumentServer, tmp_path: Path) -> None:
    async with receiver() as there:
        more = tracing(there.port, 'service = "bi-gate"\nheaders = { X-Key = "k-1" }')
        # one worker: another would query the directory again
        settings = write_settings(tmp_path, server.port, listen="workers = 1", more=more)
        async with gateway(settings) as gate:
            reply = await curl(f"{gate.url}/docs/sales", user="alice")
            cookie = reply.values("set-cookie")[0].partition(";")[0]
            await curl(f"{gate.url}/portal?ticket=geheim", "-H", f"Cookie: {cookie}; their=secret-cookie")
        assert (there.service, set(there.keys)) == ("bi-gate", {"k-1"}), (
            "and what was queued came as the gateway stopped"
        )
        first, second, warm = there.of("GET /")  # the last were sent as the gateway stopped
        assert [attributes(span)["http.response.status_code"] for span in (first, second, warm)] == [401, 200, 200]
        assert set(there.under(first)) == {"sign-in"}
        assert set(there.under(second)) == {"sign-in", "directory", "claim", "GET"}
        assert set(there.under(warm)) == {"GET"}, "a warm request asks nobody else"
        for span in (first, second, warm):
            assert (span.kind, span.parent_span_id) == (Span.SPAN_KIND_SERVER, b"")
        assert attributes(there.under(second)["sign-in"])["calgate.mechanism"] == "ntlm"
        assert attributes(there.under(second)["claim"]) == {"calgate.license": "demo", "calgate.cal": "session"}
        told = attributes(warm)
        assert told["url.path"] == "/portal"
        assert (told["server.address"], told["server.port"]) == ("127.0.0.1", gate.port)
        assert (told["client.address"], told["http.route"]) == ("127.0.0.1", "/")
        upstream = there.under(warm)["GET"]
        assert upstream.kind == Span.SPAN_KIND_CLIENT
        assert attributes(upstream)["url.full"] == f"http://127.0.0.1:{server.port}/portal"
        value = cookie.partition("=")[2]
        for secret in ("geheim", "secret-cookie", value, PASSWORD, "alice", "NTLM T", "TlRMTVNT"):
            assert secret.encode() not in there.raw, secret


async def test_document_server_gets_the_trace_and_a_strangers_traceparent_is_ignored(
    server: DocumentServer, tmp_path: Path
) -> None:
    async with receiver() as there:
        listen = 'trusted_proxies = ["127.0.0.2/32"]'
        async with gateway(write_settings(tmp_path, server.port, listen=listen, more=tracing(there.port))) as gate:
            cookie = await cookie_of(gate, "alice")
            server.seen.clear()
            ours = ["-H", f"Cookie: {cookie}", "-H", f"traceparent: {TRACEPARENT}", "-H", "tracestate: a=1"]
            await curl(f"{gate.url}/portal", *ours)
            await curl(f"{gate.url}/portal", *ours, "--interface", "127.0.0.2")
            await curl(f"{gate.url}/portal", *ours, "-H", f"TraceParent: {TRACEPARENT}", "--interface", "127.0.0.2")
        stranger, proxy, twice = server.seen
        seen = [exchange.values("traceparent") for exchange in server.seen]
        by_id = {span.span_id.hex(): span for span in there.spans}
        for values in seen:
            assert len(values) == 1
            _, trace, span, _ = values[0].split("-")
            assert by_id[span].trace_id.hex() == trace
        assert STRANGERS_TRACE not in seen[0][0]
        assert stranger.values("tracestate") == []
        assert STRANGERS_TRACE in seen[1][0], "a trusted proxy's word"
        assert proxy.values("tracestate") == ["a=1"]
        assert STRANGERS_TRACE not in seen[2][0], "told twice is told nothing"
        [server_span] = [span for span in there.of("GET /") if span.trace_id.hex() == STRANGERS_TRACE]
        assert server_span.parent_span_id.hex() == "b7ad6b7169203331"
        assert twice.values("tracestate") == []


async def test_refusal_and_dead_document_server_have_their_own_span_status(
    server: DocumentServer, tmp_path: Path
) -> None:
    async def hang_up(exchange: Exchange) -> None:
        exchange.writer.close()

    async with receiver() as there:
        async with gateway(write_settings(tmp_path, server.port, more=tracing(there.port))) as gate:
            await curl(f"{gate.url}/portal", user="mallory")
            server.behaviour = hang_up
            await curl(f"{gate.url}/portal", user="alice")
            await curl(f"{gate.url}/a//b")
        refused = next(span for span in there.of("GET /") if attributes(span).get("calgate.refusal") == "forbidden")
        assert refused.status.code == 0, "a refusal is no failure"
        dead = next(span for span in there.of("GET /") if attributes(span)["http.response.status_code"] == 502)
        assert dead.status.code == 2
        assert there.under(dead)["GET"].status.code == 2
        [unread] = there.of("HTTP")
        assert attributes(unread) == {"http.response.status_code": 400, "calgate.refusal": "bad-request"}


async def test_sample_of_zero_sends_nothing_and_passes_the_trace_on(server: DocumentServer, tmp_path: Path) -> None:
    async with receiver() as there:
        async with gateway(write_settings(tmp_path, server.port, more=tracing(there.port, "sample = 0"))) as gate:
            await curl(f"{gate.url}/portal", user="alice")
        assert there.spans == []
        flags = re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-([0-9a-f]{2})", server.seen[-1].values("traceparent")[0])
        assert flags is not None
        assert int(flags[1], 16) & 1 == 0, "not recorded"


async def test_unreachable_receiver_costs_one_log_line_and_no_request(server: DocumentServer, tmp_path: Path) -> None:
    port = free_port()
    listen = "workers = 1"
    async with gateway(write_settings(tmp_path, server.port, listen=listen, more=tracing(port))) as gate:
        cookie = await cookie_of(gate, "alice")
        lost = "does not accept spans; they are lost until it does"
        await until(lambda: lost in gate.log.read_text())
        for _ in range(3):
            assert (await curl(f"{gate.url}/portal", "-H", f"Cookie: {cookie}")).status == 200
            await asyncio.sleep(0.4)  # each of them a batch of its own, at times
        async with receiver(port) as there:
            await curl(f"{gate.url}/back", "-H", f"Cookie: {cookie}")
            await until(lambda: "accepts spans again" in gate.log.read_text())
            assert there.spans
        lines = [line for line in gate.decisions() if "spans" in str(line["event"])]
        assert [line["level"] for line in lines] == ["warning", "info"]
        assert "Traceback" not in gate.log.read_text()


async def test_silent_receiver_delays_neither_requests_nor_the_stop(server: DocumentServer, tmp_path: Path) -> None:
    async with receiver() as there:
        there.hangs = True
        listen = "workers = 1"
        async with gateway(write_settings(tmp_path, server.port, listen=listen, more=tracing(there.port))) as gate:
            cookie = await cookie_of(gate, "alice")
            began = time.monotonic()
            for _ in range(20):
                assert (await curl(f"{gate.url}/portal", "-H", f"Cookie: {cookie}")).status == 200
            served = time.monotonic() - began
            began = time.monotonic()
            assert await gate.stop() == 0
            assert time.monotonic() - began < 8
            assert served < 10
            assert "Traceback" not in gate.log.read_text()


async def test_opentelemetry_is_not_imported_without_the_section(
    server: DocumentServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")  # every process writes its imports to standard error
    imported = {}
    for more in ("", tracing(free_port())):
        folder = tmp_path / ("on" if more else "off")
        folder.mkdir()
        async with gateway(write_settings(folder, server.port, more=more)) as gate:
            reply = await curl(f"{gate.url}/docs/sales", "-H", f"traceparent: {TRACEPARENT}", user="alice")
            assert reply.status == 200
        log = gate.log.read_text()
        assert "calgate.app" in log
        ours = {"calgate.tracing.spans", "opentelemetry.sdk.trace", "opentelemetry.exporter", "google.protobuf"}
        imported[more != ""] = ours & set(re.findall(r"\| +([\w.]+)$", log, re.MULTILINE))
    assert imported == {False: set(), True: ours}
    assert server.seen[0].values("traceparent") == [TRACEPARENT], "and a client's own goes on as it came"


async def test_check_probes_the_receiver(server: DocumentServer, tmp_path: Path) -> None:
    async with receiver() as there:
        settings = write_settings(tmp_path, server.port, more=tracing(there.port))
        answered = await calgate("check", "-c", str(settings), "--json")
    away = await calgate("check", "-c", str(settings), "--json")
    told = [[row for row in json.loads(out) if row["subject"] == "tracing"] for _, out, _ in (answered, away)]
    assert [(row["level"], row["remedy"]) for [row] in told] == [("ok", ""), ("warn", "start it, or correct [tracing]")]


def test_tracing_without_its_packages_is_a_fault_that_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = write_settings(tmp_path, 1, more=tracing(4318))
    for name in [name for name in sys.modules if name.partition(".")[0] == "opentelemetry"]:  # whoever imported them
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(ConfigError) as fault:
        config.read(settings)
    assert re.search(r":\d+: tracing: .*pip install 'calgate\[tracing\]'$", str(fault.value))


@pytest.mark.parametrize(
    ("faulty", "said"),
    [
        ('endpoint = "http://otel:4318"', "v1/traces"),
        ('endpoint = "otel:4317"', "v1/traces"),
        ("sample = 1.5", "less than or equal to 1"),
        ('ca = "/nowhere/ca.pem"', "there is no file /nowhere/ca.pem"),
    ],
)
def test_tracing_section_with_an_impossible_value_is_refused(tmp_path: Path, faulty: str, said: str) -> None:
    name = faulty.partition(" ")[0]
    more = "\n".join(line for line in tracing(4318).splitlines() if not line.startswith(name)) + f"\n{faulty}"
    with pytest.raises(ConfigError, match=re.escape(said)):
        config.read(write_settings(tmp_path, 1, more=more))
