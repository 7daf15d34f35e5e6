"""A parent that keeps the sockets, and the workers that answer on them."""
