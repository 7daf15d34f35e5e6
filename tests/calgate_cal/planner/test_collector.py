"""The collector is paused while a plan is made, and as before afterwards."""

import gc

import pytest

from calgate_cal.planner import collector


def test_collector_runs_again_after_a_failure() -> None:
    @collector.paused()
    def plan() -> None:
        assert not gc.isenabled()
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        plan()
    assert gc.isenabled()
