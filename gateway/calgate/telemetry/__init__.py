"""The log and metrics."""
