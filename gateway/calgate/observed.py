"""Those whom the core asks, watched: each question is counted and timed."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from time import perf_counter

from calgate.contract import Directory, Identity, Person
from calgate.metrics import Metrics
from calgate.plugins import Cast
from calgate.refusal import Refusal, Unavailable


def watch(cast: Cast, metrics: Metrics) -> Cast:
    """The same cast, its directories counted."""
    return replace(cast, directory=ObservedDirectory(cast.directory, metrics))


class ObservedDirectory:
    """All directories as one."""

    def __init__(self, directory: Directory, metrics: Metrics) -> None:
        self._directory = directory
        self._metrics = metrics

    async def look_up(self, identity: Identity) -> Person | None:
        with self._counted("look_up") as call:
            person = await self._directory.look_up(identity)
            call.outcome = "found" if person is not None else "unknown"
            return person

    async def resolve(self, groups: Sequence[str]) -> Mapping[str, str | None]:
        with self._counted("resolve") as call:
            found = await self._directory.resolve(groups)
            call.outcome = "found" if None not in found.values() else "unknown"
            return found

    @contextmanager
    def _counted(self, operation: str) -> Iterator["_Call"]:
        call, began = _Call(), perf_counter()
        try:
            yield call
        except Unavailable:
            call.outcome = "unavailable"
            raise
        except Refusal:
            call.outcome = "refused"
            raise
        finally:
            self._metrics.called("directory", operation, call.outcome, perf_counter() - began)


@dataclass(slots=True)
class _Call:
    outcome: str = "error"
