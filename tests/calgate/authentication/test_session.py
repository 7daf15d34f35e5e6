"""The facts that a session remembers, and the changes that make it forget them."""

import ast
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

import calgate
from calgate.authentication.session import Session
from calgate.plugin.access import Grant
from calgate.plugin.identity import Identity, Person
from calgate.plugin.licensing import Claimant, Lease, NoCal

KEY = (0, "/docs/a", "a", "::1")


@pytest.fixture
def session() -> Session:
    return Session("k", Identity("DEMO", "alice", "ntlm"), "S-1", "DEMO\\alice", "::1", True, 0.0)


def person(*groups: str) -> Person:
    return Person("S-1", "DEMO", "alice", "Alice", frozenset(groups))


def lease(document: str, id: str = "1") -> Lease:  # noqa: A002 - the field's name
    return Lease("demo", "session", Claimant("S-1", "DEMO\\alice", "pc"), document, id)


def no_cal(lost: Lease) -> NoCal:
    return NoCal("gone", license=lost.license, document=lost.document, pools=())


def test_grant_is_forgotten_when_the_rules_change(session: Session) -> None:
    old, new = object(), object()
    session.remember_grant(KEY, old, Grant("r"))
    assert session.grant_for(KEY, old, 0.0) == Grant("r")
    assert session.grant_for(KEY, new, 0.0) is None
    session.remember_grant((1, *KEY[1:]), new, Grant("other"))
    assert session.grant_for(KEY, new, 0.0) is None


def test_grant_is_forgotten_at_the_next_boundary_of_hours(session: Session) -> None:
    rules = object()
    session.remember_grant(KEY, rules, Grant("r", until=100.0))
    assert session.grant_for(KEY, rules, 99.9) is not None
    assert session.grant_for(KEY, rules, 100.0) is None


def test_everything_that_was_decided_is_forgotten_when_the_person_changes(session: Session) -> None:
    rules = object()
    session.remember_person(person("a"), 0.0)
    session.remember_grant(KEY, rules, Grant("r"))
    session.remember_lease(lease("a"))
    session.remember_sign_on(0, b"QVUSER: alice")
    session.remember_person(person("a"), 10.0)
    assert session.grant_for(KEY, rules, 10.0) is not None, "nothing has changed"
    session.remember_person(person("a", "b"), 20.0)
    assert session.grant_for(KEY, rules, 20.0) is None
    assert session.lease("demo", "a", 20.0) is None
    assert session.sign_on_headers(0) is None


def test_number_of_remembered_grants_and_leases_is_bounded(session: Session) -> None:
    rules = object()
    for number in range(10_000):
        session.remember_grant((number, "/", "", "::1"), rules, Grant("r"))
        session.remember_lease(lease(f"document-{number}"))
    session.remember_grant((0, "/" + "a" * 60_000, "", "::1"), rules, Grant("r"))
    assert len(session._grants) <= 512
    assert max(len(path) for _, path, _, _ in session._grants) < 1024, "a path can have 64 KB"
    assert len(session._leases) <= 256
    assert session.lease("demo", "document-9999", 0.0) is not None


def test_lost_leases_alone_are_forgotten(session: Session) -> None:
    session.remember_lease(lease("a", "1"))
    session.remember_lease(lease("b", "2"))
    session.forget_leases(lambda held: held.id == "1", no_cal, "removed")
    assert session.lease("demo", "a", 0.0) is None
    assert session.lease("demo", "b", 0.0) is not None


def test_settled_lease_replaces_only_the_provisional_one_that_was_settled(session: Session) -> None:
    first, second = lease("a", "1"), lease("a", "2")
    session.remember_lease(second)
    session.replace_lease(first, None)
    assert session.lease("demo", "a", 0.0) is second
    session.replace_lease(second, None)
    assert session.lease("demo", "a", 0.0) is None


def assigned_attributes(file: Path) -> Iterator[ast.Attribute]:
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node


def test_fields_are_changed_by_the_session_itself_alone() -> None:
    fields = {field.name for field in dataclasses.fields(Session)}
    core = Path(calgate.__file__).parent
    changed = [
        f"{file.relative_to(core)}:{target.lineno}: {ast.unparse(target)}"
        for file in core.rglob("*.py")
        for target in assigned_attributes(file)
        if target.attr in fields
        and ast.unparse(target.value) != "self"
        and (file.parent.name == "authentication" or ast.unparse(target.value).endswith("session"))
    ]
    assert changed == []
