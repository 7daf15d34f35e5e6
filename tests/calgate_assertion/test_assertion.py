"""Signed assertions, read by two libraries that other people's servers use."""

import base64
import json
import stat
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import jwt
import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from joserfc import jwk
from joserfc import jwt as jose
from joserfc.errors import JoseError

from calgate.plugin.access import Grant
from calgate.plugin.errors import Unavailable
from calgate.plugin.identity import Identity, Person
from calgate.plugin.licensing import Claimant, Lease
from calgate.plugin.sign_on import PublishesKeys, SignOn
from calgate_assertion.assertion import Assertion
from calgate_assertion.commands import keys as command
from calgate_assertion.keys import PUBLISHED_BEFORE, KeyRing, PrivateKey, SigningKey
from calgate_assertion.settings import Algorithm, Config

BJÖRN = Person("S-1-5-21-7", "CORP", "björn", "Björn Müller", frozenset({"S-sales"}))
GRANT = Grant("everybody")
ISSUER, AUDIENCE = "https://bi.corp.example", "https://portal.corp.example"


class Clock:
    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Groups:
    """As much of a directory as group names need."""

    async def look_up(self, identity: Identity) -> Person | None:
        return None

    async def resolve(self, groups: Sequence[str]) -> Mapping[str, str | None]:
        return {name: {"CORP\\Sales": "S-sales", "CORP\\HR": "S-hr"}.get(name) for name in groups}


def new_key(folder: Path, name: str = "assertion.pem", algorithm: Algorithm = "ES256") -> Path:
    file = folder / name
    done = CliRunner().invoke(command, ["new", str(file), "--algorithm", algorithm])
    assert done.exit_code == 0, done.output
    return file


def config(*files: Path, **more: object) -> Config:
    return Config.model_validate({"keys": files, "issuer": ISSUER, "audience": AUDIENCE, **more})


def assertion(settings: Config, clock: Clock) -> Assertion:
    keys = [SigningKey.read(file, settings.algorithm) for file in settings.keys]
    return Assertion(settings, KeyRing(keys, clock), Groups(), clock)


async def token_of(sign_on: Assertion, lease: Lease | None = None, person: Person = BJÖRN) -> str:
    (value,) = (await sign_on.headers(person, GRANT, lease)).values()
    return value


def read_by_pyjwt(token: str, published: Sequence[Mapping[str, str]], algorithm: Algorithm) -> dict[str, object]:
    by_number = {key.key_id: key.key for key in jwt.PyJWKSet.from_dict({"keys": list(published)}).keys}
    number = jwt.get_unverified_header(token)["kid"]
    options: jwt.types.Options = {"verify_exp": False, "verify_iat": False, "verify_nbf": False}
    return dict(jwt.decode(token, by_number[number], [algorithm], audience=AUDIENCE, issuer=ISSUER, options=options))


def read_by_joserfc(token: str, published: Sequence[Mapping[str, str]], algorithm: Algorithm) -> dict[str, object]:
    keys = jwk.KeySet.import_key_set({"keys": [dict(key) for key in published]})
    return dict(jose.decode(token, keys, [algorithm]).claims)


@pytest.mark.parametrize("algorithm", ["ES256", "RS256"])
async def test_two_readers_verify_the_claims_with_the_published_keys(tmp_path: Path, algorithm: Algorithm) -> None:
    clock = Clock()
    settings = config(new_key(tmp_path, algorithm=algorithm), algorithm=algorithm, groups=("CORP\\HR", "CORP\\Sales"))
    sign_on = assertion(settings, clock)
    assert isinstance(sign_on, SignOn)
    assert isinstance(sign_on, PublishesKeys)
    lease = Lease("qlikview", "named", Claimant(BJÖRN.key, BJÖRN.name, "c", frozenset()), "Sales", "1")
    token = await token_of(sign_on, lease)
    assert token.isascii()
    expected = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "S-1-5-21-7",
        "preferred_username": "CORP\\björn",
        "name": "Björn Müller",
        "groups": ["CORP\\Sales"],
        "license": "qlikview",
        "lease": "named",
        "iat": int(clock.now),
        "nbf": int(clock.now) - 30,
        "exp": int(clock.now) + 300,
    }
    published = sign_on.public_keys()
    assert read_by_pyjwt(token, published, algorithm) == expected
    assert read_by_joserfc(token, published, algorithm) == expected
    assert {"d", "p", "q"} & {name for key in published for name in key} == set(), "a private key is published"


