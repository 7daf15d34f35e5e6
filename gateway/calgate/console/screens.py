"""All screens: the core's own, and those that plugins add."""

from collections.abc import Sequence
from dataclasses import replace

from calgate.commands.site import SettingsSite
from calgate.config.model import Settings
from calgate.console.access_screen import access_screen
from calgate.console.changes import changes_screen
from calgate.console.people import person_screen
from calgate.console.servers import servers_screen
from calgate.console.sessions import sessions_screen
from calgate.console.site_screens import health_screen, settings_screen
from calgate.plugin.screens import ConsoleContext, Inputs, Screen, View, Visitor
from calgate.plugin_loader import StartedPlugins
from calgate.store import RedisStore

_GROUPS = ("licenses", "people", "site")
_OVERVIEW = "overview"  # the path of the first screen; the plugin of the licenses has one with their pools


def screens_of(settings: Settings, store: RedisStore, plugins: StartedPlugins, site: SettingsSite) -> Sequence[Screen]:
    """Returns every screen, in the order of the menu; the first is the overview."""
    services = replace(plugins.services, site=site)
    of_plugins = [
        screen
        for name, section in settings.plugins.items()
        for screen in settings.modules[name].screens(ConsoleContext(section, services))
    ]
    found = [
        *of_plugins,
        person_screen(plugins.directory),
        sessions_screen(settings, store, of_plugins),
        access_screen(settings, plugins.directory),
        servers_screen(settings, store),
        health_screen(settings),
        settings_screen(settings),
        changes_screen(store),
    ]
    ordered = sorted(found, key=lambda screen: (_GROUPS.index(screen.group), screen.order, screen.title))
    return ordered if any(screen.path == _OVERVIEW for screen in ordered) else [_overview_screen(), *ordered]


def _overview_screen() -> Screen:
    """Returns the first screen of a site without licenses: faults, and the summary of the other screens."""

    async def show(visitor: Visitor, inputs: Inputs) -> View:
        return View([], is_live=True)

    return Screen(_OVERVIEW, "Overview", show, group="site", order=0)
