"""The state of document servers, and which of them serves a session."""

import asyncio
import time

import pytest

from calgate.plugin.errors import BadGateway, Unavailable
from calgate.telemetry.metrics import Metrics
from calgate.upstream.balancer import LoadBalancer, Server
from calgate.upstream.pool import Unreachable, Upstream
from calgate.upstream.settings import HealthSection
from support.waiting import until


async def test_server_without_health_check_is_down_from_the_third_failure_in_a_row_until_it_serves() -> None:
    async with Upstream("127.0.0.1", 1) as upstream:
        member = Server(upstream)
        balancer = LoadBalancer([member], Metrics())
        for is_up in (True, True, False):
            balancer.failed(member, BadGateway("no status line"))
            assert [state.is_up for state in balancer.states()] == [is_up]
        balancer.served(member)
        assert [(state.name, state.is_up) for state in balancer.states()] == [(upstream.name, True)]
        balancer.failed(member, Unreachable("refused"))
        assert [(state.name, state.is_up) for state in balancer.states()] == [(upstream.name, False)]
        balancer.served(member)
        balancer.set_drained([upstream.name])
        assert [(state.name, state.is_up) for state in balancer.states()] == [(upstream.name, True)], (
            "an administrator drains it, it is up"
        )


async def test_last_failure_is_remembered_with_its_time_after_the_server_serves_again() -> None:
    async with Upstream("127.0.0.1", 1) as upstream:
        member = Server(upstream)
        balancer = LoadBalancer([member], Metrics())
        [state] = balancer.states()
        assert (state.is_up, state.failed_at, state.failure) == (True, None, "")
        before = time.time()
        balancer.failed(member, Unreachable("connection refused"))
        balancer.served(member)
        balancer.set_drained([upstream.name])
        [state] = balancer.states()
        assert (state.name, state.is_up, state.is_drained) == (upstream.name, True, True)
        assert before <= (state.failed_at or 0) <= time.time()
        assert state.failure == "connection refused"


async def test_health_check_decides_alone_where_there_is_one() -> None:
    async with Upstream("127.0.0.1", 1) as upstream:  # nothing listens there
        member = Server(upstream)
        balancer = LoadBalancer([member], Metrics(), HealthSection.model_validate({"every": "1h", "timeout": "5s"}))
        balancer.failed(member, Unreachable("refused"))
        assert [(state.name, state.is_up) for state in balancer.states()] == [(upstream.name, True)]
        watching = asyncio.create_task(balancer.watch())
        await until(lambda: not member.is_healthy)
        watching.cancel()
        assert [(state.name, state.is_up) for state in balancer.states()] == [(upstream.name, False)]
        assert member.failure.startswith("health check: ")


def test_only_the_sessions_of_an_unavailable_server_move_and_they_come_back() -> None:
    now = 0.0
    first, *others = servers = [Server(Upstream("127.0.0.1", port)) for port in (1, 2, 3)]
    balancer = LoadBalancer(servers, Metrics(), clock=lambda: now)

    def order() -> dict[str, list[Server]]:
        return {str(number): [*balancer.candidates(str(number))] for number in range(60)}

    before = order()
    without_first = {key: [member for member in members if member is not first] for key, members in before.items()}
    assert all(sum(members[0] is member for members in before.values()) > 10 for member in servers)
    assert order() == before
    balancer.set_drained([first.upstream.name])
    assert order() == without_first
    balancer.set_drained([])
    assert order() == before
    balancer.failed(first, Unreachable("refused"))
    assert order() == without_first
    now = 10.0
    assert order() == before
    balancer.set_drained([member.upstream.name for member in others])
    first.is_healthy = False
    with pytest.raises(Unavailable, match="no document server of this route is available"):
        balancer.candidates("1")
