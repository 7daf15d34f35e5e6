"""The allocator's functions, cut by subject, put together as one library."""

from importlib import resources

VERSION = "calgate_cal_v3"
"""Name of the library and prefix of its functions, which are server-wide: the next version runs alongside this one."""

KEY_NAMES = (
    *("state", "leases", "named", "document", "session", "usage", "used", "idle", "shares", "ended"),
    *("queue", "waiting", "classes", "places", "audit"),
)
"""In the order in which every function expects them; license.lua says what each is."""

FOREVER = 9999999999999
"""The time, in milliseconds, of what does not come back by itself."""

_FILES = ("clock", "license", "leases", "pool", "choose", "queue", "claim", "activity", "admin", "report")


def source(**other: str) -> str:
    """The whole library; a file's text may be given in place of the shipped one (tests bring their own clock)."""
    parts = [other.get(name) or _read(name) for name in _FILES]
    return "\n".join([f"#!lua name={VERSION}", f"local VERSION = '{VERSION}_'", *parts])


def _read(name: str) -> str:
    return (resources.files(__name__) / f"{name}.lua").read_text(encoding="utf-8")


def keys(prefix: str, license: str) -> tuple[str, ...]:
    """All keys of a license. The braces make it one slot of a Cluster."""
    return tuple(f"{prefix}:{{{license}}}:{name}" for name in KEY_NAMES)


def part(text: str) -> str:
    """A user or client as part of a lease's field, where | separates."""
    return text.replace("%", "%25").replace("|", "%7C")
