"""The `[store]` section of the settings file."""

import re
from typing import Self

from pydantic import Field, field_validator, model_validator
from redis.asyncio import BlockingConnectionPool
from redis.exceptions import RedisError

from calgate.plugin.settings import Duration, Secret, Section

_SCHEMES = ("redis://", "rediss://", "unix://")


class StoreSection(Section):
    """Where sessions and CALs are kept. Without an address: a private server of the gateway's own under `state_dir`."""

    url: str | None = Field(default=None, repr=False)  # may carry a password
    sentinel: tuple[str, ...] = ()  # "host:port" of Sentinels, which know the primary of `service`
    service: str = ""
    cluster: tuple[str, ...] = ()  # "host:port" of some servers of a Cluster
    username: str | None = None  # with sentinel or cluster; a url carries its own
    password: Secret | None = None
    tls: bool = False
    prefix: str = Field(default="calgate", pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    replicas: int = Field(default=0, ge=0, le=9)
    grace: Duration = 300.0
    audit_keep: Duration = 400 * 86400.0

    @field_validator("url")
    @classmethod
    def _known_scheme(cls, url: str | None) -> str | None:
        if url is not None and not url.startswith(_SCHEMES):
            raise ValueError("the address of a store begins with redis://, rediss:// or unix://")
        if url is not None and not _is_readable(url):
            raise ValueError(  # without the library's words, which quote what may be a part of the password
                "the address of the store cannot be read: it is written like redis://USER:PASSWORD@HOST:6379/0, with"
                " %23, %2F, %3F, %40 for #, /, ?, @ in a password"
            )
        return url

    @field_validator("sentinel", "cluster")
    @classmethod
    def _host_and_port(cls, addresses: tuple[str, ...]) -> tuple[str, ...]:
        for address in addresses:
            if not re.fullmatch(r"(\[[0-9A-Fa-f:]+\]|[^:\s/]+):\d{1,5}", address):
                raise ValueError(f"an address is written host:port, not {address!r}")
        return addresses

    @model_validator(mode="after")
    def _one_kind_of_store(self) -> Self:
        if sum(map(bool, (self.url, self.sentinel, self.cluster))) > 1:
            raise ValueError("url, sentinel and cluster exclude each other")
        if bool(self.sentinel) != bool(self.service):
            raise ValueError("sentinel and service go together: the Sentinels' addresses, and the name they know")
        if (self.username or self.password or self.tls) and not (self.sentinel or self.cluster):
            raise ValueError("username, password and tls go with sentinel or cluster; a url carries its own")
        if self.replicas and self.embedded:
            raise ValueError("replicas: the private server has none; give the address of a store that has")
        return self

    @property
    def embedded(self) -> bool:
        """Whether the gateway keeps a private server."""
        return not (self.url or self.sentinel or self.cluster)


def _is_readable(url: str) -> bool:
    """Whether a connection can be made of it, parameters and all; nobody is asked."""
    try:
        BlockingConnectionPool.from_url(url).make_connection()
    except (ValueError, TypeError, RedisError):
        return False
    return True
