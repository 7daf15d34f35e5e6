"""Properties that all commands have in common."""

import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from calgate.cli import main
from calgate.plugin import SETTINGS_FILE

WITHOUT_FILE = ("calgate demo", "calgate config schema", "calgate cals plan", "calgate keys new")  # they need none


def commands(group: click.Group, path: str = "calgate") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


@pytest.mark.parametrize(("path", "command"), list(commands(main)))
def test_settings_file_has_the_same_default_in_every_command_that_takes_one(path: str, command: click.Command) -> None:
    options = [option for option in command.params if "-c" in option.opts]
    assert len(options) == 1 or path in WITHOUT_FILE
    assert path in WITHOUT_FILE or options[0].default == SETTINGS_FILE


def test_check_without_a_terminal_names_the_option_that_takes_a_password() -> None:
    result = CliRunner().invoke(main, ["check", "--as", "alice"])
    assert result.exit_code == 2
    assert "give --password-stdin" in result.output


def test_every_command_has_the_name_that_it_is_found_by() -> None:
    context = click.Context(main)
    names = main.list_commands(context)
    assert {"run", "worker", "trial", "console-process", "check", "cals"} <= {*names}
    for name in names:
        command = main.get_command(context, name)
        assert command is not None
        assert command.name == name


def test_worker_imports_no_other_command() -> None:
    code = """if 1:
        import sys, click
        from calgate.cli import main
        main.get_command(click.Context(main), "worker")
        print(*(name for name in sys.modules if name.startswith("calgate.commands.")))
    """
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["calgate.commands.run"]
