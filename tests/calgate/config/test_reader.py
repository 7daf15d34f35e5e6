"""The contents that a settings file may have: anything else is refused, with a sentence."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from pydantic import ValidationError

from calgate import config
from calgate.authentication.settings import SessionSection
from calgate.config.model import Core, Route
from calgate.endpoints.settings import ForwardAuthSection
from calgate.http.settings import Listen
from calgate.plugin.errors import ConfigError
from calgate.plugin.settings import Section
from calgate.routes import hidden_routes
from calgate.upstream.settings import HealthSection
from calgate_negotiate.guard import Limit
from support.gateway_process import write_settings

UPSTREAM = {"upstreams": ["http://qvws1.corp.example"]}


@pytest.mark.parametrize("span", [-5.0, math.inf, math.nan, "5000000w", "-5s", "0.5", 15])
def test_duration_is_refused_if_it_is_negative_or_endless(span: object) -> None:
    with pytest.raises(ValidationError, match="a duration is"):
        Route.model_validate(UPSTREAM | {"answer_timeout": span})


@pytest.mark.parametrize(
    ("section", "key"),
    [
        (SessionSection, "lifetime"),
        (SessionSection, "idle"),
        (HealthSection, "every"),
        (HealthSection, "timeout"),
        (Limit, "within"),
        (Limit, "wait"),
        (Route, "connect_timeout"),
        (Route, "answer_timeout"),
        (Route, "websocket_idle"),
    ],
)
def test_duration_of_zero_is_refused_for_timeouts_and_lifetimes(section: type[Section], key: str) -> None:
    required: dict[type[Section], dict[str, object]] = {Limit: {"failures": 4}, Route: {**UPSTREAM}}
    with pytest.raises(ValidationError, match="greater than 0"):
        section.model_validate(required.get(section, {}) | {key: "0s"})


def test_guard_is_refused_if_it_allows_no_failure() -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        Limit.model_validate({"failures": 0})


@pytest.mark.parametrize(
    ("section", "given", "says"),
    [
        (Listen, {"bind": []}, "at least 1 item"),
        *(
            (Listen, {"bind": ":80", "public_origin": origin}, "an origin is written like")
            for origin in ("bi", "https://bücher.example", "https://bi:99999", "https://a@bi", "https://bi/x", "null")
        ),
        (ForwardAuthSection, {"secret": ""}, "the secret is empty"),
        (Listen, {"bind": "unix:"}, "an address is written like"),
        (Listen, {"bind": ":80", "methods": []}, "at least 1 item"),
        (Listen, {"bind": ":80", "methods": ["get"]}, "written in capitals"),
        (Route, UPSTREAM | {"host": "bi.corp.example:8443"}, "a name without a port"),
        (Route, UPSTREAM | {"path": "/a%20b"}, "as people read it"),
        (Route, UPSTREAM | {"path": "docs"}, "as people read it"),
        (Route, UPSTREAM | {"path": "/a/../b"}, "as people read it"),
        (Route, UPSTREAM | {"path": "/a//b"}, "as people read it"),
        (Route, {"upstreams": ["http://qvws1:99999"]}, "a document server is written like"),
        (Route, {"upstreams": ["http://qvws1:http"]}, "a document server is written like"),
        (Route, {"upstreams": ["http://[fd00::1"]}, "a document server is written like"),
        *(
            (SessionSection, {"embed_in": [site]}, "another site is written like")
            for site in (
                "",
                "*",
                "null",
                "portal.corp.example",
                "https://portal/path",
                "https://a; script-src *",
                "https://bücher",
            )
        ),
    ],
)
def test_setting_that_no_request_could_meet_is_refused(
    section: type[Section], given: dict[str, object], says: str
) -> None:
    with pytest.raises(ValidationError, match=says):
        section.model_validate(given)


def test_upstream_with_a_password_is_refused_without_repeating_it() -> None:
    with pytest.raises(ValidationError, match="scheme, host and port, and no more") as refused:
        Route.model_validate({"upstreams": ["http://svc:hunter2@qvws1"]})
    assert "hunter2" not in str([fault["msg"] for fault in refused.value.errors()])


@pytest.mark.parametrize("upstream", ["http://qvws1", "https://qvws1:8443/", "http://[fd00::1]:80", "HTTP://QVWS1"])
def test_upstreams_in_every_valid_form_are_accepted(upstream: str) -> None:
    Route.model_validate({"upstreams": [upstream], "host": "bi-1.corp.example", "path": "/Büro 2/"})


def test_list_with_a_faulty_item_is_not_also_called_empty(tmp_path: Path) -> None:
    file = write_settings(tmp_path, 1)
    file.write_text(file.read_text().replace("http://127.0.0.1:1", "127.0.0.1:1"))
    with pytest.raises(ConfigError) as refused:
        config.read(file)
    (fault,) = refused.value.faults
    assert "routes[1].upstreams[1]: a document server is written like" in fault


@pytest.mark.parametrize(
    ("routes", "hidden"),
    [
        (["/", "/docs"], ["routes[2] (/docs)"]),
        (["/docs", "/"], []),
        (["/docs", "/Docs/"], ["routes[2] (/Docs/)"]),
        (["/docs/", "/docs"], []),
        (["/docs", "/docs2"], []),
        (["bi.example/", "/", "BI.example/docs"], ["routes[3] (BI.example/docs)"]),
        (["bi.example/", "old.example/", "/docs"], []),
    ],
)
def test_route_that_an_earlier_one_hides_is_reported(routes: list[str], hidden: list[str]) -> None:
    sections = [
        Route.model_validate(UPSTREAM | {"host": host, "path": f"/{path}"})
        for host, _, path in (route.partition("/") for route in routes)
    ]
    said = hidden_routes(sections)
    assert [sentence.partition(" is never reached")[0] for sentence in said] == hidden


@pytest.mark.parametrize("folder", ["", "state", "./state"])
def test_relative_state_dir_is_refused(tmp_path: Path, folder: str) -> None:
    """`calgate cals list` in another folder would start another store, and find nobody with a CAL."""
    file = write_settings(tmp_path, 1)
    file.write_text(file.read_text().replace(f"{tmp_path}/state", folder))
    with pytest.raises(ConfigError, match='state_dir: an absolute path is needed, like "/var'):
        config.read(file)


def sections_below(model: type[Section]) -> Iterator[type[Section]]:
    """The section and all sections within it."""
    yield model
    for field in model.model_fields.values():
        for found in sections_in(field.annotation):
            yield from sections_below(found)


def sections_in(annotation: object) -> Iterator[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for argument in get_args(annotation):
        yield from sections_in(argument)


@pytest.mark.parametrize("section", sorted(set(sections_below(Core)), key=str))
def test_every_setting_of_the_core_has_a_description(section: type[Section]) -> None:
    assert section.__doc__
    assert [key for key, field in section.model_fields.items() if not field.description] == []


def test_settings_of_the_core_have_a_json_schema_in_the_form_that_the_file_has() -> None:
    schema = Core.model_json_schema()
    listen = schema["$defs"]["Listen"]["properties"]
    assert listen["drain"]["type"] == "string", "a duration is text"
    assert listen["bind"]["anyOf"] == [{"type": "string"}, {"items": {"type": "string"}, "type": "array"}]
    assert listen["trusted_proxies"]["items"]["type"] == "string"
    secret = schema["$defs"]["ForwardAuthSection"]["properties"]["secret"]
    assert secret["x-calgate"] == "secret"


@pytest.mark.parametrize(
    ("given", "instead", "fault"),
    [
        ("named = { in_license = 2 }", 'named = { in_license = "2" }', "named.in_license: must be a valid integer"),
        ("[licenses.demo]", '[licenses.demo]\nqueue = "yes"', "licenses.demo.queue: must be a valid boolean"),
        ("[listen]", '[listen]\nworkers = "2"', "listen.workers: must be a valid integer"),
        ("[listen]", "[listen]\nworkers = true", "listen.workers: must be a valid integer"),
        (
            "[listen]",
            '[listen]\ntrusted_proxies = ["10.0.0.5/24"]',
            """'10.0.0.5/24' has host bits: write "10.0.0.0/24" for the network, or "10.0.0.5/32" for""",
        ),
        ("[listen]", '[listen]\ntrusted_proxies = ["proxy"]', """a network is written like "10.0.0.0/8" or"""),
        (
            'groups = ["DEMO\\\\app-users"]',
            'groups = ["DEMO\\app-users"]',
            """write two backslashes, "CORP\\\\name", or single quotes, 'CORP\\name'""",
        ),
    ],
)
def test_fault_says_what_to_write_instead(tmp_path: Path, given: str, instead: str, fault: str) -> None:
    file = write_settings(tmp_path, 1)
    text = file.read_text()
    assert given in text
    file.write_text(text.replace(given, instead, 1))
    with pytest.raises(ConfigError) as refused:
        config.read(file)
    assert fault in str(refused.value)
