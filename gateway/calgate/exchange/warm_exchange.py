"""A request that was decided from memory: no task waits for its response.

Waking a task takes as long as everything else about such a request. So the request is written to an idle connection as
soon as it has arrived, and the response to the client as soon as that is complete. Whatever needs more goes on in the
task of the client's connection, with the exchange as it stands.
"""

from collections.abc import Callable
from time import perf_counter
from typing import Protocol

from calgate.exchange.admission import Admission
from calgate.http.request import Request
from calgate.http.response import Response
from calgate.plugin.errors import Refusal
from calgate.upstream.forwarder import Sent


class Finisher(Protocol):
    """Makes the responses of warm exchanges, and settles those that have none."""

    def finish(self, exchange: "WarmExchange") -> Response | None:
        """Returns the response; None if making it takes more than what has arrived."""

    def settle(self, admission: Admission, *, served: bool | None) -> None: ...


Deliver = Callable[["WarmExchange", Response], None]


class WarmExchange:
    """One exchange, from the moment that its request was sent to the document server.

    It ends in one of three ways: its response is delivered; the connection's task takes it over; the client
    disconnects, and it is abandoned. Until then the session can end it.
    """

    __slots__ = ("_deliver", "_finisher", "admission", "began", "lease", "outlives_expiry", "request", "sent")

    def __init__(
        self, request: Request, admission: Admission, sent: Sent, began: float, finisher: Finisher, deliver: Deliver
    ) -> None:
        """`began`: when the request was sent, by `perf_counter`; `deliver` sends the response to the client."""
        self.request = request
        self.admission = admission
        self.sent = sent
        self.began = began
        self.lease = admission.lease if admission.polls else None
        self.outlives_expiry = not admission.polls
        self._finisher = finisher
        self._deliver = deliver
        admission.session.open(self)
        sent.connection.watch(self._on_progress)

    def _on_progress(self) -> None:
        """Delivers the response, or leaves the exchange to the task; there is no third way, so it reports only once."""
        self.sent.connection.watch(None)
        response: Response | None = None
        try:
            if self.request.connection.can_finish_at_once:
                response = self._finisher.finish(self)
        finally:  # after a bug too: the task meets it again, and responds
            if response is None:
                self.request.connection.wake()
        if response is not None:
            self.admission.session.closed(self)
            self._deliver(self, response)

    def take_over(self) -> None:
        """Leaves the exchange to the calling task, which keeps the session informed from now on."""
        self.admission.session.closed(self)

    def abandon(self) -> None:
        """Gives the exchange up: the client has disconnected."""
        self.sent.connection.watch(None)
        self.admission.session.closed(self)
        self.sent.connection.close()
        self._finisher.settle(self.admission, served=False)

    def end(self, refusal: Refusal, reason: str) -> None:
        """Ends the exchange with the session, or with the CAL that it needs; the task sends the refusal."""
        self.sent.connection.expire(refusal)

    @property
    def age(self) -> float:
        """Seconds since the request was read."""
        return perf_counter() - self.request.started
