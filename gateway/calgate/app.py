"""A whole gateway: starts its parts in order, wires them together, and stops them in reverse."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from aiohttp.http_parser import HttpRequestParser, HttpRequestParserPy

from calgate import background, dialect, plugin_loader, tracing
from calgate.access.current import CurrentRules
from calgate.access.warnings import warnings as access_warnings
from calgate.authentication.anonymous import AnonymousBrowsers
from calgate.authentication.completion import finish_all
from calgate.authentication.handshakes import Handshakes
from calgate.authentication.notes import Notes
from calgate.authentication.session_names import SessionNames
from calgate.authentication.sessions import Sessions
from calgate.authentication.sign_in import SignIn
from calgate.authentication.tokens import Tokens
from calgate.config.model import Core, Settings
from calgate.config.model import Route as RouteSection
from calgate.config.plugin_faults import faults_of_started
from calgate.endpoints.console import ConsoleClient, ConsoleGate, ConsoleRoles, open_client
from calgate.endpoints.gateway_paths import GatewayPaths
from calgate.endpoints.preflight import Preflights
from calgate.endpoints.refusals import RefusalResponses
from calgate.endpoints.session_end import SessionEnd
from calgate.endpoints.sign_in_pages import SignInPages
from calgate.exchange.questions import Questions
from calgate.handler import Handler
from calgate.http.cookies import OUR_COOKIES
from calgate.http.headers import RequestHeaderFilter
from calgate.http.known_heads import KnownHeads
from calgate.http.server import HttpServer
from calgate.http.tls import NOT_VALID_YET, Certificates, certificate_validity
from calgate.licensing.leases import Licensing
from calgate.licensing.pool_metrics import keep_counting
from calgate.pages import Pages
from calgate.pipeline import Pipeline
from calgate.plugin.errors import ConfigError
from calgate.plugin.identity import CountsGuesses, NamesMechanisms
from calgate.plugin.sign_on import PublishesKeys, ServerSignOn, SignOn
from calgate.plugin_loader import StartedPlugins
from calgate.routes import (
    Route,
    has_only_remembered_settings,
    hidden_routes,
    sign_in_path,
    upstream_of,
)
from calgate.store import EmbeddedFaultError, NoServerError, RedisStore, open_store
from calgate.telemetry.dependency import DependencyState
from calgate.telemetry.metrics import Metrics
from calgate.telemetry.worker_states import WorkerStates, joined
from calgate.tracing.instrumented import instrument
from calgate.tracing.settings import FIELDS
from calgate.upstream.balancer import LoadBalancer, Server
from calgate.upstream.drained import DrainedServers
from calgate.upstream.forwarder import Forwarder
from calgate.upstream.pool import Upstream

if TYPE_CHECKING:
    from calgate.tracing.spans import Tracing

logger = logging.getLogger(__name__)

_STATUSES = (200, 302, 303, 304, 400, 401, 403, 404, 405, 413, 429, 431, 500, 502, 503, 504)  # that alerts count

Work = Coroutine[None, None, None]


class Gateway:
    """The parts of a gateway, wired together."""

    def __init__(
        self,
        settings: Settings,
        plugins: StartedPlugins,
        store: RedisStore,
        load_balancers: Sequence[LoadBalancer],
        metrics: Metrics,
        directory_state: DependencyState,
        traces: "Tracing | None" = None,
        console: ConsoleClient | None = None,
        guesses: CountsGuesses | None = None,
    ) -> None:
        """Wires the parts; `load_balancers` has one for each route, in the order of the settings file."""
        core = settings.core
        self.metrics = metrics
        self.load_balancers = load_balancers
        self._core = core
        self._plugins = plugins
        self._store = store
        self._directory_state = directory_state
        self._traces = traces
        self.was_ready = False  # accepts requests, and has resolved the rules once
        self.is_stopping = False

        self.certificates = Certificates(core.listen.tls, core.listen.sni) if core.listen.tls is not None else None
        self.rules = CurrentRules()
        self.sessions = Sessions(store, core.session, core.store.grace)
        self.tokens = Tokens(store, core.store.grace, guesses, metrics)
        self.licensing = Licensing(plugins.allocator, self.sessions, {}, metrics)
        store.listen(self.licensing.on_event)
        self.drained = DrainedServers(store)
        self.worker_states = WorkerStates(store) if core.console is not None else None
        self.console_roles = ConsoleRoles(core.console) if core.console is not None else None

        known_heads = KnownHeads()
        self.sessions.on_drop = known_heads.forget_session
        self._handler = handler = self._make_handler(known_heads, console)
        # a span belongs to a task's context, so a traced request needs a task
        serve = handler.serve if traces is None else traces.around(handler.serve)
        self.server = HttpServer(serve, handler.refuse, handler.begin if traces is None else None, known_heads)
        self.console_server = HttpServer(handler.serve_console, handler.refuse)

    def _make_handler(self, known_heads: KnownHeads, console: ConsoleClient | None) -> Handler:
        core, plugins = self._core, self._plugins
        notes = Notes(self._store)
        browsers = AnonymousBrowsers(notes, core.session)
        self.sessions.further = lambda: [*self.tokens.sessions, *browsers.sessions]
        handshakes = Handshakes(plugins.authenticators, self.certificates, has_pages=bool(plugins.sign_in_methods))
        sign_in = self._make_sign_in(handshakes, browsers)
        routes = list(_routes(core.routes, self.load_balancers, plugins.sign_on))
        refusals = self._make_refusals(routes, handshakes.schemes)
        sign_in_pages = self._make_sign_in_pages(sign_in, handshakes, notes, refusals)
        gateway_paths = self._make_gateway_paths(sign_in_pages, browsers, refusals)
        questions = Questions(sign_in, self.sessions, self.licensing, self.rules, browsers)
        gate = None
        if self.console_roles is not None and console is not None:
            gate = ConsoleGate(self.console_roles, sign_in, gateway_paths, sign_in_pages, console)
        return Handler(
            Pipeline(routes, questions, self.sessions, self.licensing, self.metrics),
            gateway_paths,
            Preflights(core.session.embed_in, core.listen.methods),
            refusals,
            handshakes,
            RequestHeaderFilter(_owned_headers(plugins.sign_on, traced=self._traces is not None), OUR_COOKIES),
            known_heads,
            core.listen,
            core.forward_auth,
            self.metrics,
            self._traces,
            gate,
        )

    def _make_sign_in(self, handshakes: Handshakes, browsers: AnonymousBrowsers) -> SignIn:
        sign_in = SignIn(
            handshakes,
            self._plugins.directory,
            self.sessions,
            self.tokens,
            self._core.session,
            self.metrics,
            browsers,
            tracks_browsers=self.licensing.counts_browsers,
        )
        sign_in.on_left = self.licensing.release
        return sign_in

    def _make_refusals(self, routes: Sequence[Route], schemes: Sequence[str]) -> RefusalResponses:
        core = self._core
        return RefusalResponses(
            Pages(core.pages, embed_in=core.session.embed_in, timezone=core.timezone),
            core.listen.methods,
            self._plugins.sign_in_methods,
            schemes,
            lambda host: sign_in_path(routes, host),
        )

    def _make_sign_in_pages(
        self, sign_in: SignIn, handshakes: Handshakes, notes: Notes, refusals: RefusalResponses
    ) -> SignInPages:
        session = self._core.session
        return SignInPages(
            self._plugins.sign_in_methods,
            sign_in,
            handshakes,
            notes,
            refusals,
            SessionNames(self._store, self.sessions, session.lifetime),
            SessionEnd(self.sessions, self.licensing),
            session.same_site,
        )

    def _make_gateway_paths(
        self, sign_in_pages: SignInPages, browsers: AnonymousBrowsers, refusals: RefusalResponses
    ) -> GatewayPaths:
        return GatewayPaths(
            self._core.session.same_site,
            self.sessions,
            self.licensing,
            refusals,
            sign_in_pages,
            browsers,
            self.health,
            [one for one in self._plugins.sign_on.values() if isinstance(one, PublishesKeys)],
        )

    def snapshot(self) -> dict[str, object]:
        """Returns this worker's metrics, for its parent."""
        sessions = self.sessions.known()
        self.metrics.gauges = {
            "connections": len(self.server.connections),
            "sessions": len(sessions),
            "websockets": sum(session.websockets for session in sessions),
        }
        servers = joined(state for load_balancer in self.load_balancers for state in load_balancer.states())
        self.metrics.upstreams = {name: one.is_up for name, one in servers.items()}
        self.metrics.upstream_connections = {name: (one.in_use, one.idle, one.waiting) for name, one in servers.items()}
        return self.metrics.snapshot()

    async def health(self) -> dict[str, object]:
        """Returns the state of this process, and the dependencies that are not responding.

        "ready" lasts from the time that the rules were resolved until the stop, even while a dependency is unreachable.
        """
        degraded = self.degraded()
        self.was_ready = self.was_ready or self.rules.are_resolved
        status = "stopping" if self.is_stopping else "ready" if self.was_ready else "starting"
        return {"status": status, "degraded": degraded}

    def degraded(self) -> Sequence[str]:
        """Returns the dependencies that are not responding."""
        degraded = [] if self._store.ready else ["store"]
        return degraded if self.directory_is_up else [*degraded, "directory"]

    @property
    def directory_is_up(self) -> bool:
        """Whether the directory responded to the last query."""
        return self._directory_state.is_up and self.rules.are_resolved

    def note_stop(self) -> None:
        """Notes that the service stops: health no longer says that it is ready."""
        self.is_stopping = True

    async def activate(self) -> None:
        """Changes what gateways share; called once every part of every worker has started."""
        await self._plugins.activate()


