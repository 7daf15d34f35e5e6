"""The parent: keeps the sockets and the private store, starts workers, replaces those that end, and handles signals.

SIGTERM, SIGINT: open requests finish, then everything ends. SIGHUP: the settings are read again; if they have no
fault, new workers start on the same sockets, and the old ones finish their open requests. SIGUSR2: the program on disk
replaces this one in the same process, and inherits the sockets without a gap.
"""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

from calgate import config, store
from calgate.config.model import Settings
from calgate.plugin.errors import ConfigError
from calgate.plugin.tasks import start_task
from calgate.processes.admin import Admin
from calgate.processes.console_process import ConsoleProcess
from calgate.processes.notify import notify
from calgate.processes.predecessors import Predecessors, remember
from calgate.processes.serve import WAS_READY, public_url
from calgate.processes.sockets import HANDOVER, from_systemd, inherited
from calgate.processes.trial import faults_of_program_on_disk
from calgate.processes.worker_process import WorkerProcess
from calgate.store import EmbeddedFaultError, NoServerError, open_store

logger = logging.getLogger(__name__)

_LAST_PATIENCE = 5.0  # seconds after `listen.drain` until a worker that has not ended is killed
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2)
_RETRIED_AFTER = 5.0  # seconds until a replaced program is asked to start its workers again
_BACK_OFF = (0.0, 0.5, 1.0, 2.0, 5.0)  # seconds before a crashed worker is replaced, by crashes in a row


