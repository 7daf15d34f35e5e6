"""`calgate sign-ins`: blocked accounts and addresses, lifting a block, and the users who still use NTLM."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import click
from rich.table import Table

from calgate.plugin import CommandContext, Unavailable, actor, config_option, console, json_option, reason_option
from calgate_negotiate.guard import Block, GuardReport
from calgate_negotiate.settings import Config

T = TypeVar("T")


def commands(context: CommandContext) -> click.Group:
    """The group of commands; `context` opens the store."""
    group = click.Group("sign-ins", help="Failed sign-ins, and those by NTLM.")
    for command in (_blocked(context), _lift(context), _ntlm(context)):
        group.add_command(command)
    return group


def ntlm_report(context: CommandContext, file: Path, *, as_json: bool) -> None:
    """Prints the users who signed in by NTLM: address, number and time of the last, the most frequent first."""
    rows = _report(context, file, lambda report: report.ntlm_sign_ins())
    if as_json:
        names = ("user", "address", "count", "last")
        click.echo(json.dumps([dict(zip(names, row, strict=True)) for row in rows], ensure_ascii=False, indent=2))
        return
    table = Table("User", "From", "Sign-ins", "Last")
    for user, address, count, last in rows:
        table.add_row(user, address, str(count), time.strftime("%Y-%m-%d %H:%M %Z", time.localtime(last)))
    console().print(table)


def _report(context: CommandContext, file: Path, read: Callable[[GuardReport], Awaitable[T]]) -> T:
    async def work() -> T:
        async with context.open(file) as (section, services):
            assert isinstance(section, Config)
            return await read(GuardReport(services.store, section.guard))

    try:
        return asyncio.run(work())
    except Unavailable as refusal:
        raise click.ClickException(refusal.detail) from refusal


def _blocked(context: CommandContext) -> click.Command:
    @click.command()
    @config_option
    @json_option
    def blocked(file: Path, as_json: bool) -> None:
        """Show accounts and addresses that have to wait after too many failures, on every gateway."""

        async def blocks(report: GuardReport) -> list[Block]:
            return [block async for block in report.blocks()]

        found = sorted(_report(context, file, blocks), key=lambda block: (block.account, block.address))
        (_print_blocks_json if as_json else _print_blocks)(found)

    return blocked


def _lift(context: CommandContext) -> click.Command:
    @click.command()
    @click.argument("target")
    @config_option
    @reason_option
    def lift(target: str, file: Path, reason: str) -> None:
        """Delete the failures of TARGET: an account like CORP\\alice, or an address."""
        lifted = _report(context, file, lambda report: report.lift(target, actor(), reason))
        if not lifted:
            raise click.ClickException(
                f"{target}: no failures are counted; `calgate sign-ins blocked` lists those that are"
            )
        click.echo(f"{target}: may sign in again")

    return lift


def _ntlm(context: CommandContext) -> click.Command:
    @click.command()
    @config_option
    @json_option
    def ntlm(file: Path, as_json: bool) -> None:
        """Show who signed in by NTLM, from which address and how often: to review before NTLM is turned off."""
        ntlm_report(context, file, as_json=as_json)

    return ntlm


def _print_blocks_json(blocks: list[Block]) -> None:
    rows = [
        {"kind": b.kind, "account": b.account, "address": b.address, "failures": b.failures, "seconds": b.seconds}
        for b in blocks
    ]
    click.echo(json.dumps(rows, ensure_ascii=False, indent=2))


def _print_blocks(blocks: list[Block]) -> None:
    table = Table("Account", "From", "Failures", "Waits")
    for block in blocks:
        table.add_row(
            block.account or "any", block.address or "anywhere", str(block.failures), f"{block.seconds:.0f} s"
        )
    console().print(table)
