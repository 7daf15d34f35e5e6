"""Wraps the started plugins: counts and times their calls, and makes spans if the request is traced."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

from calgate.plugin.errors import Refusal, Unavailable
from calgate.plugin.identity import (
    Authenticated,
    Authenticator,
    Continue,
    Directory,
    Handshake,
    Identity,
    Peer,
    Person,
    schemes_for,
    unoffered_schemes,
)
from calgate.plugin.licensing import Activity, Allocator, Claimant, Lease, Lost, Pool
from calgate.telemetry.dependency import DependencyState
from calgate.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from calgate.tracing.spans import Tracing


def instrument(
    directory: Directory,
    allocator: Allocator | None,
    authenticators: Sequence[Authenticator],
    metrics: Metrics,
    state: DependencyState,
    tracing: "Tracing | None",
) -> tuple[Directory, Allocator | None, Sequence[Authenticator]]:
    """Wraps the started plugins: calls to directories are counted, and with tracing the other roles have spans too."""
    counted = InstrumentedDirectory(directory, metrics, tracing, state)
    if tracing is None:
        return counted, allocator, authenticators
    traced = TracedAllocator(allocator, tracing) if allocator is not None else None
    return counted, traced, [TracedAuthenticator(authenticator, tracing) for authenticator in authenticators]


class InstrumentedDirectory:
    """All directories as one."""

    def __init__(
        self, directory: Directory, metrics: Metrics, tracing: "Tracing | None", state: DependencyState | None = None
    ) -> None:
        self._directory = directory
        self._metrics = metrics
        self._tracing = tracing
        self._state = state or DependencyState()

    async def look_up(self, identity: Identity) -> Person | None:
        if self._tracing is None:
            return await self._look_up(identity)
        with self._tracing.child("directory") as span:
            person = await self._look_up(identity)
            span.set_attribute("calgate.outcome", "found" if person is not None else "unknown")
            return person

    async def _look_up(self, identity: Identity) -> Person | None:
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
            self._state.failed() if operation == "resolve" else self._state.doubted()
            raise
        except Refusal:
            call.outcome = "refused"
            raise
        else:
            self._state.responded()
        finally:
            self._metrics.called("directory", operation, call.outcome, perf_counter() - began)


@dataclass(slots=True)
class _Call:
    outcome: str = "error"


class TracedAllocator:
    """Makes spans of claims; other calls run in the background or in batches for many requests."""

    def __init__(self, allocator: Allocator, tracing: "Tracing") -> None:
        self._allocator = allocator
        self._tracing = tracing
        self.licenses = allocator.licenses
        self.groups = allocator.groups

    async def claim(self, license: str, claimant: Claimant, document: str, *, reference: str) -> Lease:
        with self._tracing.child("claim") as span:
            span.set_attribute("calgate.license", license)
            lease = await self._allocator.claim(license, claimant, document, reference=reference)
            span.set_attribute("calgate.cal", lease.kind)
            return lease

    async def held(self, license: str, claimant: Claimant, document: str) -> Lease | None:
        return await self._allocator.held(license, claimant, document)

    async def settle(self, lease: Lease, *, served: bool | None) -> None:
        await self._allocator.settle(lease, served=served)

    async def touch(self, activity: Sequence[Activity]) -> Sequence[Lost]:
        return await self._allocator.touch(activity)

    async def release(self, license: str, claimant: Claimant) -> None:
        await self._allocator.release(license, claimant)

    async def pools(self, license: str) -> Sequence[Pool]:
        return await self._allocator.pools(license)


class TracedAuthenticator:
    """Makes a span of each step of a handshake, on the request that brought it."""

    def __init__(self, authenticator: Authenticator, tracing: "Tracing") -> None:
        self._authenticator = authenticator
        self._tracing = tracing
        self.schemes = authenticator.schemes
        self.unoffered_schemes = unoffered_schemes(authenticator)

    def schemes_for(self, peer: Peer) -> Sequence[str]:
        return schemes_for(self._authenticator, peer)

    def begin(self, peer: Peer) -> Handshake:
        return _TracedHandshake(self._authenticator.begin(peer), self._tracing)


class _TracedHandshake:
    def __init__(self, handshake: Handshake, tracing: "Tracing") -> None:
        self._handshake = handshake
        self._tracing = tracing

    async def step(self, scheme: str, credentials: str) -> Continue | Authenticated:
        with self._tracing.child("sign-in") as span:
            span.set_attribute("calgate.scheme", scheme)
            result = await self._handshake.step(scheme, credentials)
            if isinstance(result, Authenticated):
                span.set_attribute("calgate.mechanism", result.identity.mechanism)
            return result
