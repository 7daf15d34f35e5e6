"""`calgate run`: the gateway as a service."""

import json
import logging
import sys
from pathlib import Path

import click
import uvloop

from calgate import config
from calgate.plugin.options import config_option
from calgate.telemetry import log


@click.command()
@config_option
def run(file: Path) -> None:
    """Runs the gateway until SIGTERM or Ctrl-C; open requests finish first.

    SIGHUP reloads the settings, certificates and keytab; SIGUSR2 replaces the running program by the one on disk.
    Neither loses a connection.

    Exit codes: 0 stopped by a signal, 1 an address, certificate, keytab or store cannot be used, 2 the file is faulty.
    """
    from calgate.processes.parent import Parent

    settings = config.read(file)
    log.start(settings.core.log.format, settings.core.log.level, settings.loggers)
    parent = Parent(file, settings)
    sys.exit(uvloop.run(parent.run()))


@click.command(hidden=True)
@config_option
@click.option("--settings", "lent_settings", type=int, required=True, help="Descriptor lent by the parent.")
@click.option("--slot", type=int, required=True)
@click.option("--sockets", required=True, help="Descriptors lent by the parent, as JSON.")
def worker(file: Path, lent_settings: int, slot: int, sockets: str) -> None:
    """Runs one worker of a gateway; its parent starts it."""
    from calgate.processes.worker import main

    main(file, lent_settings, slot, sockets)


@click.command(hidden=True)
@config_option
@click.option("--listening", required=True, help="Addresses of the running program, as JSON.")
def trial(file: Path, listening: str) -> None:
    """Starts every part of a gateway and stops it; the running program does this before it is replaced."""
    from calgate.processes.trial import start_and_stop

    logging.disable()  # only what stops the gateway from starting counts here
    uvloop.run(start_and_stop(config.read(file), json.loads(listening)))
