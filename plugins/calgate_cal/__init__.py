"""CALs by the rules of QlikView Server, counted and granted in Redis functions. README.md has the rules."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Collection, Mapping

from calgate.plugin import Services, Unavailable, actor
from calgate_cal.allocator import CalAllocator
from calgate_cal.check import check
from calgate_cal.commands import commands
from calgate_cal.register import LastSeen, LicenseRegister, missing_cals
from calgate_cal.screens import screens
from calgate_cal.settings import Config, warnings

__all__ = ["Config", "anonymous_licenses", "check", "commands", "license_names", "role", "screens", "start", "warnings"]

role = "allocator"

logger = logging.getLogger(__name__)

_TENDED_EVERY = 5.0  # seconds; a waiting page sees an offer when it polls next, so tending more often helps no user
_SEEN_EVERY = 60.0  # seconds


def license_names(table: Mapping[str, object]) -> Collection[str]:
    """Returns the names of the licenses: each is a table of the section."""
    return table.keys()


def anonymous_licenses(table: Mapping[str, object]) -> Collection[str]:
    """Returns the names of the licenses with the setting `anonymous`."""
    return [name for name, license in table.items() if isinstance(license, dict) and "anonymous" in license]


@contextlib.asynccontextmanager
async def start(config: Config, services: Services) -> AsyncIterator[CalAllocator]:
    """Starts the allocator, also while the store is away. It changes nothing in the store before `activate`."""
    allocator = CalAllocator(config, services.store, actor())
    tasks = {
        asyncio.create_task(_tend(allocator), name="CALs that come back"),
        asyncio.create_task(_watch_for_missing_cals(allocator, config, services), name="CALs that seem gone"),
    }
    for task in tasks:
        task.add_done_callback(_log_failure)
    try:
        yield allocator
    finally:
        while running := {task for task in tasks if not task.done()}:
            for task in running:  # redis-py's own timeouts swallow a cancellation that meets a reply
                task.cancel()
            await asyncio.wait(running, timeout=0.2)


async def _tend(allocator: CalAllocator) -> None:
    await allocator.is_active.wait()
    await allocator.tend(_TENDED_EVERY)


async def _watch_for_missing_cals(allocator: CalAllocator, config: Config, services: Services) -> None:
    """Warns at the start of licenses whose CALs seem gone; then notes from time to time what there is."""
    await allocator.is_active.wait()
    register, seen = LicenseRegister(services.store), LastSeen(services.state_dir)
    has_warned = False
    noted: dict[str, int] = {}
    while True:
        with contextlib.suppress(Unavailable):
            if not has_warned:
                missing = await missing_cals(register, seen.read(), config.licenses.keys())
                for license, sentence in missing.items():
                    logger.warning("license %s: %s; `calgate check` says what to do", license, sentence)
                has_warned = True
            for license in config.licenses:
                cals = await register.permanent_cals(license)
                if cals != noted.get(license, 0):  # finding none proves nothing: the store may be the wrong one
                    await asyncio.to_thread(seen.write, license, cals)
                    noted[license] = cals
        await asyncio.sleep(_SEEN_EVERY)


def _log_failure(task: "asyncio.Task[None]") -> None:
    """Without tending, CALs are still counted correctly, but ended leases stay listed and offers wait for a claim."""
    if not task.cancelled() and (error := task.exception()):
        logger.error("%s: the task failed; restart the gateway", task.get_name(), exc_info=error)
