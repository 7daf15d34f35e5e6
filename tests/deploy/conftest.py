"""A certificate for the examples, which name one."""

import subprocess
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Makes a certificate and its key, in one file."""
    folder = tmp_path_factory.mktemp("certificate")
    file, key = folder / "bi.pem", folder / "key"
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    subprocess.run(
        [
            *make,
            "-subj",
            "/CN=bi.corp.example",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-days",
            "2",
            "-keyout",
            key,
            "-out",
            file,
        ],
        check=True,
        capture_output=True,
    )
    file.write_text(file.read_text() + key.read_text(), encoding="utf-8")
    return file
