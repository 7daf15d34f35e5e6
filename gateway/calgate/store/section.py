"""The `[store]` section of the settings file."""

from typing import Self

from pydantic import Field, field_validator, model_validator

from calgate.setting import Duration, Section

_SCHEMES = ("redis://", "rediss://", "unix://")


class StoreSection(Section):
    """Where sessions and CALs are kept. Without an address: a private server of the gateway's own under `state_dir`."""

    url: str | None = Field(None, repr=False)  # may carry a password
    prefix: str = Field("calgate", pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    replicas: int = Field(0, ge=0, le=9)
    grace: Duration = 300.0
    audit_keep: Duration = 400 * 86400.0

    @field_validator("url")
    @classmethod
    def _known_scheme(cls, url: str | None) -> str | None:
        if url is not None and not url.startswith(_SCHEMES):
            raise ValueError("the address of a store begins with redis://, rediss:// or unix://")
        return url

    @model_validator(mode="after")
    def _replicas_need_a_server_that_has_some(self) -> Self:
        if self.replicas and self.embedded:
            raise ValueError("replicas: the private server has none; give the address of a store that has")
        return self

    @property
    def embedded(self) -> bool:
        """Whether the gateway keeps a private server."""
        return self.url is None
