"""`calgate keys`: makes keys that sign assertions."""

import os
from pathlib import Path

import click
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from calgate.plugin import CommandContext
from calgate_assertion.keys import PrivateKey, SigningKey

_RSA_BITS = 3072


def commands(context: CommandContext) -> click.Group:
    """Returns the group `keys`."""
    return keys


@click.group
def keys() -> None:
    """Keys that sign assertions (`sign_on = { plugin = "assertion" }`)."""


@keys.command
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--algorithm", type=click.Choice(["ES256", "RS256"]), default="ES256", show_default=True)
def new(file: Path, algorithm: str) -> None:
    """Writes a new private key to FILE, which only its owner can read, and prints its number (kid).

    Put FILE first in `keys`, keep the file before it, and reload. Remove the old file an hour and `lifetime` later.
    """
    private: PrivateKey
    if algorithm == "RS256":
        private = rsa.generate_private_key(public_exponent=65537, key_size=_RSA_BITS)
    else:
        private = ec.generate_private_key(ec.SECP256R1())
    encoded = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise click.ClickException(f"{error}; a key that is in use is never overwritten") from error
    with os.fdopen(handle, "wb") as out:
        out.write(encoded)
    click.echo(SigningKey.read(file, algorithm).jwk["kid"])
