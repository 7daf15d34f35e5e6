"""Tells the document server who the user is, in request headers."""
