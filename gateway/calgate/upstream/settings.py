"""A route's `health`: health checks of document servers."""

from pydantic import Field

from calgate.plugin.settings import Duration, Section


class HealthSection(Section):
    """A route's `health`: requests to each document server. Any status below 500 is a good response."""

    path: str = "/"
    """The path that is requested from each document server."""
    every: Duration = Field(default=10.0, gt=0)
    """The time between two requests."""
    timeout: Duration = Field(default=3.0, gt=0)
    """A document server that takes longer than this counts as failing."""
