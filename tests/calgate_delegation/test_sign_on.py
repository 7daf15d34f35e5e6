"""What the log says of a document server that rejects a ticket; no KDC is needed for that."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from calgate.plugin import DocumentServer
from calgate_delegation.settings import Config
from calgate_delegation.sign_on import Delegation

SERVER = DocumentServer("https://qvws1.corp.example", "qvws1.corp.example")


@pytest.mark.parametrize(
    ("service", "spn"),
    [("HTTP/{host}", "HTTP/qvws1.corp.example"), ("HTTP/farm.corp.example", "HTTP/farm.corp.example")],
)
def test_rejected_ticket_names_the_spn_of_the_server_that_responded(service: str, spn: str) -> None:
    config = Config(keytab=Path("k"), account="svc-calgate@CORP.EXAMPLE", service=service)
    services: Any = SimpleNamespace(directory=None, store=SimpleNamespace(listen=lambda heard: None))
    tickets: Any = None
    sign_on = Delegation(config, services, tickets)
    try:
        cause = sign_on.why_rejected(SERVER, 401, {"www-authenticate": "Negotiate"})
        assert cause is not None
        assert f"the SPN {spn} (in IIS" in cause
        assert sign_on.why_rejected(SERVER, 403, {}) is None, "a refusal of its own is the document server's to explain"
    finally:
        sign_on.close()