@asynccontextmanager
async def open_gateway(settings: Settings) -> AsyncIterator[Gateway]:
    """Starts everything but the listeners. Raises ConfigError if something cannot work as it is set up."""
    if HttpRequestParser is HttpRequestParserPy:
        raise ConfigError(
            ["aiohttp: runs without its C parser, and the other accepts ambiguous requests; install aiohttp's wheel"],
            1,
        )
    core = settings.core
    for sentence in (*access_warnings(core.access), *hidden_routes(core.routes), *invalid_certificates(core)):
        logger.warning("%s", sentence)
    async with AsyncExitStack() as stack:
        metrics = Metrics()
        traces = await stack.enter_async_context(tracing.start(core.tracing, core.listen.trusted_proxies))
        store = await stack.enter_async_context(_opened_store(settings, metrics))
        started = await stack.enter_async_context(plugin_loader.start(settings, store))
        if faults := faults_of_started(settings, started):
            raise ConfigError([f"{settings.file}: {fault}" for fault in faults], code=1)
        directory_state = DependencyState()
        plugins = _instrumented(started, metrics, directory_state, traces)
        _expect(metrics, started)
        load_balancers = [
            await stack.enter_async_context(_opened_load_balancer(route, metrics, traces)) for route in core.routes
        ]
        console = await stack.enter_async_context(open_client(core.state_dir)) if core.console is not None else None
        guesses = next((one for one in started.authenticators if isinstance(one, CountsGuesses)), None)
        gateway = Gateway(settings, plugins, store, load_balancers, metrics, directory_state, traces, console, guesses)
        stack.push_async_callback(gateway.licensing.finish)
        stack.push_async_callback(finish_all, 2.0)
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(work) for work in _background_work(core, gateway, plugins, directory_state)]
            if core.listen.admin is not None and started.allocator is not None:  # otherwise nobody can read the metrics
                running.append(tasks.create_task(keep_counting(started.allocator, metrics)))
            yield gateway
            for task in running:
                task.cancel()


