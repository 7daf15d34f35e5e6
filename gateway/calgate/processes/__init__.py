"""The parent process, which keeps the listening sockets, and its workers, which serve on them."""
