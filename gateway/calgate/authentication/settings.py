"""`[session]`."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from calgate.plugin.settings import Duration, Section, is_origin


def _is_site(value: str) -> str:
    """It becomes a part of a policy (Content-Security-Policy), and is compared with what browsers send."""
    if not is_origin(value):
        raise ValueError(f'another site is written like "https://portal.corp.example", not {value!r}')
    return value


class SessionSection(Section):
    """`[session]`: how long a browser stays signed in, and who may frame the site."""

    lifetime: Duration = Field(default=10 * 3600.0, gt=0)
    idle: Duration = Field(default=3600.0, gt=0)
    same_site: Literal["Lax", "Strict", "None"] = "Lax"
    embed_in: tuple[Annotated[str, AfterValidator(_is_site)], ...] = ()

    @model_validator(mode="after")
    def _none_only_for_frames(self) -> Self:
        if self.same_site == "None" and not self.embed_in:
            raise ValueError('same_site = "None" lets every site send the cookie, so it goes with embed_in only')
        return self