async def test_form_of_a_jwt_virtual_proxy_has_its_own_claims(tmp_path: Path) -> None:
    claims = {"userId": "{account}", "userDirectory": "{domain}"}
    more = {"algorithm": "RS256", "header": "Authorization", "scheme": "Bearer", "claims": claims}
    sign_on = assertion(config(new_key(tmp_path, algorithm="RS256"), **more), Clock())
    assert sign_on.owned == {"authorization"}
    value = (await sign_on.headers(BJÖRN, GRANT, None))["Authorization"]
    said = read_by_pyjwt(value.removeprefix("Bearer "), sign_on.public_keys(), "RS256")
    assert (value[:7], said["userId"], said["userDirectory"]) == ("Bearer ", "björn", "CORP")


async def test_token_is_kept_for_half_its_life_and_only_for_the_same_statement(tmp_path: Path) -> None:
    clock = Clock()
    sign_on = assertion(config(new_key(tmp_path)), clock)
    first = await token_of(sign_on)
    clock.now += 149
    assert await token_of(sign_on) == first
    carol = Person("S-1-5-21-8", "CORP", "carol", "Carol", frozenset())
    assert jwt.decode(await token_of(sign_on, person=carol), options={"verify_signature": False})["sub"] == carol.key
    clock.now += 2
    second = await token_of(sign_on)
    assert second != first
    clock.now -= 3600  # an hour back: the reader would take the kept one for one of the future
    assert await token_of(sign_on) != second


async def test_number_of_kept_tokens_is_bounded_and_the_oldest_goes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("calgate_assertion.assertion._LARGEST", 2)
    sign_on = assertion(config(new_key(tmp_path)), Clock())
    for account in ("ann", "bob", "cid"):
        await token_of(sign_on, person=replace(BJÖRN, key=account, account=account))
    assert [statement[0] for statement in sign_on._kept] == ["bob", "cid"]


async def test_token_is_made_again_once_anything_that_it_says_has_changed(tmp_path: Path) -> None:
    """A user who has left a group must not keep a token that says otherwise."""
    sign_on = assertion(config(new_key(tmp_path), groups=("CORP\\HR", "CORP\\Sales")), Clock())
    lease = Lease("qlikview", "named", Claimant(BJÖRN.key, BJÖRN.name, "c", frozenset()), "Sales", "1")
    said = [
        jwt.decode(await token_of(sign_on, held, person), options={"verify_signature": False})
        for person, held in (
            (BJÖRN, None),
            (replace(BJÖRN, groups=frozenset()), None),
            (replace(BJÖRN, groups=frozenset({"S-hr"})), None),
            (replace(BJÖRN, account="bjoern"), None),
            (replace(BJÖRN, display_name="Björn Maier"), None),
            (BJÖRN, lease),
            (BJÖRN, replace(lease, kind="session")),
        )
    ]
    assert [one["groups"] for one in said[:3]] == [["CORP\\Sales"], [], ["CORP\\HR"]]
    assert (said[3]["preferred_username"], said[4]["name"]) == ("CORP\\bjoern", "Björn Maier")
    assert [one.get("lease") for one in (said[0], *said[5:])] == [None, "named", "session"]


async def test_new_key_is_published_an_hour_before_it_signs(tmp_path: Path) -> None:
    clock = Clock()
    new, old = (new_key(tmp_path, name) for name in ("new.pem", "old.pem"))
    sign_on = assertion(config(new, old), clock)
    numbers = [key["kid"] for key in sign_on.public_keys()]
    assert len(set(numbers)) == 2
    assert jwt.get_unverified_header(await token_of(sign_on))["kid"] == numbers[1]
    clock.now += PUBLISHED_BEFORE
    assert jwt.get_unverified_header(await token_of(sign_on))["kid"] == numbers[0]
    alone = assertion(config(new), clock)
    assert jwt.get_unverified_header(await token_of(alone))["kid"] == numbers[0]


