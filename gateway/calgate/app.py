"""A whole gateway: everything it needs, started in order, kept going, stopped in reverse."""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from time import perf_counter
from typing import TYPE_CHECKING

from aiohttp.http_parser import HttpRequestParser, HttpRequestParserPy

from calgate import dialect, plugin_loader
from calgate import tracing as traces
from calgate.access.current import CurrentRules
from calgate.access.rules import Rules
from calgate.access.settings import groups_of
from calgate.access.warnings import warnings as access_warnings
from calgate.authentication.sessions import Sessions
from calgate.authentication.sign_in import SignIn
from calgate.config.model import Route as RouteSection
from calgate.config.model import Settings
from calgate.endpoints import forward_auth
from calgate.endpoints.gateway_paths import PREFIX, GatewayPaths
from calgate.endpoints.refusals import InternalError, RefusalResponses
from calgate.http.connection import RawRequest
from calgate.http.cookies import OUR_COOKIES
from calgate.http.headers import RequestHeaderFilter
from calgate.http.request import Request, read_request
from calgate.http.response import Response
from calgate.http.server import HttpServer
from calgate.http.tls import Certificates
from calgate.licensing import pool_metrics
from calgate.licensing.leases import Licensing
from calgate.pages import Pages
from calgate.pipeline import Pipeline
from calgate.plugin.errors import ConfigError, Refusal, Unavailable
from calgate.plugin.services import Event
from calgate.plugin_loader import StartedPlugins
from calgate.routes import Route, hidden_routes, upstream_of
from calgate.store import EmbeddedFaultError, NoServerError, RedisStore, open_store
from calgate.telemetry import log
from calgate.telemetry.metrics import Metrics
from calgate.tracing import instrumented
from calgate.tracing.settings import FIELDS
from calgate.upstream.balancer import LoadBalancer, Server
from calgate.upstream.drained import DrainedServers
from calgate.upstream.forwarder import Forwarder
from calgate.upstream.pool import Upstream

if TYPE_CHECKING:
    from calgate.tracing.spans import Tracing

logger = logging.getLogger(__name__)

_RESOLVE_AGAIN = 300.0  # seconds: a group may be renamed or made while the gateway runs
_RESOLVE_SOON = 3.0  # seconds, while the directory does not answer


