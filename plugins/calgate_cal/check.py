"""`calgate check` for licenses: groups and users that their settings name, the store's clock, CALs that seem gone."""

from collections.abc import AsyncIterator, Mapping, Sequence

from calgate.plugin import CheckContext, Claimant, Finding, Refusal, Store, Unavailable
from calgate_cal import lua
from calgate_cal.names import is_named, normalize
from calgate_cal.people import look_up
from calgate_cal.register import LastSeen, LicenseRegister, missing_cals
from calgate_cal.replies import state
from calgate_cal.settings import Config, License

_CLOCK_IS_WRONG = 60_000  # milliseconds (lua/license.lua)


async def check(config: Config, context: CheckContext) -> AsyncIterator[Finding]:
    """Tries everything real that the sections name."""
    if "directory" in context.blocked:
        yield Finding(
            "untried", "licenses", f"groups cannot be looked up: {context.blocked['directory']} does not serve"
        )
    else:
        for name, license in config.licenses.items():
            async for finding in _names(name, license, context):
                yield finding
    try:
        for finding in await _store(config, context):
            yield finding
    except Unavailable as refusal:
        yield Finding("untried", "licenses", f"the store does not say what is in use: {refusal.detail}")


def groups_of(license: License) -> Mapping[str, Sequence[str]]:
    """Returns each group that the settings name, with the settings that do."""
    named: dict[str, list[str]] = {}
    for setting, groups in (
        ("named.dynamic_for", license.named.dynamic_for or ()),
        ("document.dynamic_for", license.document.dynamic_for or ()),
        ("session.reserve", [reserve.group for reserve in license.session.reserve]),
        ("session.max", [cap.group for cap in license.session.max if cap.group is not None]),
    ):
        for group in groups:
            named.setdefault(group, []).append(setting)
    return named


async def _names(name: str, license: License, context: CheckContext) -> AsyncIterator[Finding]:
    directory, groups = context.services.directory, groups_of(license)
    assert directory is not None, "directories are started before a check"
    try:
        found = await directory.resolve(sorted(groups))
    except Unavailable as refusal:
        yield Finding("fail", f"licenses.{name}", f"groups cannot be looked up: {refusal.detail}")
        return
    missing = [group for group in groups if found.get(group) is None]
    for group in missing:
        settings = ", ".join(groups[group])
        what = f"{settings}: no directory has the group {group}"
        remedy = "correct the name, or make the group: until then no user counts as its member"
        yield Finding("fail", f"licenses.{name}", what, remedy)
    if groups and not missing:
        yield Finding("ok", f"licenses.{name}", f"{len(groups)} groups, all found")
    for setting, users in (
        ("exempt.users", license.exempt.users),
        ("session.max", [cap.user for cap in license.session.max if cap.user is not None]),
    ):
        for user in users:
            if what := await _why_nobody(user, context):
                remedy = "correct the name: until then the setting concerns no user"
                yield Finding("fail", f"licenses.{name}", f"{setting}: {what}", remedy)


async def _why_nobody(user: str, context: CheckContext) -> str:
    """Returns why claims of no user match a written name, "" if some can."""
    try:
        person = await look_up(context.services.directory, user)
    except Refusal:  # disabled, or the directory is away, which its own check reports
        return ""
    if person is None:
        return f"no directory has the user {user}"
    if is_named({normalize(user)}, Claimant(lua.part(person.key), person.name, "")):
        return ""
    return f"{user} is called {person.name}: write that name"  # a DN, or a UPN with a suffix of its own


async def _store(config: Config, context: CheckContext) -> Sequence[Finding]:
    store = context.services.store
    store.library(lua.VERSION, lua.source())
    findings = []
    for name in config.licenses:
        (ahead,) = await store.call(f"{lua.VERSION}_ahead", lua.keys(store.prefix, name), read_only=True)
        if ahead > _CLOCK_IS_WRONG:
            what = (
                f"the newest record is {ahead / 1000:.0f} s ahead of the store's clock, which was wrong then or is now"
            )
            remedy = f"set the clock of the store's machine, then run `calgate cals clock --license {name}`"
            findings.append(Finding("warn", f"licenses.{name}", what, remedy))
    findings += [finding for name, license in config.licenses.items() for finding in await _bound(name, license, store)]
    seen = LastSeen(context.services.state_dir)
    for name, what in (await missing_cals(LicenseRegister(store), seen.read(), config.licenses.keys())).items():
        remedy = (
            "give the license its former name again or correct [store]; CALs move by `calgate cals export` under the"
            f" former name and `calgate cals import`; if no CAL is missing, delete {seen.file}"
        )
        findings.append(Finding("warn", f"licenses.{name}", what, remedy))
    return findings


async def _bound(name: str, license: License, store: Store) -> Sequence[Finding]:
    """Returns a warning if an administrator limited the Session CALs to fewer than anonymous browsers can hold."""
    if license.anonymous is None:
        return ()
    reply = await store.call(f"{lua.VERSION}_state", lua.keys(store.prefix, name), read_only=True)
    if reply[0] == b"unconfigured":
        return ()
    limit = next(pool.limit for pool in state(reply).pools if pool.kind == "session")
    if license.anonymous.max <= limit:
        return ()
    what = (
        f"anonymous.max is {license.anonymous.max}, and `calgate cals limit session` has set the Session CALs to"
        f" {limit}: browsers without sign-in can take all of them"
    )
    return [Finding("warn", f"licenses.{name}", what, "lower anonymous.max, or raise the limit")]
