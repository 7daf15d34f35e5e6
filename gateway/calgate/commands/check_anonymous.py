"""`calgate check`: whether CALs without sign-in, public routes and access rules fit together."""

from collections.abc import Iterator

from calgate.config.model import Settings
from calgate.plugin.checks import Finding


def check(settings: Settings) -> Iterator[Finding]:
    """Yields a warning for each setting that has no effect without another."""
    public = {route.license for route in settings.core.routes if route.sign_in == "off"}
    for section, name in _licenses(settings):
        if name not in public:
            what = 'anonymous: no route with sign_in = "off" has this license, so no browser gets one of its CALs'
            yield Finding("warn", f"{section}.{name}", what, "add the license to a public route, or remove anonymous")
    has_rule = any(rule.anonymous for rule in settings.core.access)
    for number, route in enumerate(settings.core.routes, 1):
        if route.sign_in == "on" or route.license is None:
            continue
        if not has_rule:
            what = "license: no access rule has anonymous = true, so every document of this public route is refused"
            yield Finding("warn", f"routes[{number}]", what, "add a rule with anonymous = true for its documents")
        if settings.core.forward_auth is not None:
            what = "/_calgate/auth refuses its requests: a CAL without sign-in begins with a redirect"
            yield Finding("warn", f"routes[{number}]", what, "let the gateway forward this route, not another proxy")


def _licenses(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yields the section and name of each license with anonymous CALs."""
    for section, plugin in settings.modules.items():
        if plugin.role == "allocator":
            table = settings.plugins[section].model_dump(exclude_none=True)
            yield from ((section, name) for name in plugin.anonymous_licenses(table) or ())
