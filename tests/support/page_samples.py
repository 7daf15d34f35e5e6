"""Every page of the gateway, each with the longest names that must fit."""

from collections.abc import Mapping
from dataclasses import replace

from calgate.pages import PageContext, Pages, RenderedPage, SignInOption
from calgate.pages.settings import PagesSection
from calgate.plugin.errors import (
    AccountRefused,
    AuthenticationFailed,
    BadGateway,
    BadRequest,
    CrossSite,
    Forbidden,
    GatewayTimeout,
    HeadersTooLarge,
    MethodRefused,
    Refusal,
    RequestTimeout,
    SignInNeeded,
    TooLarge,
    TooManySignIns,
    Unavailable,
)
from calgate.plugin.licensing import NoCal, Pool
from calgate_ldap.account import password_policy
from calgate_negotiate.password import PasswordForm
from calgate_negotiate.password_change import PasswordChange
from calgate_oidc.settings import Config as OidcConfig

NOW = 1_772_625_600.0  # 4 March 2026, 12:00 UTC
LANGUAGES = ("de", "es", "fr", "it", "ja", "nl", "pl", "pt", "sv")  # besides English
USER = "CORP\\an.account-name-of-forty-characters.long"  # 40 without the domain
DOCUMENT = "sales/emea/quarterly_revenue_and_margin_analysis_by_region.qvw"  # 62 with its folders
CONTACT = "bi-support@corp.example"
POOLS = (
    Pool("named", 20, 20, None, "not-assigned"),
    Pool("document", 100, 64, None, "not-allocated"),
    Pool("session", 6, 6, NOW + 2100, "full"),
    Pool("usage", 40, 40, NOW + 3 * 86400, "full"),
)
ON_PUBLIC_ROUTES = ("cookie-needed", "anonymous-full", "address-full", "none-for-anonymous")  # there is no user
VIEWER = PageContext(
    NOW,
    accept="text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    reference="7F3K-92QD",
    site="bi.corp.example",
    user=USER,
    path=f"/QvAJAXZfc/opendoc.htm?document={DOCUMENT}&host=QVS@bi",
)


FORM = PasswordForm(None, needs_https=True)  # type: ignore[arg-type]  # it is shown, and verifies nothing
CHANGE = PasswordChange(None, None)  # type: ignore[arg-type]
METHODS = (
    SignInOption("password", FORM.label, FORM.form),
    SignInOption("oidc", str(OidcConfig.model_fields["label"].default), None),
    SignInOption("negotiate", "Use the account that you are signed in to Windows with", None),
)


def no_cal(place: int | None = None, code: str | None = None) -> NoCal:
    return NoCal(
        "all CALs are out; SECRET DETAIL",
        license="qlikview",
        document=DOCUMENT,
        pools=POOLS,
        contact=CONTACT,
        place=place,
        estimate=NOW + 1500 if place else None,
        code=code,
    )


def refusals() -> Mapping[str, Refusal]:
    """Returns one refusal of each kind and code, whose details must appear on no page."""
    secret = "SECRET DETAIL"
    return {
        "sign-in-needed": SignInNeeded(secret, ["Negotiate"]),
        "sign-in-failed": AuthenticationFailed(secret),
        "ntlm-off": AuthenticationFailed(secret, code="ntlm-off"),
        "ntlm-behind-proxy": AuthenticationFailed(secret, code="ntlm-behind-proxy"),
        "binding-missing": AuthenticationFailed(secret, code="binding-missing"),
        "provider-refused": AuthenticationFailed(secret, code="provider-refused"),
        "account-disabled": AccountRefused(secret),
        "account-expired": AccountRefused(secret, code="account-expired"),
        "account-locked": AccountRefused(secret, code="account-locked"),
        "password-expired": AccountRefused(secret, code="password-expired"),
        "account-unknown": AccountRefused(secret, code="account-unknown"),
        "forbidden": Forbidden(secret, rule="sales documents: nobody else"),
        "forbidden-by-none": Forbidden(secret),
        "cross-site": CrossSite(secret),
        "too-many-sign-ins": TooManySignIns(secret, retry_after=600),
        "no-cal": no_cal(),
        "waiting": no_cal(place=3),
        "in-use-elsewhere": no_cal(code="in-use-elsewhere"),
        "no-cal-held": no_cal(code="no-cal-held"),
        "taken-over": no_cal(code="taken-over"),
        "store-unavailable": Unavailable(secret),
        "directory-unavailable": Unavailable(secret, code="directory-unavailable"),
        "logon-server-unavailable": Unavailable(secret, code="logon-server-unavailable"),
        "provider-unavailable": Unavailable(secret, code="provider-unavailable"),
        "rules-unresolved": Unavailable(secret, code="rules-unresolved"),
        "starting": Unavailable(secret, code="starting"),
        "no-upstream": Unavailable(secret, code="no-upstream"),
        "bad-gateway": BadGateway(secret),
        "gateway-timeout": GatewayTimeout(secret),
        "bad-request": BadRequest(secret),
        "method-not-allowed": MethodRefused(secret),
        "too-large": TooLarge(secret),
        "headers-too-large": HeadersTooLarge(secret),
        "request-timeout": RequestTimeout(secret),
    } | {code: NoCal(secret, license="qlikview", document=DOCUMENT, pools=(), code=code) for code in ON_PUBLIC_ROUTES}


def every_page(language: str = "") -> Mapping[str, RenderedPage]:
    """Returns each page as a browser receives it, by name."""
    pages = Pages(PagesSection(contact=CONTACT))
    viewer = replace(VIEWER, accept_language=language)
    stranger = replace(viewer, user=None)
    visitor = replace(stranger, sign_in_path="/qlikview")
    shown = {
        name: pages.refuse(refusal, stranger if refusal.status in (400, 401, 429) else viewer)
        for name, refusal in refusals().items()
        if name not in ON_PUBLIC_ROUTES
    }
    shown |= {name: pages.refuse(refusals()[name], visitor) for name in ON_PUBLIC_ROUTES}
    offered = replace(stranger, methods=METHODS)
    too_simple = password_policy("0000052D")
    return shown | {
        "sign-in": pages.sign_in(offered),
        "sign-in-form": pages.refuse(SignInNeeded("SECRET DETAIL", ["Negotiate"]), offered),
        "sign-in-form-failed": pages.refuse(AuthenticationFailed("SECRET DETAIL"), offered),
        "provider-refused-form": pages.refuse(AuthenticationFailed("SECRET DETAIL", code="provider-refused"), offered),
        "change-password": pages.method_page(stranger, "password", CHANGE.page(USER)),
        "change-password-refused": pages.method_page(stranger, "password", CHANGE.page(USER, too_simple)),
        "sign-out": pages.sign_out(viewer),
        "signed-out": pages.signed_out(stranger),
        "give-back": pages.sign_out(stranger, is_visitor=True),
        "given-back": pages.signed_out(stranger, is_visitor=True),
    }