async def test_token_of_a_key_that_is_not_published_any_more_is_refused(tmp_path: Path) -> None:
    old, new = (assertion(config(new_key(tmp_path, name)), Clock()) for name in ("old.pem", "new.pem"))
    stale = await token_of(old)
    with pytest.raises(KeyError):
        read_by_pyjwt(stale, new.public_keys(), "ES256")
    with pytest.raises((JoseError, ValueError)):
        read_by_joserfc(stale, new.public_keys(), "ES256")


async def test_token_signed_with_the_public_key_as_a_secret_is_refused_by_its_algorithm(tmp_path: Path) -> None:
    """Algorithm confusion: the published keys name the one algorithm that they are for."""
    sign_on = assertion(config(new_key(tmp_path)), Clock())
    (published,) = sign_on.public_keys()
    assert published["alg"] == "ES256"
    claims = (await token_of(sign_on)).split(".")[1]
    for head in ({"alg": "none"}, {"alg": "HS256", "kid": published["kid"]}):
        forged = f"{base64.urlsafe_b64encode(json.dumps(head).encode()).rstrip(b'=').decode()}.{claims}."
        with pytest.raises((jwt.PyJWTError, KeyError)):
            read_by_pyjwt(forged, [published], "ES256")
        with pytest.raises((JoseError, ValueError)):
            read_by_joserfc(forged, [published], "ES256")


async def test_group_that_no_directory_has_makes_the_sign_on_unavailable(tmp_path: Path) -> None:
    sign_on = assertion(config(new_key(tmp_path), groups=("CORP\\Nowhere",)), Clock())
    with pytest.raises(Unavailable, match="no directory has the group CORP"):
        await token_of(sign_on)


@pytest.mark.parametrize(
    "more",
    [
        {"claims": {"sub": "{account}"}},
        {"claims": {"exp": "9999999999"}},
        {"claims": {"user": "{password}"}},
        {"header": "Cookie"},
        {"header": "X Y"},
        {"scheme": "Bearer\r\nX-Y: z"},
        {"algorithm": "none"},
        {"algorithm": "HS256"},
        {"lifetime": "2h"},
        {"keys": ()},
    ],
    ids=["sub", "exp", "field", "cookie", "blank", "line-break", "none", "hs256", "long", "no-key"],
)
def test_setting_that_would_let_others_make_statements_is_a_fault(tmp_path: Path, more: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        config(tmp_path / "k", **more)


def test_key_file_for_another_algorithm_or_open_to_others_is_a_fault(tmp_path: Path) -> None:
    file = new_key(tmp_path)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with pytest.raises(ValueError, match="has no key for RS256"):
        SigningKey.read(file, "RS256")
    with pytest.raises(ValueError, match="calgate keys new"):
        SigningKey.read(tmp_path / "absent.pem", "ES256")
    file.chmod(0o644)
    with pytest.raises(ValueError, match="chmod o="):
        SigningKey.read(file, "ES256")


def test_key_that_is_too_weak_or_of_another_curve_is_a_fault(tmp_path: Path) -> None:
    keys: dict[str, PrivateKey] = {
        "RS256": rsa.generate_private_key(65537, 1024),
        "ES256": ec.generate_private_key(ec.SECP384R1()),
    }
    for algorithm, private in keys.items():
        file = tmp_path / f"{algorithm}.pem"
        encoding = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        file.write_bytes(private.private_bytes(*encoding))
        file.chmod(0o600)
        with pytest.raises(ValueError, match=f"has no key for {algorithm}"):
            SigningKey.read(file, algorithm)


def test_command_never_overwrites_a_key(tmp_path: Path) -> None:
    file = new_key(tmp_path)
    before = file.read_bytes()
    done = CliRunner().invoke(command, ["new", str(file)])
    assert (done.exit_code, file.read_bytes()) == (1, before)
