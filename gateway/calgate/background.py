"""Keeps resolved groups, drained document servers and certificates up to date while a gateway runs."""

import asyncio
import logging
import os
import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress

from calgate.access.current import CurrentRules
from calgate.access.rules import Rules
from calgate.access.settings import groups_of
from calgate.config.model import Core
from calgate.endpoints.console import ConsoleRoles
from calgate.http.tls import Certificates
from calgate.licensing.leases import Licensing
from calgate.plugin.errors import Unavailable
from calgate.plugin.identity import Directory
from calgate.telemetry.dependency import DependencyState
from calgate.telemetry.worker_states import WorkerState, WorkerStates, joined
from calgate.upstream.balancer import LoadBalancer
from calgate.upstream.drained import DrainedServers

logger = logging.getLogger(__name__)

_RESOLVE_EVERY = 300.0  # seconds: groups can be renamed or created while the gateway runs
_RETRY_AFTER = 3.0  # seconds, while the directory or the store does not respond
_CERTIFICATES_EVERY = 5.0  # seconds
_STATE_EVERY = 1.0  # seconds until a change is reported
_FIRST_WITHIN = 5.0  # seconds until the first report, at most
_REPORT_EVERY = 10.0  # seconds until an unchanged state is reported again, so that readers see that the worker is alive
_LAST_WITHIN = 0.5  # seconds that a worker's end waits for the store


async def keep_rules(
    core: Core,
    directory: Directory,
    rules: CurrentRules,
    licensing: Licensing,
    state: DependencyState,
    console: ConsoleRoles | None = None,
) -> None:
    """Resolves the groups of access rules, licenses and the console, at once and every few minutes.

    Runs until cancelled. It is also the probe of the directory: a failed look-up of a user makes it resolve at once.
    """
    has_warned = False
    while True:
        try:
            await _resolve(core, directory, rules, licensing, console)
        except Unavailable as refusal:
            if not has_warned:
                logger.warning(
                    "access: the directory does not respond; users get 503 until it does: %s", refusal.detail
                )
            has_warned = True
            await asyncio.sleep(_RETRY_AFTER)
        else:
            if has_warned:
                logger.info("access: the directory responds again")
            has_warned = False
            await asyncio.sleep(_RETRY_AFTER)  # several doubts make one query
            await state.wait_for_doubt(_RESOLVE_EVERY)


async def _resolve(
    core: Core, directory: Directory, rules: CurrentRules, licensing: Licensing, console: ConsoleRoles | None
) -> None:
    of_console = console.section.groups if console is not None else ()
    found = await directory.resolve(sorted({*groups_of(core.access), *licensing.groups, *of_console}))
    resolved = Rules(core.access, found, core.timezone)
    for name in resolved.unresolved:
        logger.warning(
            "access: no directory has the group %s; users to whom its rules might apply get 503: correct the name", name
        )
    for name in sorted(name for name in licensing.groups if found.get(name) is None):
        logger.warning("licenses: no directory has the group %s; nobody counts as its member: correct the name", name)
    for name in sorted(name for name in of_console if found.get(name) is None):
        logger.warning("console: no directory has the group %s; nobody can enter: correct the name", name)
    if console is not None:
        console.regroup(found)
    licensing.regroup({name: found.get(name) for name in licensing.groups})
    rules.replace(resolved)


async def keep_drained(servers: DrainedServers, load_balancers: Sequence[LoadBalancer]) -> None:
    """Applies which document servers an administrator has drained; runs until cancelled."""
    while True:
        try:
            drained = await servers.read()
        except Unavailable:
            await asyncio.sleep(_RETRY_AFTER)
            continue
        for load_balancer in load_balancers:
            load_balancer.set_drained(drained)
        await servers.wait_for_change()


async def keep_reporting(
    states: WorkerStates,
    rules: CurrentRules,
    degraded: Callable[[], Sequence[str]],
    load_balancers: Sequence[LoadBalancer],
) -> None:
    """Reports what this worker knows of the servers that it depends on, for the console; runs until cancelled."""
    said, at = WorkerState("", 0), 0.0
    await rules.wait(_FIRST_WITHIN)  # until the first query has ended, nobody knows whether the directory responds
    try:
        while True:
            state = _state(degraded(), load_balancers)
            if state != said or asyncio.get_running_loop().time() - at >= _REPORT_EVERY:
                with suppress(Unavailable):
                    await states.report(state)
                    said, at = state, asyncio.get_running_loop().time()
            await asyncio.sleep(_STATE_EVERY)
    finally:
        with suppress(Unavailable, TimeoutError):
            async with asyncio.timeout(_LAST_WITHIN):
                await states.withdraw(said)


def _state(degraded: Sequence[str], load_balancers: Sequence[LoadBalancer]) -> WorkerState:
    servers = joined(state for load_balancer in load_balancers for state in load_balancer.states())
    return WorkerState(socket.gethostname(), os.getpid(), degraded, list(servers.values()))


async def keep_certificates(certificates: Certificates) -> None:
    """Loads a certificate again when its files have changed; runs until cancelled."""
    while True:
        await asyncio.sleep(_CERTIFICATES_EVERY)
        try:
            if certificates.reload_if_changed():
                logger.info("listen.tls: certificate reloaded")
        except (OSError, ssl.SSLError, ValueError) as error:
            logger.error("listen.tls: cannot load the new certificate, keeping the old one: %s", error)