def _expect(metrics: Metrics, plugins: StartedPlugins) -> None:
    """Starts the counters that depend on the settings at 0."""
    metrics.expect_responses(_STATUSES)
    for one in (*plugins.authenticators, *plugins.sign_in_methods.values()):
        if isinstance(one, NamesMechanisms):
            metrics.expect("sign_ins", one.mechanisms)
    for license in plugins.allocator.licenses if plugins.allocator is not None else ():
        metrics.expect_license(license)


def invalid_certificates(core: Core) -> Iterator[str]:
    """Sentences about certificates that are not valid now: browsers refuse them, and no request shows it."""
    listen = core.listen
    for tls in (listen.tls, *listen.sni) if listen.tls is not None else ():
        with suppress(OSError, ValueError):  # another part reports a file that cannot be loaded
            begin, end = certificate_validity(tls.certificate)
            if end < time.time():
                yield f"listen.tls: {tls.certificate} has expired, so browsers refuse it; renew it"
            elif begin > time.time():
                yield f"listen.tls: {tls.certificate} is not valid yet, so browsers refuse it; {NOT_VALID_YET}"


def _background_work(core: Core, gateway: Gateway, plugins: StartedPlugins, state: DependencyState) -> Iterator[Work]:
    yield gateway.sessions.keep()
    yield gateway.tokens.keep()
    yield gateway.licensing.report()
    yield background.keep_rules(core, plugins.directory, gateway.rules, gateway.licensing, state, gateway.console_roles)
    yield background.keep_drained(gateway.drained, gateway.load_balancers)
    if gateway.worker_states is not None:
        yield background.keep_reporting(gateway.worker_states, gateway.rules, gateway.degraded, gateway.load_balancers)
    if gateway.certificates is not None:
        yield background.keep_certificates(gateway.certificates)
    yield from (load_balancer.watch() for load_balancer in gateway.load_balancers)


