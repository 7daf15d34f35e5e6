"""The console's process: its pages while something is still being read, and the right to take something away."""

import json
from collections.abc import Sequence
from datetime import UTC

import pytest

from calgate.console.server import ConsoleServer
from calgate.endpoints import ADMIN
from calgate.plugin.errors import Unavailable
from calgate.plugin.screens import Action, Form, Inputs, Notice, Outcome, Screen, Subject, View, Visitor
from support.console_requests import request_of

PAGE = "text/html"


async def show(visitor: Visitor, inputs: Inputs) -> View:
    forms = [Form("", f"things/{name}", name.capitalize(), ()) for name in ("take", "give")]
    return View([Notice("being read"), *forms], is_live=True, is_partial=True)


async def change(visitor: Visitor, inputs: Inputs) -> Sequence[Outcome]:
    return [Outcome(f"done for {','.join(inputs.selected)}: {visitor.reason}")]


THINGS = Screen("things", "Things", show, {"take": Action("admin", change), "give": Action("admin", change, False)})
"""The first action does not say whether it takes something away."""


@pytest.fixture
def server() -> ConsoleServer:
    return ConsoleServer([THINGS], UTC, "UTC")


async def test_partial_view_is_a_page_for_people_and_503_for_programs(server: ConsoleServer) -> None:
    page = await request_of(server, "things", "yes", PAGE)
    assert (page.status, b"being read" in (page.body or b""), b"hx-get=" in (page.body or b"")) == (200, True, True)  # type: ignore[operator]
    refused = await request_of(server, "things", "yes", "application/json")
    assert (refused.status, refused.headers["Retry-After"]) == (503, "5")
    assert (await request_of(server, "things?csv=1", "yes", PAGE)).status == 503


@pytest.mark.parametrize(("removal", "taking"), [("yes", 200), ("prove", 403), ("no", 403)])
async def test_action_that_does_not_say_is_taken_for_one_that_takes_away(
    server: ConsoleServer, removal: str, taking: int
) -> None:
    assert (await request_of(server, "things/take", removal, "application/json", {"row": "1"})).status == taking
    assert (await request_of(server, "things/give", removal, "application/json", {"row": "1"})).status == 200


async def test_change_waits_for_the_proof_of_its_own_visitor(server: ConsoleServer) -> None:
    form = {"row": "1", "reason": "left", "back": "https://evil.example/"}
    waiting = await request_of(server, "things/take", "prove", PAGE, form)
    assert waiting.status == 303
    path = waiting.headers["Location"].removeprefix(ADMIN)
    unproved = str((await request_of(server, path, "prove", PAGE)).text)
    assert "/_calgate/sign-in/password?to=/_calgate/admin/confirm%3Fchange%3D" in unproved
    assert "Carry it out" not in unproved
    proved = str((await request_of(server, path, "yes", PAGE)).text)
    assert "Carry it out" in proved
    assert 'name="reason" value="left"' in proved
    assert "evil.example" not in proved
    assert (await request_of(server, "confirm?change=other", "yes", PAGE)).status == 404
    assert (await request_of(server, path, "yes", PAGE, key="S-2")).status == 404


@pytest.mark.parametrize(
    "back", ["https://evil.example/", "//evil.example/", f"{ADMIN}ä", f"{ADMIN}\r\nX: y", f"{ADMIN}[%"]
)
async def test_change_leads_back_to_a_page_of_the_console_alone(server: ConsoleServer, back: str) -> None:
    response = await request_of(server, "things/give", "yes", PAGE, {"back": back})
    assert response.status == 303
    assert response.headers["Location"].startswith(ADMIN)
    assert response.headers["Location"].isascii()


async def test_query_that_cannot_be_read_is_refused(server: ConsoleServer) -> None:
    assert (await request_of(server, f"things?{'a=1&' * 101}", "yes", PAGE)).status == 400


async def test_more_rows_than_are_changed_at_a_time_are_refused_as_a_whole(server: ConsoleServer) -> None:
    rows = [str(number) for number in range(1001)]
    assert (await request_of(server, "things/give", "yes", PAGE, {"row": rows})).status == 400
    assert (await request_of(server, "things/give", "yes", PAGE, {"row": rows[1:]})).status == 303


async def person(visitor: Visitor, inputs: Inputs) -> View:
    user = inputs.get("user")
    return View([Notice("the account")], about=Subject(f"CORP\\{user}", user))


async def about(visitor: Visitor, subject: Subject) -> View:
    user = subject.key
    if user == "away":
        raise Unavailable("the directory does not respond")
    return View([Notice(f"of {subject.name}")], is_live=user == "new", is_partial=user == "new")


async def test_users_own_screen_is_partial_while_a_share_of_it_is() -> None:
    screens = [Screen("first", "First", show), Screen("person", "A person", person)]
    server = ConsoleServer([*screens, Screen("cals", "CALs", show, about_user=about)], UTC, "UTC")
    assert (await request_of(server, "person?user=new", "yes", "application/json")).status == 503
    page = str((await request_of(server, "person?user=new", "yes", PAGE)).text)
    assert ("of CORP\\new" in page, "hx-get=" in page) == (True, True)
    reply = await request_of(server, "person?user=old", "yes", "application/json")
    assert [part["text"] for part in json.loads(str(reply.text))["parts"]] == ["the account", "of CORP\\old"]
    reply = await request_of(server, "person?user=away", "yes", "application/json")
    assert (reply.status, "CALs: the directory does not respond" in str(reply.text)) == (200, True)


async def change_many(visitor: Visitor, inputs: Inputs) -> Sequence[Outcome]:
    return [Outcome(f"row {row}", is_done=row != "7") for row in inputs.selected]


async def test_outcome_of_many_rows_is_a_sum_and_what_was_not_done() -> None:
    server = ConsoleServer(
        [Screen("things", "Things", show, {"many": Action("admin", change_many, False)})], UTC, "UTC"
    )
    for count, expected, hidden in ((1000, "999 of 1000 were changed.", "row 8<"), (6, "row 3<", "were changed")):
        rows = [str(number) for number in range(count)]
        done = await request_of(server, "things/many", "yes", PAGE, {"row": rows})
        page = str((await request_of(server, done.headers["Location"].removeprefix(ADMIN), "yes", PAGE)).text)
        assert (expected in page, hidden in page, "row 7<" in page) == (True, False, count > 7)
