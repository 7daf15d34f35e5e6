"""A request as aiohttp's parser read it, and nothing more.

aiohttp makes a `BaseRequest` for applications, with a URL, a dictionary of headers, and a writer; a gateway works on
the raw fields, and a warm request has no time for the rest. The two methods with an underscore are what aiohttp's
`RequestHandler` asks of a request.
"""

from typing import TYPE_CHECKING

from aiohttp import HttpVersion, StreamReader
from aiohttp.helpers import set_exception
from aiohttp.http_parser import RawRequestMessage

from calgate.wire import Header

if TYPE_CHECKING:
    from calgate.caller import Caller


class Request:
    """One request on one connection."""

    __slots__ = ("caller", "content", "keep_alive", "method", "raw_headers", "raw_path", "version")

    def __init__(self, message: RawRequestMessage, content: StreamReader, caller: "Caller") -> None:
        self.caller = caller
        self.content = content
        self.method: str = message.method
        self.raw_path: str = message.path
        self.version: HttpVersion = message.version
        self.raw_headers: tuple[Header, ...] = message.raw_headers
        self.keep_alive: bool = not message.should_close

    def _cancel(self, error: BaseException) -> None:
        """The client is gone, or the gateway stops: who reads the body is told."""
        set_exception(self.content, error)

    def _finish(self) -> None:
        """The answer is about to be sent: there is nothing to tidy up."""