def _instrumented(
    plugins: StartedPlugins, metrics: Metrics, state: DependencyState, traces: "Tracing | None"
) -> StartedPlugins:
    directory, allocator, authenticators = instrument(
        plugins.directory, plugins.allocator, plugins.authenticators, metrics, state, traces
    )
    return replace(plugins, directory=directory, allocator=allocator, authenticators=authenticators)


@asynccontextmanager
async def _opened_load_balancer(
    route: RouteSection, metrics: Metrics, traces: "Tracing | None"
) -> AsyncIterator[LoadBalancer]:
    make = Upstream if traces is None else traces.upstream
    async with AsyncExitStack() as stack:
        upstreams = [await stack.enter_async_context(upstream_of(route, url, make)) for url in route.upstreams]
        metrics.expect("upstream_failures", [upstream.name for upstream in upstreams])
        yield LoadBalancer([Server(upstream) for upstream in upstreams], metrics, route.health)


def _routes(
    sections: Sequence[RouteSection],
    load_balancers: Sequence[LoadBalancer],
    sign_ons: Mapping[int, SignOn | ServerSignOn],
) -> Iterator[Route]:
    for number, (section, load_balancer) in enumerate(zip(sections, load_balancers, strict=True)):
        sign_on = sign_ons.get(number)
        yield Route(
            number,
            section.host.lower(),
            section.path,
            section.license,
            dialect.choose(
                section.dialect,
                opens=section.opens,
                uses=section.uses,
                polls=section.polls,
                windows=section.windows,
            ),
            None if isinstance(sign_on, ServerSignOn) else sign_on,
            Forwarder(
                load_balancer,
                keep_host=section.host_header == "keep",
                websockets_per_user=section.connections_per_user or max(1, section.connections // 2),
            ),
            section.websocket_idle,
            section.windows,
            section.service_workers,
            sign_on if isinstance(sign_on, ServerSignOn) else None,
            section.sign_in == "off",
            section.authorization == "pass",
            has_only_remembered_settings(section.model_fields_set),
        )


def _owned_headers(sign_on: Mapping[int, SignOn | ServerSignOn], *, traced: bool) -> frozenset[bytes]:
    """The headers that only the gateway may set, in lower case."""
    owned = frozenset(name.lower().encode() for one in sign_on.values() for name in one.owned)
    return owned | FIELDS if traced else owned


@asynccontextmanager
async def _opened_store(settings: Settings, metrics: Metrics) -> AsyncIterator[RedisStore]:
    try:
        async with open_store(settings.core.store, settings.core.state_dir, metrics) as store:
            yield store
    except (EmbeddedFaultError, NoServerError) as error:
        raise ConfigError([f"{settings.file}: {error}"], code=1) from error
