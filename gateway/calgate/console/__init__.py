"""The administrators' console: a process of its own, which only the gateway's workers can connect to."""
