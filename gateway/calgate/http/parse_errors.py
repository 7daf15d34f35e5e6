"""The refusals of requests that aiohttp cannot parse."""

import re

from aiohttp.http_exceptions import BadHttpMessage, BadHttpMethod, LineTooLong

from calgate.plugin.errors import BadRequest, HeadersTooLarge, MethodRefused, Refusal

# a whole request line in aiohttp's message about a method that llhttp does not know, such as TRACK and DEBUG
_UNKNOWN_METHOD = re.compile(r"\n  b'([A-Z]{1,20}) [^ ']+ HTTP/1\.[01]'\n")


def refusal_for(error: BaseException | None) -> Refusal:
    """Returns the refusal for an error of the parser; it has none of the client's bytes but a method's name."""
    if isinstance(error, BadHttpMethod) and (method := _UNKNOWN_METHOD.search(error.message)):
        return MethodRefused(f"method {method[1]!r}")
    kind: type[Refusal] = HeadersTooLarge if _is_too_large(error) else BadRequest
    return kind(f"malformed or ambiguous HTTP: {type(error).__name__}")


def _is_too_large(error: BaseException | None) -> bool:
    """Whether a header is too long, or there are too many; for the latter aiohttp has no class of its own."""
    too_many = isinstance(error, BadHttpMessage) and error.message == "Too many headers received"
    return too_many or isinstance(error, LineTooLong)
