"""Faults of the settings file that show only once the plugins have started: only they know licenses and headers."""

from collections.abc import Iterator, Sequence

from calgate.config.model import NO_ANONYMOUS_CALS, Settings
from calgate.plugin_loader import StartedPlugins
from calgate.routes import authorization_faults


def faults_of_started(settings: Settings, plugins: StartedPlugins) -> Sequence[str]:
    """Returns a sentence for each route that cannot work with the plugins as they have started."""
    return [*_license_faults(settings, plugins), *authorization_faults(settings.core.routes, plugins.sign_on)]


def _license_faults(settings: Settings, plugins: StartedPlugins) -> Iterator[str]:
    licenses = plugins.allocator.licenses if plugins.allocator is not None else {}
    section = next((name for name in settings.plugins if settings.modules[name].role == "allocator"), "")
    owner = f"[{section}]" if section else "nothing"
    for number, route in enumerate(settings.core.routes, 1):
        if route.license is None:
            continue
        license = licenses.get(route.license)
        if license is None:
            there = ", ".join(sorted(licenses)) or "none"
            yield f"routes[{number}].license: {owner} has no license {route.license!r}; there is {there}"
        elif route.sign_in == "off" and not license.anonymous:
            yield f"routes[{number}].license: {NO_ANONYMOUS_CALS.format(f'[{section}.{route.license}]')}"