class Gateway:
    """Answers requests; knows whether it is ready to."""

    def __init__(
        self,
        settings: Settings,
        cast: StartedPlugins,
        store: RedisStore,
        certificate: Certificates | None,
        upstreams: Mapping[int, Sequence[Upstream]],
        metrics: Metrics,
        tracing: "Tracing | None" = None,
    ) -> None:
        """`upstreams`: the document servers of each route, by its number."""
        self._settings = settings
        self._cast = cast
        self._store = store
        core = settings.core
        self.certificate = certificate
        self.metrics = metrics
        self.tracing = tracing
        self.door: HttpServer | None = None  # once there is one: for the count of its connections
        self.reception = RefusalResponses(Pages(core.pages, embed_in=core.session.embed_in), core.listen.methods)
        self.sessions = Sessions(store, core.session, core.store.grace)
        self.licensing = Licensing(cast.allocator, self.sessions, {}, self.metrics)
        self._drains = DrainedServers(store)
        self._drains_changed = asyncio.Event()
        store.listen(self.licensing.hear)
        store.listen(self._hear)
        self.rules = CurrentRules()
        self.sign_in = SignIn(
            cast.authenticators, cast.directory, self.sessions, core.session, certificate, self.metrics
        )
        self.own = GatewayPaths(self.sign_in, self.sessions, self.licensing, self.reception, self.health)
        self._inlet = _inlet_of(cast, traced=tracing is not None)
        self._methods = frozenset(core.listen.methods)
        sections = core.routes
        self.balances = [
            LoadBalancer([Server(upstream) for upstream in upstreams[number]], self.metrics, section.health)
            for number, section in enumerate(sections)
        ]
        routes = [self._route(number, section, self.balances[number]) for number, section in enumerate(sections)]
        self.pipeline = Pipeline(routes, self.sign_in, self.sessions, self.licensing, self.rules, self.metrics)

    def _route(self, number: int, section: RouteSection, balance: LoadBalancer) -> Route:
        knows = dialect.choose(section.dialect, opens=section.opens, uses=section.uses, polls=section.polls)
        forwarding = Forwarder(balance, keep_host=section.host_header == "keep")
        return Route(
            number,
            section.host.lower(),
            section.path,
            section.license,
            knows,
            self._cast.sign_on.get(number),
            forwarding,
            section.websocket_idle,
        )

    async def serve(self, request: RawRequest) -> Response | None:
        """Answers one request; every Refusal becomes its answer here."""
        asked: Request | None = None
        try:
            asked = self._read(request)
            if asked.target.path == forward_auth.PATH:
                asked = forward_auth.described(asked, self._settings.core.forward_auth)
                answer: Response | None = await forward_auth.answer(asked, self.pipeline)
            elif asked.target.path.startswith(PREFIX):
                answer = await self.own.serve(asked)
            else:
                answer = await self.pipeline.serve(asked)
        except Refusal as refusal:
            answer = self.refuse(request, refusal, asked)
        self._count(asked, answer)
        return answer

    def _read(self, request: RawRequest) -> Request:
        return read_request(
            request, inlet=self._inlet, trusted=self._settings.core.listen.trusted_proxies, methods=self._methods
        )

    def _count(self, asked: Request | None, answer: Response | None) -> None:
        status = answer.status if answer is not None else 101
        self.metrics.count("requests", str(status))
        if self.tracing is not None:
            self.tracing.describe(asked, self._route_path(asked), status)
        if asked is None:
            return
        self.metrics.observe("whole", perf_counter() - asked.started)
        if log.logs_access():
            log.access(
                user=asked.user,
                address=asked.address,
                method=asked.method,
                host=asked.host,
                path=asked.target.path,  # without the query: what stands there may be a ticket
                status=status,
                ms=asked.ms,
            )

    def _route_path(self, asked: Request | None) -> str | None:
        if asked is not None and asked.target.path.startswith(PREFIX):
            return PREFIX
        route = self.pipeline.route_of(asked) if asked is not None else None
        return route.path if route is not None else None

    def snapshot(self) -> dict[str, object]:
        """This worker's figures, for its parent."""
        sessions = self.sessions.known()
        self.metrics.gauges = {
            "connections": len(self.door.connections) if self.door is not None else 0,
            "sessions": len(sessions),
            "websockets": sum(len(session.open_tunnels) for session in sessions),
        }
        return self.metrics.snapshot()

    def refuse(self, request: RawRequest, refusal: Refusal | None, asked: Request | None = None) -> Response:
        """The answer that says no; None: a bug of ours."""
        refusal = refusal or InternalError("a bug")
        self.metrics.count("refusals", refusal.code)
        if self.tracing is not None:
            self.tracing.refused(refusal.code)
        if asked is None:
            return self.reception.refuse(request, None, refusal, (), None)
        challenges = self.sign_in.challenges_after(asked, refusal) if refusal.status == 401 else ()
        return self.reception.refuse(request, asked, refusal, challenges, self._dialect_of(asked), asked.user)

    def _dialect_of(self, asked: Request) -> dialect.Dialect | None:
        route = self.pipeline.route_of(asked)
        return route.dialect if route is not None else None

    async def health(self) -> dict[str, object]:
        """What `/_calgate/health` tells: "ready", or what is missing."""
        missing = [] if self._store.ready else ["store"]
        if not self.rules.are_resolved:
            missing.append("directory")
        return {"status": "starting" if missing else "ready"} | ({"missing": missing} if missing else {})

    # ------------------------------------------------------------ in the background

    async def keep_rules(self) -> None:
        """Resolves the groups of rules and licenses, at once and every few minutes; runs until cancelled."""
        told = False
        while True:
            try:
                await self._resolve()
            except Unavailable as refusal:
                if not told:
                    logger.warning("the directory does not answer, so nobody is let in yet: %s", refusal.detail)
                told = True
                await asyncio.sleep(_RESOLVE_SOON)
            else:
                told = False
                await asyncio.sleep(_RESOLVE_AGAIN)

    async def _resolve(self) -> None:
        core = self._settings.core
        allocator = self._cast.allocator
        mine = groups_of(core.access)
        theirs = sorted(allocator.groups) if allocator is not None else []
        found = await self._cast.directory.resolve(sorted({*mine, *theirs}))
        rules = Rules(core.access, found, core.timezone)
        for name in rules.unresolved:
            logger.warning(
                "no directory has a group %r: the access rules that name it refuse everybody they may be about", name
            )
        self.licensing.regroup({name: found.get(name) for name in theirs})
        self.rules.replace(rules)

    async def keep_drains(self) -> None:
        """Follows which document servers an administrator has drained; runs until cancelled."""
        while True:
            try:
                drained = await self._drains.read()
            except Unavailable:
                await asyncio.sleep(_RESOLVE_SOON)
                continue
            for balance in self.balances:
                for member in balance.members:
                    balance.drain(member.upstream.name, drained=member.upstream.name in drained)
            await self._drains_changed.wait()
            self._drains_changed.clear()

    def _hear(self, news: Event) -> None:
        if news.topic in ("upstreams-drained", "store-back"):
            self._drains_changed.set()

    async def keep_certificate(self) -> None:
        """Takes a new certificate when its files change; runs until cancelled."""
        while self.certificate is not None:
            await asyncio.sleep(5)
            try:
                if self.certificate.reload_if_changed():
                    logger.info("a certificate was loaded anew")
            except (OSError, ssl.SSLError, ValueError) as error:
                logger.error("listen.tls: the new certificate does not work, the old one stays: %s", error)


