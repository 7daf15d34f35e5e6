"""An open WebSocket is judged again: on time, on a clock of the test's own."""

from collections.abc import Callable

from calgate.pipeline import EVERY, judge_again
from calgate.plugin.access import Grant
from calgate.plugin.errors import Forbidden, Refusal, Unavailable


class Scene:
    """A clock that only moves while somebody sleeps, and a judge who follows a script."""

    def __init__(self, script: Callable[[float], Grant]) -> None:
        self.now = 1000.0
        self.asked: list[float] = []
        self.closed: list[tuple[int, str]] = []
        self._script = script

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds

    async def judge(self) -> Grant:
        self.asked.append(self.now)
        return self._script(self.now)

    def close(self, code: int, reason: str) -> None:
        self.closed.append((code, reason))

    async def run(self, grant: Grant) -> None:
        await judge_again(grant, self.judge, self.close, clock=self.clock, sleep=self.sleep)


def refuse_from(moment: float, refusal: Refusal, before: Grant | None = None) -> Callable[[float], Grant]:
    def script(now: float) -> Grant:
        if now >= moment:
            raise refusal
        return before or Grant("r")

    return script


async def test_a_person_who_left_the_group_is_out_within_ten_seconds() -> None:
    scene = Scene(refuse_from(1025.0, Forbidden("no rule")))
    await scene.run(Grant("r"))
    assert scene.asked == [1010.0, 1020.0, 1030.0]
    assert scene.closed == [(1008, "You do not have access to this")]
    assert EVERY == 10.0


async def test_hours_that_end_are_met_to_the_second() -> None:
    scene = Scene(refuse_from(1003.5, Forbidden("closed", rule="office hours")))
    await scene.run(Grant("r", until=1003.5))
    assert scene.asked == [1003.5]


async def test_a_boundary_that_changes_nothing_only_moves_the_next_one() -> None:
    scene = Scene(refuse_from(1015.0, Forbidden("closed"), before=Grant("r", until=1015.0)))
    await scene.run(Grant("r", until=1005.0))
    assert scene.asked == [1005.0, 1015.0]


async def test_what_cannot_be_asked_is_no_refusal_and_is_asked_again() -> None:
    answers = iter([Unavailable("no server"), Unavailable("no server"), Forbidden("no rule")])

    def script(now: float) -> Grant:
        raise next(answers)

    scene = Scene(script)
    await scene.run(Grant("r", until=1002.0))
    assert scene.asked == [1002.0, 1012.0, 1022.0]
    assert len(scene.closed) == 1
