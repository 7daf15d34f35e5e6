"""`[store]`: the server that keeps sessions and CALs."""

import re
from typing import Self

from pydantic import Field, field_validator, model_validator
from redis.asyncio import BlockingConnectionPool
from redis.exceptions import RedisError

from calgate.plugin.settings import Duration, Secret, Section

_SCHEMES = ("redis://", "rediss://", "unix://")


class StoreSection(Section):
    """`[store]`: where sessions and CALs are kept. Without an address: a private server, its data in `state_dir`."""

    url: str | None = Field(default=None, repr=False)
    """The address of one server: redis://, rediss:// (TLS) or unix://. It may carry user and password."""
    sentinel: tuple[str, ...] = ()
    """Addresses (host:port) of the Sentinels that know the primary; instead of `url`, together with `service`."""
    service: str = ""
    """The name under which the Sentinels know the primary."""
    cluster: tuple[str, ...] = ()
    """Addresses (host:port) of some servers of a Cluster; instead of `url`."""
    username: str | None = None
    """The user for `sentinel` or `cluster`; a url carries its own."""
    password: Secret | None = None
    """The password for `sentinel` or `cluster`; a url carries its own."""
    tls: bool = False
    """Connect to a Sentinel's primary or a Cluster over TLS; for `url`, write rediss:// instead."""
    prefix: str = Field(default="calgate", pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    """The beginning of every key, so that several sites can share a store."""
    replicas: int = Field(default=0, ge=0, le=9)
    """How many replicas must have acknowledged a permanent grant before it counts."""
    grace: Duration = 300.0
    """How long known sessions and CALs stay valid while the store does not respond."""
    audit_keep: Duration = 400 * 86400.0
    """How long the records of decisions about CALs are kept."""

    @field_validator("url")
    @classmethod
    def _known_scheme(cls, url: str | None) -> str | None:
        if url is not None and not url.startswith(_SCHEMES):
            raise ValueError("the address of the store begins with redis://, rediss:// or unix://")
        if url is not None and not _is_readable(url):
            raise ValueError(  # without the library's message, which may quote a part of the password
                "the address of the store cannot be read: it is written like redis://USER:PASSWORD@HOST:6379/0, with"
                " %23, %2F, %3F, %40 for #, /, ?, @ in a password"
            )
        return url

    @field_validator("sentinel", "cluster")
    @classmethod
    def _host_and_port(cls, addresses: tuple[str, ...]) -> tuple[str, ...]:
        for address in addresses:
            if not re.fullmatch(r"(\[[0-9A-Fa-f:]+\]|[^:\s/]+):[0-9]{1,5}", address):
                raise ValueError(f"an address is written host:port, not {address!r}")
        return addresses

    @model_validator(mode="after")
    def _one_kind_of_store(self) -> Self:
        if sum(map(bool, (self.url, self.sentinel, self.cluster))) > 1:
            raise ValueError("only one of url, sentinel and cluster can be set")
        if bool(self.sentinel) != bool(self.service):
            raise ValueError(
                "sentinel and service belong together: the Sentinels' addresses, and their name for the primary"
            )
        if (self.username or self.password or self.tls) and not (self.sentinel or self.cluster):
            raise ValueError("username, password and tls belong to sentinel or cluster; a url carries its own")
        if self.replicas and self.embedded:
            raise ValueError("replicas: the private server has none; set the address of a store with replicas")
        return self

    @property
    def embedded(self) -> bool:
        """Whether the gateway runs a private server."""
        return not (self.url or self.sentinel or self.cluster)


def _is_readable(url: str) -> bool:
    """Whether redis-py accepts the address with its parameters; nothing is connected."""
    try:
        BlockingConnectionPool.from_url(url).make_connection()
    except (ValueError, TypeError, RedisError):
        return False
    return True
