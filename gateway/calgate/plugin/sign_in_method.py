"""Sign-in methods: users sign in on pages of the gateway, under `/_calgate/sign-in/NAME/`.

A method returns data only. Cookies, redirects, the same-origin check, the page and the session are the core's.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from calgate.plugin.identity import Authenticated, Peer
from calgate.plugin.texts import mark as _


@dataclass(frozen=True, slots=True)
class SignInField:
    """One input of a form."""

    name: str  # not "to", which is the core's
    label: str
    kind: Literal["text", "password"] = "text"
    autocomplete: str = "off"  # "username", "current-password" or "new-password", for password managers


@dataclass(frozen=True, slots=True)
class SignInForm:
    """A form that is posted to `/_calgate/sign-in/NAME/STEP`."""

    fields: Sequence[SignInField]
    button: str = _("Sign in")
    step: str = ""


@dataclass(frozen=True, slots=True)
class SignInRequest:
    """One request to a sign-in method."""

    peer: Peer
    method: str  # GET or POST; a POST is same-origin, urlencoded and at most 8 KB
    step: str  # the part of the path after NAME/
    query: Mapping[str, str]
    form: Mapping[str, str]
    note: (
        bytes  # stored by the method in this browser within the last ten minutes; b"": none, or not sealed by this site
    )
    origin: str  # "https://bi.corp.example": the gateway's origin, as the browser names it
    back_to: str  # the path on the gateway that the user wanted, checked by the core


@dataclass(frozen=True, slots=True)
class ShowPage:
    """A page of the gateway. `note` is stored in the browser, sealed; b"" deletes the one that is there."""

    title: str
    text: str
    form: SignInForm | None = None
    note: bytes = b""


@dataclass(frozen=True, slots=True)
class Redirect:
    """The browser goes elsewhere, such as to a provider; `note` is stored in it, sealed."""

    location: str
    note: bytes = b""


class SignInMethod(Protocol):
    """Signs users in through pages of its own."""

    label: str
    """The link or heading on the sign-in page: "Sign in with your Windows password"."""
    form: SignInForm | None
    """Shown on the sign-in page itself; None: the page has a link to the method instead."""
    needs_https: bool
    """Whether it is offered and served over https only."""

    async def handle(self, request: SignInRequest) -> ShowPage | Redirect | Authenticated:
        """Carries out one request. Raises what `Handshake.step` raises: a failure is shown together with the form."""


@runtime_checkable
class FreshSignIn(Protocol):
    """A sign-in method that can have users prove again who they are, whatever session they have."""

    fresh_step: str
    """The step for that; "" for the method's first page. A sign-in by it is `Authenticated.is_fresh`."""


@runtime_checkable
class ProviderSignIn(FreshSignIn, Protocol):
    """A sign-in method whose users have a session at a provider as well, which outlives the one of the gateway."""

    mechanisms: Sequence[str]
    """The values of `Identity.mechanism` that it proves."""
    starts_at_once: bool
    """Whether a browser that is offered no scheme goes to the provider at once, instead of to the sign-in page."""
    sign_out_step: str
    """The step that ends the session at the provider, after the user has signed out here; "": it stays."""
    notice_steps: Collection[str]
    """Steps under which the provider's own server may POST: no browser sends these, so no origin is demanded."""

    async def notice(self, step: str, form: Mapping[str, str]) -> Sequence[str]:
        """Takes a POST of the provider's server; returns names of sessions (`Authenticated.session_names`) to end.

        Raises BadRequest for one that proves nothing, or Unavailable.
        """
