"""`[session]`: the lifetime of sign-ins, and framing."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from calgate.plugin.settings import Duration, Section, is_origin


def _is_site(value: str) -> str:
    """It becomes part of a Content-Security-Policy header, and is compared with the Origin that browsers send."""
    if not is_origin(value):
        raise ValueError(
            f'another site is written like "https://portal.corp.example", not {value!r}; a name that is not ASCII'
            " begins with xn--, as browsers send it"
        )
    return value


class SessionSection(Section):
    """`[session]`: how long a browser stays signed in, and who may frame the site."""

    lifetime: Duration = Field(default=10 * 3600.0, gt=0)
    """The browser signs in again after this long; with Kerberos the user does not notice."""
    idle: Duration = Field(default=3600.0, gt=0)
    """A session that has not been used for this long ends."""
    same_site: Literal["Lax", "Strict", "None"] = "Lax"
    """The SameSite attribute of the session cookie. "None" is possible only together with `embed_in`."""
    embed_in: tuple[Annotated[str, AfterValidator(_is_site)], ...] = ()
    """Origins that may show the site in a frame, such as "https://portal.corp.example"."""

    @model_validator(mode="after")
    def _none_only_for_frames(self) -> Self:
        if self.same_site == "None" and not self.embed_in:
            raise ValueError(
                'same_site = "None" lets every site send the cookie, so it is allowed only together with embed_in'
            )
        return self
