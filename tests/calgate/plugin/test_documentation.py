"""The page about plugins says what the code says. `python tests/calgate/plugin/test_documentation.py` writes it."""

import ast
import inspect
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from calgate import plugin
from calgate.plugin import (
    access,
    changes,
    channel_binding,
    checks,
    errors,
    hooks,
    identity,
    licensing,
    named_groups,
    names,
    options,
    screens,
    services,
    settings,
    sign_in_method,
    sign_on,
    tasks,
    texts,
    values,
)

PAGE = Path(plugin.__file__).with_name("README.md")
PARTS = {
    "Hooks of a plugin's module": hooks,
    "Who are you?": identity,
    "Pages to sign in on": sign_in_method,
    "May you have this?": access,
    "Is there a CAL for you?": licensing,
    "How does the document server learn who you are?": sign_on,
    "Services of the core": services,
    "`calgate check` and commands": checks,
    "The administrators' console": screens,
    "Records of changes": changes,
    "Names of users and groups": names,
    "Groups that a setting names": named_groups,
    "Options of commands": options,
    "Settings": settings,
    "Values of the store": values,
    "Background tasks": tasks,
    "Texts of pages": texts,
    "Refusals and faults": errors,
    "Channel binding": channel_binding,
}
INTRODUCTION = """# Writing a plugin

This page is written from the code by `python tests/calgate/plugin/test_documentation.py`; a test compares the two.

A plugin is a Python module that an entry point names:

```toml
[project.entry-points."calgate.plugins"]
signed = "calgate_signed"   # the plugin's section in the settings file = the module
```

The core knows no plugin by name. It looks at the module's `role`, and for the hooks below. Everything that a plugin
imports comes from one place: `from calgate.plugin import ...`. The README at the top of the repository has a complete
sign-on in forty lines; tests/end_to_end/test_strangers_site.py has one of each role.
"""


def page() -> str:
    """The whole page."""
    return "\n".join([INTRODUCTION, *(line for title, part in PARTS.items() for line in _part(title, part))])


def _part(title: str, part: ModuleType) -> Iterator[str]:
    yield f"## {title}\n"
    for name in plugin.__all__:
        value = getattr(plugin, name)
        if _is_from(part, name, value):
            yield from _entry(name, value, part)


def _is_from(part: ModuleType, name: str, value: object) -> bool:
    home = getattr(value, "__module__", "")
    return home == part.__name__ if home.startswith("calgate.plugin.") else name in vars(part) and _has_text(part, name)


def _has_text(part: ModuleType, name: str) -> bool:
    return bool(_text_of(part, name))


def _text_of(part: ModuleType, name: str) -> str:
    """The docstring under the assignment of a name."""
    statements = ast.parse(inspect.getsource(part)).body
    for statement, below in pairwise(statements):
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == name:
            is_text = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
            return str(ast.literal_eval(ast.unparse(below))) if is_text else ""
    return ""


def _entry(name: str, value: object, part: ModuleType) -> Iterator[str]:
    if text := _text_of(part, name):
        yield f"**{name}**: {_sentences(text)}\n"
        return
    yield f"**{name}**: {_sentences(value.__doc__ or '')}\n"
    is_protocol = isinstance(value, type) and getattr(value, "_is_protocol", False)
    members = [_member(value, member) for member in vars(value)] if is_protocol else []
    attributes = list(_attributes(value)) if isinstance(value, type) else []
    yield from attributes
    yield from filter(None, members)
    if attributes or any(members):
        yield ""


def _attributes(value: type) -> Iterator[str]:
    """The attributes of a class, each with its docstring or the comment at its end."""
    source = inspect.getsource(value)
    for name in vars(value).get("__annotations__", {}):
        found = re.search(
            rf'^    {name}: [^\n]*?(?:  # ([^\n]*))?\n(?:    """(.*?)""")?', source, re.MULTILINE | re.DOTALL
        )
        text = (found[2] or found[1] or "") if found is not None else ""
        yield f"* `{name}`" + (f": {_sentences(text)}" if text else "")


def _member(protocol: Any, name: str) -> str:
    function = vars(protocol)[name]
    if name.startswith("_") or not (inspect.isfunction(function) or isinstance(function, property)):
        return ""
    text = _sentences(function.__doc__ or "")
    if isinstance(function, property):
        return f"* `{name}`: {text}"
    verb = "async " if inspect.iscoroutinefunction(function) else ""
    parameters = ", ".join(
        str(one.name) for one in inspect.signature(function).parameters.values() if one.name != "self"
    )
    return f"* `{verb}{name}({parameters})`: {text}"


def _sentences(text: str) -> str:
    return " ".join(inspect.cleandoc(text).split())


def test_page_says_what_the_code_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run python tests/calgate/plugin/test_documentation.py"


@pytest.mark.parametrize("name", plugin.__all__)
def test_every_public_name_is_documented(name: str) -> None:
    assert f"**{name}**: " in page()
    assert f"**{name}**: \n" not in page()


@pytest.mark.parametrize("hook", [name for name in plugin.__all__ if name.startswith("Has")])
def test_every_hook_is_read_by_the_loader(hook: str) -> None:
    from calgate import plugin_loader

    assert f"isinstance(module, {hook})" in re.sub(r"self\.module", "module", inspect.getsource(plugin_loader.Plugin))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
