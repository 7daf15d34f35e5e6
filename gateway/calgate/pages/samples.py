"""One sample of each page with every field filled, to check templates with."""

from collections.abc import Mapping
from dataclasses import replace

from calgate.pages.messages import words_for
from calgate.plugin.errors import (
    AccountRefused,
    AuthenticationFailed,
    BadRequest,
    Forbidden,
    Refusal,
    SignInNeeded,
    Unavailable,
)
from calgate.plugin.licensing import NoCal, Pool
from calgate.plugin.sign_in_method import SignInField, SignInForm
from calgate.plugin.texts import mark as _

_POOLS = (
    Pool("named", 20, 20, None, "not-assigned"),
    Pool("document", 5, 0, None, "not-allocated"),
    Pool("session", 6, 6, 2_000.0, "full"),
    Pool("usage", 100, 100, 90_000.0, "full"),
)


def _no_cal(place: int | None) -> NoCal:
    return NoCal("sample", license="qlikview", document="sales/q1.qvw", pools=_POOLS, place=place, estimate=2_000.0)


def sample_refusals(now: float) -> Mapping[str, Refusal]:
    """Returns one refusal for each kind of page, by the name of the page."""
    pools = [replace(pool, free_at=pool.free_at and now + pool.free_at) for pool in _POOLS]

    def no_cal(place: int | None = None, code: str | None = None) -> NoCal:
        return NoCal(
            "sample",
            license="qlikview",
            document="sales/q1.qvw",
            pools=pools,
            place=place,
            estimate=now + 1_500 if place else None,
            code=code,
        )

    return {
        "sign-in": SignInNeeded("sample"),
        "sign-in-failed": AuthenticationFailed("sample"),
        "account": AccountRefused("sample", code="account-locked"),
        "forbidden": Forbidden("sample", rule="sales documents: nobody else"),
        "denial": no_cal(),
        "in-use-elsewhere": no_cal(code="in-use-elsewhere"),
        "waiting": no_cal(place=3),
        "unavailable": Unavailable("sample"),
        "problem": BadRequest("sample"),
    }


def _sample(refusal: Refusal) -> Mapping[str, object]:
    return {"words": words_for(refusal), "refusal": refusal}


FORM = SignInForm([SignInField("user", _("Name")), SignInField("password", _("Password"), "password")])
FORM_LABEL = _("Sign in with your Windows name and password")
_PLAIN: Mapping[str, object] = {"words": words_for(BadRequest("sample")), "refusal": None}

SAMPLES: Mapping[str, Mapping[str, object]] = {
    "sign-in.html": _sample(SignInNeeded("sample")),
    "forbidden.html": _sample(Forbidden("sample", rule="sales documents: nobody else")),
    "denial.html": _sample(_no_cal(None)),
    "waiting.html": _sample(_no_cal(3)),
    "unavailable.html": _sample(Unavailable("sample")),
    "problem.html": _sample(BadRequest("sample")),
    "form.html": {**_PLAIN, "method": "sample", "form": FORM},
    "sign-out.html": _PLAIN,
    "signed-out.html": {**_PLAIN, "is_visitor": False},
}
