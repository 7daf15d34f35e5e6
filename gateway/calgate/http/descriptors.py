"""Logs that the process has no file descriptor left: as an error, once a minute."""

import errno
import logging
import time

logger = logging.getLogger(__name__)

OUT_OF_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE})
_EVERY = 60.0  # seconds between two lines; each refused connection would write one else

_last = -_EVERY


def report_lack_of_descriptors(what: str) -> None:
    """Logs that `what` ("accept a connection") failed for lack of descriptors, at most once a minute."""
    global _last
    now = time.monotonic()
    if now - _last >= _EVERY:
        _last = now
        logger.error("cannot %s: no file descriptors left; raise LimitNOFILE of the service (ulimit -n)", what)
