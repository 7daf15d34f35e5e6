"""Tries everything real that a settings file names, and reports findings that can be acted on."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from urllib.parse import urlsplit

from calgate import plugin_loader
from calgate.access.settings import Rule, groups_of
from calgate.access.warnings import warnings as access_warnings
from calgate.commands import check_anonymous, check_listen, check_store, check_upstreams
from calgate.commands.context import open_services
from calgate.commands.site import SettingsSite
from calgate.config.model import Route, Settings
from calgate.paths import fold
from calgate.plugin.checks import CheckContext, DomainInfo, Finding
from calgate.plugin.errors import ConfigError, Refusal, Unavailable
from calgate.plugin.identity import Directory, GroupHints
from calgate.plugin.names import identity_of
from calgate.plugin.services import Services
from calgate.plugin.sign_on import DocumentServer, ServerSignOn
from calgate.routes import authorization_faults, hidden_routes
from calgate.tracing.settings import TracingSection

_HOST_MUST_BE_KEPT = Finding(
    "note",
    "proxy",
    "the proxies in listen.trusted_proxies must keep the Host header, or set X-Forwarded-Host: else browsers get 403"
    " for every POST request and WebSocket",
    "if they cannot, set listen.public_origin to what users have in their address bar",
)


async def check(
    settings: Settings, hosts: Sequence[str] = (), login: tuple[str, str] | None = None
) -> AsyncIterator[Finding]:
    """Yields all findings, in the order of a request. `hosts`: public names, if the routes name none."""
    public = tuple(dict.fromkeys([*hosts, *(route.host for route in settings.core.routes if route.host)]))
    for finding in _unwise(settings):
        yield finding
    async for finding in check_listen.check(settings, public):
        yield finding
    try:
        async with open_services(settings) as (store, plugins):
            async for finding in check_store.check(store, is_private=settings.core.store.embedded):
                yield finding
            async for finding in _plugins(settings, plugins.services, public, login):
                yield finding
            for finding in (*_sign_ons(settings, plugins), *check_anonymous.check(settings)):
                yield finding
    except ConfigError as error:
        for fault in error.faults:
            yield Finding("fail", "start", fault)
        sections = ", ".join(f"[{name}]" for name in settings.plugins)
        yield Finding("untried", "plugins", f"{sections}: see start")
    async for finding in check_upstreams.check(settings.core.routes):
        yield finding
    if settings.core.tracing is not None:
        yield await asyncio.to_thread(_receiver_of_spans, settings.core.tracing)


def _unwise(settings: Settings) -> Sequence[Finding]:
    sentences = [*access_warnings(settings.core.access), *hidden_routes(settings.core.routes)]
    for name, section in settings.plugins.items():
        sentences += settings.modules[name].warnings(section)
    for number, (name, section) in settings.sign_on.items():
        sentences += [f"routes[{number + 1}].sign_on: {said}" for said in settings.modules[name].warnings(section)]
    sentences += [f"{name}: {why}" for name, why in plugin_loader.unusable()]
    wise = [Finding("ok", "settings", f"{settings.file} is read, and has no faults")]
    listen = settings.core.listen
    needs_host = listen.trusted_proxies and not listen.proxy_protocol and not listen.public_origin
    notes = [_HOST_MUST_BE_KEPT] if needs_host else []
    notes += [_public(number, route) for number, route in enumerate(settings.core.routes, 1) if route.sign_in == "off"]
    return ([Finding("warn", "settings", sentence) for sentence in sentences] or wise) + notes


def _public(number: int, route: Route) -> Finding:
    what = f'is public (sign_in = "off"): everybody who reaches the gateway gets what is below {route.host}{route.path}'
    return Finding("note", f"routes[{number}]", what, 'remove sign_in = "off" if users are to sign in there')


def _receiver_of_spans(section: TracingSection) -> Finding:
    from calgate.tracing.spans import is_receiving  # here, because it imports OpenTelemetry

    if is_receiving(section):
        return Finding("ok", "tracing", f"{section.endpoint} takes spans")
    return Finding("warn", "tracing", f"{section.endpoint} takes no spans", "start it, or correct [tracing]")


# ---------------------------------------------------------------- plugins and rules


async def _plugins(
    settings: Settings, services: Services, hosts: Sequence[str], login: tuple[str, str] | None
) -> AsyncIterator[Finding]:
    members = services.directory.members if isinstance(services.directory, plugin_loader.Directories) else ()
    registry = next((one for one in members if isinstance(one, DomainInfo)), None)
    blocked: dict[str, str] = {}
    assert services.directory is not None
    site = SettingsSite(settings.core, services.directory)
    context = CheckContext(
        replace(services, site=site), hosts, registry, login, blocked, has_tls=settings.core.listen.tls is not None
    )
    for name in sorted(settings.plugins, key=lambda name: (settings.modules[name].role != "directory", name)):
        own = replace(context, services=plugin_loader.with_siblings(context.services, settings, name))
        async for finding in settings.modules[name].check(settings.plugins[name], own):
            if finding.blocks:
                blocked.setdefault(finding.blocks, finding.subject)
            yield finding
    for number, (name, section) in settings.sign_on.items():
        urls = settings.core.routes[number].upstreams
        servers = [DocumentServer(url, urlsplit(url).hostname or "") for url in urls]
        async for finding in settings.modules[name].check(section, replace(context, servers=servers)):
            yield replace(finding, subject=f"routes[{number + 1}].sign_on: {finding.subject}")
    yield await _rules(settings, services, blocked)
    async for finding in _console(settings, services, blocked):
        yield finding
    if "directory" not in blocked:
        async for finding in _users(settings.core.access, services):
            yield finding


def _sign_ons(settings: Settings, plugins: plugin_loader.StartedPlugins) -> Sequence[Finding]:
    faults = [
        Finding("fail", "settings", fault) for fault in authorization_faults(settings.core.routes, plugins.sign_on)
    ]
    return [*faults, *_not_for_forward_auth(settings, plugins)]


def _not_for_forward_auth(settings: Settings, plugins: plugin_loader.StartedPlugins) -> Sequence[Finding]:
    """Returns a warning for each route whose sign-on only the gateway itself can send."""
    if settings.core.forward_auth is None:
        return []
    what = "/_calgate/auth refuses its requests: its sign-on is valid for one document server and one request"
    return [
        Finding("warn", f"routes[{number + 1}]", what, "let the gateway forward this route, not another proxy")
        for number, sign_on in plugins.sign_on.items()
        if isinstance(sign_on, ServerSignOn)
    ]


async def _users(rules: Sequence[Rule], services: Services) -> AsyncIterator[Finding]:
    """Yields a finding for each user whom a rule names and can never match: a failure if the rule denies."""
    assert services.directory is not None
    denied = {user for rule in rules if rule.deny for user in rule.users}
    for user in sorted({user for rule in rules for user in rule.users}):
        try:
            person = await services.directory.look_up(identity_of(user))
        except Refusal:  # an account that may not sign in is there, and a directory that is away has been reported
            continue
        if person is None:
            yield Finding("warn", "access", f"no directory has the user {user}, whom a rule names", "correct the name")
        elif fold(user) not in (fold(person.name), fold(person.key)):
            what = f"a rule names {user}, who is called {person.name}: the rule never applies"
            remedy = f"write {person.name}, or the SID {person.key}"
            yield Finding("fail" if user in denied else "warn", "access", what, remedy)


async def _rules(settings: Settings, services: Services, blocked: Mapping[str, str]) -> Finding:
    assert services.directory is not None
    if "directory" in blocked:
        return Finding("untried", "access", f"groups cannot be looked up: {blocked['directory']} does not serve")
    if not settings.core.access:
        return Finding("fail", "access", "there is no rule, so every request is refused", "add an [[access]] rule")
    wanted = groups_of(settings.core.access)
    try:
        found = await services.directory.resolve(wanted)
    except Unavailable as refusal:
        return Finding(
            "fail", "access", f"groups cannot be looked up: {refusal.detail}", "see what the directories report"
        )
    if missing := [name for name in wanted if found.get(name) is None]:
        remedy = "correct the name, or create the group: until then users to whom its rules might apply get 503"
        remedy = "; ".join([*await _hints(services.directory, missing), remedy])
        return Finding("fail", "access", f"no directory has the group {', '.join(missing)}", remedy)
    return Finding("ok", "access", f"{len(settings.core.access)} rules, {len(wanted)} groups, all found")


async def _console(settings: Settings, services: Services, blocked: Mapping[str, str]) -> AsyncIterator[Finding]:
    """Yields whether the groups of the console are found: one that is not shuts it."""
    section = settings.core.console
    if section is None or "directory" in blocked or services.directory is None:
        return
    try:
        found = await services.directory.resolve(section.groups)
    except Unavailable:  # the finding about access says so already
        return
    missing = [name for name in section.groups if found.get(name) is None]
    if missing:
        remedy = "; ".join(
            [*await _hints(services.directory, missing), "correct the name: until then nobody can enter"]
        )
        yield Finding("fail", "console", f"no directory has the group {', '.join(missing)}", remedy)
    else:
        yield Finding("ok", "console", f"{len(section.groups)} groups, all found")


async def _hints(directory: Directory, groups: Sequence[str]) -> list[str]:
    """Returns the directories' guesses about the groups that none of them has."""
    members = directory.members if isinstance(directory, plugin_loader.Directories) else (directory,)
    hints = [await one.hint(group) for group in groups for one in members if isinstance(one, GroupHints)]
    return list(filter(None, hints))
