"""The gateway's own pages through the real door: as the client asked for them, and as an administrator made them."""

from pathlib import Path

from support.gateway_process import DocumentServer, Gateway, calgate, curl, gateway, write_settings

BROWSER = ("-H", "Accept: text/html,application/xhtml+xml,*/*;q=0.8")


async def test_browser_gets_a_page_and_a_program_gets_json_with_the_reference_of_the_log(gate: Gateway) -> None:
    page = await curl(f"{gate.url}/docs/sales", *BROWSER, user="mallory")
    assert page.status == 403
    assert page.values("content-type") == ["text/html; charset=utf-8"]
    assert page.values("cache-control") == ["no-store"]
    assert "default-src 'none'" in page.values("content-security-policy")[0]
    assert b"You do not have access to this" in page.body
    assert b"DEMO\\" in page.body, "who is signed in"
    assert str(gate.decisions("refused")[-1]["reference"]).encode() in page.body
    problem = await curl(f"{gate.url}/docs/sales", user="mallory")
    assert problem.values("content-type") == ["application/problem+json"]
    assert problem.json["reference"] == gate.decisions("refused")[-1]["reference"]


async def test_challenge_is_a_page_that_helps_and_offers_the_schemes(gate: Gateway) -> None:
    page = await curl(f"{gate.url}/docs/sales?a=1", *BROWSER)
    assert page.status == 401
    assert page.values("www-authenticate")
    assert b"Sign in to continue" in page.body
    assert b'href="/docs/sales?a=1"' in page.body


async def test_denial_names_no_other_user_and_shows_the_contact(gate: Gateway) -> None:
    for user in ("alice", "bob"):
        assert (await curl(f"{gate.url}/docs/sales", user=user)).status == 200
    page = await curl(f"{gate.url}/docs/sales", *BROWSER, user="carol")
    assert page.status == 403
    for fact in (b"No license is free for you", b"2 of 2 in use", b"help@demo.example", b"carol"):
        assert fact in page.body
    for name in (b"alice", b"bob"):
        assert name not in page.body
    assert int(page.values("retry-after")[0]) > 60


async def test_own_template_is_shown_and_a_broken_one_stops_the_start_with_its_line(
    server: DocumentServer, tmp_path: Path
) -> None:
    folder = tmp_path / "pages"
    folder.mkdir()
    ours = folder / "forbidden.html"
    ours.write_text("<title>No</title>Ask Erika, extension 112. {{ viewer.reference }}", encoding="utf-8")
    settings = write_settings(tmp_path, server.port, more=f'[pages]\ntemplates = "{folder}"')
    async with gateway(settings) as gate:
        page = await curl(f"{gate.url}/docs/sales", *BROWSER, user="mallory")
        assert page.body.startswith(b"<title>No</title>Ask Erika, extension 112. ")
    ours.write_text("<title>No</title>\n{{ viewer.refrence }}", encoding="utf-8")
    code, _, said = await calgate("run", "-c", str(settings))
    assert code == 2
    assert "calgate.toml" in said
    assert "forbidden.html, line 2" in said
    assert "Traceback" not in said
