"""`calgate demo`: the whole gateway with a demonstration document server behind it."""

import click


@click.command()
@click.option("--bind", default="127.0.0.1:8080", show_default=True, help="ADDRESS:PORT to answer on.")
def demo(bind: str) -> None:
    """Starts the gateway with a demonstration document server, and says what to try."""
    raise NotImplementedError(bind)
