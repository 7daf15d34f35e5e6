"""The requests that the gateway responds to itself."""

PREFIX = "/_calgate/"
"""Begins the gateway's own paths."""
