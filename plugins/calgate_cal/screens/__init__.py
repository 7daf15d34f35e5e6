"""The console's screens about licenses: overview, holders, denials, queue, use over time, log."""

from collections.abc import Sequence

from calgate.plugin import ConsoleContext, Screen
from calgate_cal.screens.holders import holders_screen
from calgate_cal.screens.licenses import Licenses
from calgate_cal.screens.overview import overview_screen
from calgate_cal.screens.queue import queue_screen
from calgate_cal.screens.records import denials_screen, log_screen
from calgate_cal.screens.use import use_screen


def screens(context: ConsoleContext) -> Sequence[Screen]:
    """Makes the screens."""
    licenses = Licenses(context)
    return [
        overview_screen(licenses),
        holders_screen(licenses),
        denials_screen(licenses),
        queue_screen(licenses),
        use_screen(licenses),
        log_screen(licenses),
    ]