def _inlet_of(cast: StartedPlugins, *, traced: bool) -> RequestHeaderFilter:
    owned = frozenset(name.lower().encode() for sign_on in cast.sign_on.values() for name in sign_on.owned)
    return RequestHeaderFilter(owned | FIELDS if traced else owned, OUR_COOKIES)


@asynccontextmanager
async def open_gateway(settings: Settings) -> AsyncIterator[Gateway]:
    """Starts everything but the listener. Raises ConfigError where something is set up so that it cannot work."""
    if HttpRequestParser is HttpRequestParserPy:
        raise ConfigError(
            ["aiohttp runs without its C parser, which reads some requests in two ways; install its wheel"], 1
        )
    core = settings.core
    listen = core.listen
    certificate = Certificates(listen.tls, listen.sni) if listen.tls is not None else None
    for sentence in (*access_warnings(core.access), *hidden_routes(core.routes)):
        logger.warning("%s", sentence)
    async with AsyncExitStack() as stack:
        metrics = Metrics()
        tracing = await stack.enter_async_context(traces.start(core.tracing, listen.trusted_proxies))
        store = await stack.enter_async_context(_opened_store(settings, metrics))
        cast = instrumented.watch(
            await stack.enter_async_context(plugin_loader.start(settings, store)), metrics, tracing
        )
        make = Upstream if tracing is None else tracing.upstream
        upstreams = {}
        for number, route in enumerate(core.routes):
            servers = [upstream_of(route, url, make) for url in route.upstreams]
            upstreams[number] = [await stack.enter_async_context(server) for server in servers]
        gateway = Gateway(settings, cast, store, certificate, upstreams, metrics, tracing)
        stack.push_async_callback(gateway.licensing.finish)
        async with asyncio.TaskGroup() as tasks:
            background = [
                tasks.create_task(work)
                for work in (
                    gateway.sessions.keep(),
                    gateway.licensing.report(),
                    gateway.keep_rules(),
                    gateway.keep_certificate(),
                    gateway.keep_drains(),
                    *(balance.watch() for balance in gateway.balances),
                    *_figures(settings, cast, metrics),
                )
            ]
            yield gateway
            for task in background:
                task.cancel()


def _figures(settings: Settings, cast: StartedPlugins, metrics: Metrics) -> Sequence[Coroutine[None, None, None]]:
    """What is asked for figures alone, where somebody can read them."""
    if settings.core.listen.admin is None or cast.allocator is None:
        return ()
    return (pool_metrics.keep_counting(cast.allocator, metrics),)


@asynccontextmanager
async def _opened_store(settings: Settings, metrics: Metrics) -> AsyncIterator[RedisStore]:
    try:
        async with open_store(settings.core.store, settings.core.state_dir, metrics) as store:
            yield store
    except (EmbeddedFaultError, NoServerError) as error:
        raise ConfigError([f"{settings.file}: {error}"], code=1) from error
