"""The requests that the gateway responds to itself."""
