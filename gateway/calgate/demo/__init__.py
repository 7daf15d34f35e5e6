"""The demonstration: a small document server in place of QlikView's, users to sign in as, and a settings file.

async with serve() as upstream:
    settings = prepare(folder, "127.0.0.1:8080", upstream, "127.0.0.1:8081")
"""

from calgate.demo.busy import play
from calgate.demo.people import ADMIN, PASSWORD, PEOPLE, Person, prepare, things_to_try
from calgate.demo.server import serve

__all__ = ["ADMIN", "PASSWORD", "PEOPLE", "Person", "play", "prepare", "serve", "things_to_try"]
