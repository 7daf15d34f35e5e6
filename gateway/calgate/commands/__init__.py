"""The core's commands, one file for each."""
