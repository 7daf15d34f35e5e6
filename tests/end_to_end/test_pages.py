"""The pages of a running gateway: in the form that the client prefers, and with an administrator's templates."""

import re
from pathlib import Path

from support.gateway_process import DocumentServer, Gateway, Reply, calgate, curl, gateway, raw, write_settings

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
    denials = gate.decisions("refused")
    session = await session_of(gate, "carol")
    for kinds, free in (
        ("session", "false"),
        ("named", "true"),
    ):  # an open page looks: no CAL is taken, nothing is written
        looked = await curl(f"{gate.url}/_calgate/free?license=demo&kinds={kinds}", "-H", f"Cookie: {session}")
        assert (looked.status, looked.body) == (200, b'{"free": %s}\n' % free.encode())
    assert len(gate.decisions("refused")) == len(denials) + 1, "that of session_of"


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


async def test_reference_on_every_page_leads_to_a_line_of_the_log(server: DocumentServer, tmp_path: Path) -> None:
    """With the code, the reason, the rule and the peer; lines of the access log have reference and code as well."""
    file = write_settings(tmp_path, server.port)
    text = file.read_text().replace('path = "/"', 'path = "/docs"', 1)
    file.write_text(text.replace("[store]", "[log]\naccess = true\n\n[store]", 1))
    async with gateway(file) as gate:
        signed_in, mallory = [("-H", f"Cookie: {await session_of(gate, name)}") for name in ("alice", "mallory")]
        await server.stop()
        cases = {
            "bad-request": ("/docs/a/../b", "--path-as-is"),
            "method-not-allowed": ("/docs/a", "-X", "TRACE"),
            "cross-site": ("/docs/a", "-d", "a=1", "-H", "Origin: http://evil.example"),
            "sign-in-needed": ("/docs/a",),
            "forbidden": ("/elsewhere", *signed_in),
            "bad-gateway": ("/docs/sales", *signed_in),
        }
        for code, (path, *options) in cases.items():
            reply = await curl(gate.url + path, *options, "-H", "Accept: application/problem+json")
            line = line_of(gate, reply)
            assert (line["code"], bool(line["reason"])) == (code, True), code
            assert (line["address"], line["peer"]) == ("127.0.0.1", "127.0.0.1")
            if code not in ("bad-request", "method-not-allowed"):  # these have no request that could be read
                (access,) = [one for one in gate.decisions("request") if one["reference"] == line["reference"]]
                assert (access["code"], access["status"]) == (code, reply.status)
        denied = line_of(gate, await curl(f"{gate.url}/docs/sales", *mallory, "-H", "Accept: application/problem+json"))
        assert (denied["code"], denied["user"], denied["document"]) == ("forbidden", "DEMO\\mallory", "sales")
        page = (await raw(gate.port, b"NONSENSE\r\n\r\n")).decode()
        reference = re.search(r"[2-9A-Z]{4}-[2-9A-Z]{4}", page)
        assert reference is not None
        assert [one["code"] for one in gate.decisions("refused") if one["reference"] == reference[0]] == ["bad-request"]


async def session_of(gate: Gateway, user: str) -> str:
    """Signs in, whether or not the user may open the document."""
    reply = await curl(f"{gate.url}/docs/sales", user=user)
    return next(one for one in reply.values("set-cookie") if one.startswith("calgate=")).partition(";")[0]


def line_of(gate: Gateway, reply: Reply) -> dict[str, object]:
    """Returns the one line that the reference of a refusal leads to."""
    reference = re.search(r"[2-9A-Z]{4}-[2-9A-Z]{4}", reply.body.decode())
    assert reference is not None, reply
    lines = [line for line in gate.decisions() if line.get("reference") == reference[0]]
    (line,) = [
        line for line in lines if line["event"] not in ("request", "CAL")
    ]  # a worker claims a CAL before it fails
    return line
