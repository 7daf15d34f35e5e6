"""Gives client access licenses out and takes them back, in a Redis function library."""

role = "allocator"
