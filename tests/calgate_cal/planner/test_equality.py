"""The planner's replay denies the same wishes as the functions in the store, on random histories.

CALGATE_HISTORIES sets how many there are for each server.
"""

import os
import random
from collections.abc import Awaitable, Callable

from cal_model.license import MINUTE, TEN, Lab
from cal_model.player import Player
from calgate_cal.planner.replay import Clocks, Retry, denied
from calgate_cal.planner.wishes import Wish

License = Callable[..., Awaitable[Lab]]

HISTORIES = int(os.environ.get("CALGATE_HISTORIES", "25"))


def history(generator: random.Random) -> list[Wish]:
    """Wishes of a few users on two machines; those of one holder do not overlap."""
    wishes, free_at = list[Wish](), dict[tuple[str, str], int]()
    for _ in range(generator.randrange(5, 25)):
        holder = (f"u{generator.randrange(6)}", generator.choice(("pc", "laptop")))
        begin = free_at.get(holder, 0) + generator.choice((1, 2, 5, 10, 20, 40, 90))
        length = generator.choice((0, 1, 3, 10, 14, 15, 16, 40, 70, 150))
        free_at[holder] = begin + length + 61  # a retry within the hour must not overlap the next visit
        at, signed_out = TEN + begin * MINUTE, generator.random() < 0.5
        wishes.append(Wish(at, False, at + length * MINUTE, signed_out, holder[0], holder, "session"))
    return sorted(wishes)


async def test_the_same_wishes_are_denied_as_by_the_functions_in_the_store(license: License) -> None:
    generator = random.Random(13)
    for number in range(HISTORIES):
        wishes, seats = history(generator), generator.randrange(1, 5)
        gap = generator.choice((0, 5, 15))
        retry = Retry(gap * MINUTE, 45 * MINUTE) if gap else None
        minimum = generator.choice((0, 15))
        usage = generator.choice((0, 0, 2))
        session = {"in_license": seats, "minimum": f"{minimum}m", "reclaimable_after": "off"}
        q = await license(session=session, usage={"in_license": usage})
        found = set(denied(wishes, seats, Clocks(minimum=minimum * MINUTE), retry=retry, usage=usage).denied)
        assert await Player(q, wishes, retry).play() == found, f"history {number}"
        await q.store.redis.flushall()
