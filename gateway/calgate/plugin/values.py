"""Values as the store takes and returns them."""


def milliseconds(seconds: float) -> int:
    """Converts a duration to what Redis and our Lua functions count in."""
    return round(seconds * 1000)


def as_text(value: object) -> str:
    """Decodes a value of a reply, which the client library may have decoded already."""
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)