class Parent:
    """One gateway service."""

    def __init__(self, file: Path, settings: Settings) -> None:
        self._file = file
        self._settings = settings
        self._sockets = inherited()
        self._sockets.open(settings.core, from_systemd())
        self._workers: dict[int, WorkerProcess] = {}
        self._leaving: dict[
            asyncio.Task[None], Callable[[], str]
        ] = {}  # the value is what a replacing program must know of it
        self._stop = asyncio.Event()
        self._wanted = asyncio.Event()  # a reload, an upgrade, or a worker that ended
        self._reload = False
        self._upgrade = False
        self._crashes = 0
        self._is_announced = False
        self._console = ConsoleProcess()
        self._predecessors = Predecessors()
        self._admin = Admin(lambda: self._workers, lambda: self._settings.core.listen)

    async def run(self) -> int:
        """Runs until a signal stops it; returns the exit code. Raises ConfigError if the first workers cannot start."""
        self._predecessors.listen()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_stop)
        loop.add_signal_handler(signal.SIGHUP, self._on_reload)
        loop.add_signal_handler(signal.SIGUSR2, self._on_upgrade)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)  # the replaced program blocked them
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(_own_store(self._settings))
            await self._admin.serve_on(self._sockets.of_admin())
            stack.push_async_callback(self._admin.close)
            try:
                self._workers = await self._start_first_generation()
                self._predecessors.dismiss(self._leave)
                if not self._stop.is_set():
                    await self._use_sockets_of(self._settings)
                    self._console.use(self._settings)
                    notify("READY=1", f"MAINPID={os.getpid()}")
                    logger.info("listening on %s", public_url(self._settings))
                    await self._supervise()
            finally:
                await self._end_all()
        return 0

    # ------------------------------------------------------------ signals

    def _on_stop(self) -> None:
        self._stop.set()
        self._admin.is_stopping = True
        for child in self._workers.values():
            child.announce_stop()
        self._wanted.set()

    def _on_reload(self) -> None:
        self._reload = True
        self._wanted.set()

    def _on_upgrade(self) -> None:
        self._upgrade = True
        self._wanted.set()

    def _announce(self) -> None:
        """Logs once that the gateway is ready; the workers of a reload or an upgrade inherit the variable."""
        if not self._is_announced and self._admin.is_ready:
            self._is_announced = True
            os.environ[WAS_READY] = "1"
            logger.info("ready on %s", public_url(self._settings))

    async def _supervise(self) -> None:
        """Handles signals and ended workers, one after the other."""
        while not self._stop.is_set():
            await self._wanted.wait()
            self._wanted.clear()
            self._announce()
            if self._upgrade:
                self._upgrade = False
                await self._replace_program()
            if self._reload:
                self._reload = False
                await self._reload_settings()
            for slot in [slot for slot, child in self._workers.items() if child.has_ended]:
                await self._replace(slot)

    # ------------------------------------------------------------ workers

    async def _start_first_generation(self) -> dict[int, WorkerProcess]:
        """Starts the first workers. Raises ConfigError, unless there are workers of a replaced program.

        Those serve until the new ones start: the trial before the replacement cannot foresee every fault.
        """
        while not self._stop.is_set():
            try:
                if self._reload:
                    self._reload = False
                    self._settings = config.read(self._file)
                    self._sockets.open(self._settings.core)
                return await self._start_generation(self._settings)
            except ConfigError as error:
                if not self._predecessors:
                    raise
                for fault in error.faults:
                    logger.error("upgrade failed; the old workers serve while the new program tries again: %s", fault)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wanted.wait(), _RETRIED_AFTER)
            self._wanted.clear()
            if self._upgrade:
                self._upgrade = False
                await self._replace_program()
        return {}

    async def _start_generation(self, settings: Settings) -> dict[int, WorkerProcess]:
        """Starts all workers, and lets them serve once every one has started; a failure leaves no trace.

        The first starts alone, so that a fault is reported once. Raises ConfigError.
        """
        started: dict[int, WorkerProcess] = {}
        try:
            for slot in range(settings.core.listen.workers):
                started[slot] = await self._start(settings, slot)
                if slot == 0:
                    await started[0].wait_until_started()
            for child in started.values():
                await child.wait_until_started()
            for child in started.values():
                await child.wait_until_ready()
        except BaseException:
            # until it has ended, one that was let go may change what gateways share, and that must be undone after it
            patience = settings.core.listen.drain + _LAST_PATIENCE
            await asyncio.gather(*(child.finish(patience) for child in started.values()))
            raise
        return started

    async def _start(self, settings: Settings, slot: int) -> WorkerProcess:
        return await WorkerProcess.start(settings, slot, self._sockets.of_worker(slot), self._wanted.set)

    async def _replace(self, slot: int) -> None:
        """Replaces a worker that ended by itself; the new one also accepts the connections in its queue.

        It has the settings in force, whatever the file says by now.
        """
        ended = self._workers[slot]
        self._crashes = self._crashes + 1 if ended.age < 10 else 1
        pause = _BACK_OFF[min(self._crashes, len(_BACK_OFF)) - 1]
        logger.error("worker %d ended (%s); starting another", slot, ended.how_it_ended)
        await asyncio.sleep(pause)
        try:
            self._workers[slot] = await self._start(self._settings, slot)
            await self._workers[slot].wait_until_started()
            await self._workers[slot].wait_until_ready()
        except (ConfigError, OSError) as error:
            logger.error("worker %d does not start; trying again: %s", slot, error)
            self._wanted.set()

    def _dismiss(self, child: WorkerProcess) -> None:
        """Lets a worker finish its open requests, and kills it if it takes too long."""
        self._leave(child.finish(self._settings.core.listen.drain + _LAST_PATIENCE), child.hand_over)

    def _leave(self, ending: Coroutine[None, None, None], hand_over: Callable[[], str]) -> None:
        task = start_task(ending, "end of a worker")
        self._leaving[task] = hand_over
        task.add_done_callback(self._leaving.pop)

    async def _end_all(self) -> None:
        notify("STOPPING=1")
        for child in self._workers.values():
            self._dismiss(child)
        self._sockets.close()
        await self._console.close()  # while the workers finish
        if self._leaving:
            await asyncio.wait(self._leaving)

    # ------------------------------------------------------------ reload

    async def _reload_settings(self) -> None:
        """Starts new workers with the settings as they are now; any fault leaves everything as it was."""
        notify("RELOADING=1")
        try:
            settings = config.read(self._file)
            self._sockets.open(settings.core)
            new = await self._start_generation(settings)
        except ConfigError as error:
            for fault in error.faults:
                logger.error("reload failed, keeping the current settings: %s", fault)
            self._undo_reload()
        except Exception:  # no content of the file may end a running gateway, not even through a bug in the gateway
            logger.exception("reload failed, keeping the current settings")
            self._undo_reload()
        else:
            for child in self._workers.values():
                self._dismiss(child)
            self._workers = new
            self._settings = settings
            self._console.use(settings)
            await self._use_sockets_of(settings)
            self._admin.reloads.succeeded()
            logger.info("settings reloaded")
        notify("READY=1")

    async def _use_sockets_of(self, settings: Settings) -> None:
        # the kernel gives connections to every socket of an address, even if no worker accepts on it
        self._sockets.close_others(settings.core)
        await self._admin.serve_on(self._sockets.of_admin())

    def _undo_reload(self) -> None:
        self._sockets.close_others(self._settings.core)
        for child in self._workers.values():
            child.activate_again()  # a new worker that was let go may have changed what gateways share
        self._admin.reloads.failed()

    # ------------------------------------------------------------ upgrade in place

    async def _replace_program(self) -> None:
        """Executes the program on disk in this process; the workers serve until those of the new program are ready.

        The program on disk is tried first (`trial.py`); whatever fails, the running one goes on.
        """
        faults = await self._unless_stopped(faults_of_program_on_disk(self._file, self._sockets.addresses()))
        if faults is None:
            return
        if faults:
            for fault in faults:
                logger.error("upgrade failed, keeping the running program: %s", fault)
            return
        # until the new program handles signals, each would end it; it inherits the mask, and gets them then
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        logger.info("replacing the program")
        store.hand_over()
        os.environ[HANDOVER] = self._sockets.hand_over()
        here = [child.hand_over for child in self._workers.values() if not child.has_ended]
        old = [hand_over() for hand_over in (*here, *self._leaving.values(), *self._console.hand_over())]
        remember([*old, *self._predecessors.hand_over()])
        os.execv(sys.executable, [sys.executable, "-P", "-m", "calgate", *sys.argv[1:]])  # noqa: S606 - ourselves

    async def _unless_stopped(self, work: Coroutine[None, None, list[str]]) -> list[str] | None:
        """Returns the result of the work, or None if the service was told to stop meanwhile."""
        working, stopping = asyncio.create_task(work), asyncio.create_task(self._stop.wait())
        await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
        if stopping.done():
            working.cancel()
            await asyncio.wait((working,))
            return None
        stopping.cancel()
        return await working


@asynccontextmanager
async def _own_store(settings: Settings) -> AsyncIterator[None]:
    """Runs the private store, if there is one: the parent owns it, because it outlives every worker."""
    if not settings.core.store.embedded:
        yield
        return
    try:
        async with open_store(settings.core.store, settings.core.state_dir):
            yield
    except (EmbeddedFaultError, NoServerError) as error:
        raise ConfigError([f"{settings.file}: {error}"], code=1) from error
