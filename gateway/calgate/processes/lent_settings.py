"""The settings in force, lent to a process: the file on disk may have changed, or be faulty, since they were loaded.

Every process that the parent starts, also in place of one that crashed, so has the settings of the last reload that
succeeded. They are in memory only: the file may hold secrets.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def lend(text: str) -> Iterator[int]:
    """Yields a descriptor for a process to inherit."""
    with os.fdopen(os.memfd_create("settings"), "w", encoding="utf-8") as lent:
        lent.write(text)
        lent.flush()
        lent.seek(0)
        yield lent.fileno()


def borrow(descriptor: int) -> str:
    """Returns the text that the parent lent, and closes the descriptor."""
    with os.fdopen(descriptor, encoding="utf-8") as lent:
        return lent.read()
