"""The requests that the gateway responds to itself."""

PREFIX = "/_calgate/"
"""Begins the gateway's own paths."""

ADMIN = PREFIX + "admin/"
"""Begins the paths of the administrators' console, on its own origin."""
