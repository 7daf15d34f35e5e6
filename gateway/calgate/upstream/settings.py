"""A route's `health`."""

from pydantic import Field

from calgate.plugin.settings import Duration, Section


class HealthSection(Section):
    """A route's `health`: what is asked of each document server, and how often. Any answer below 500 is a good one."""

    path: str = "/"
    every: Duration = Field(default=10.0, gt=0)
    timeout: Duration = Field(default=3.0, gt=0)
