"""The demonstration: a small document server in place of QlikView's, users to sign in as, and a settings file.

async with serve() as upstream:
    settings = prepare(folder, "127.0.0.1:8080", upstream)
"""

from calgate.demo.people import PASSWORD, PEOPLE, Person, prepare, things_to_try
from calgate.demo.server import serve

__all__ = ["PASSWORD", "PEOPLE", "Person", "prepare", "serve", "things_to_try"]
