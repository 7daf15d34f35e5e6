"""Access is judged again while an exchange stays open: on time, on a clock of the test's own."""

from collections.abc import Callable

from calgate.access.rechecks import EVERY, recheck
from calgate.plugin.access import Grant
from calgate.plugin.errors import Forbidden, Refusal, Unavailable


class Scene:
    """A clock that moves only while somebody sleeps, and a judge who follows a script."""

    def __init__(self, script: Callable[[float], Grant]) -> None:
        self.now = 1000.0
        self.judged: list[float] = []
        self.refused: list[Refusal] = []
        self._script = script

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds

    async def judge(self) -> Grant:
        self.judged.append(self.now)
        return self._script(self.now)

    async def run(self, grant: Grant, *, waited: float = 0.0) -> None:
        await recheck(grant, self.judge, self.refused.append, waited=waited, clock=self.clock, sleep=self.sleep)


def refuse_from(moment: float, refusal: Refusal, before: Grant | None = None) -> Callable[[float], Grant]:
    def script(now: float) -> Grant:
        if now >= moment:
            raise refusal
        return before or Grant("r")

    return script


async def test_recheck_refuses_within_ten_seconds_after_a_person_left_the_group() -> None:
    refusal = Forbidden("no rule")
    scene = Scene(refuse_from(1025.0, refusal))
    await scene.run(Grant("r"))
    assert scene.judged == [1010.0, 1020.0, 1030.0]
    assert scene.refused == [refusal]
    assert EVERY == 10.0


async def test_recheck_refuses_to_the_second_when_hours_end() -> None:
    scene = Scene(refuse_from(1003.5, Forbidden("closed", rule="office hours")))
    await scene.run(Grant("r", until=1003.5))
    assert scene.judged == [1003.5]


async def test_recheck_moves_to_the_next_boundary_when_one_changes_nothing() -> None:
    scene = Scene(refuse_from(1015.0, Forbidden("closed"), before=Grant("r", until=1015.0)))
    await scene.run(Grant("r", until=1005.0))
    assert scene.judged == [1005.0, 1015.0]


async def test_recheck_judges_again_when_the_directory_was_unavailable() -> None:
    outcomes = iter([Unavailable("no server"), Unavailable("no server"), Forbidden("no rule")])

    def script(now: float) -> Grant:
        raise next(outcomes)

    scene = Scene(script)
    await scene.run(Grant("r", until=1002.0))
    assert scene.judged == [1002.0, 1012.0, 1022.0]
    assert len(scene.refused) == 1


async def test_recheck_counts_the_time_that_has_passed_already_once() -> None:
    scene = Scene(refuse_from(1015.0, Forbidden("no rule")))
    await scene.run(Grant("r"), waited=1.0)
    assert scene.judged == [1009.0, 1019.0]
