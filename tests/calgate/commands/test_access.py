"""`calgate access explain`: documents are named as requests name them."""

from pathlib import Path

import pytest

from support.gateway_process import calgate, write_settings


@pytest.mark.parametrize("document", ["Sales.qvw.", "SALES~1.QVW", "|Sales.qvw", "d" * 300])
async def test_document_that_no_request_can_name_is_refused_by_explain(tmp_path: Path, document: str) -> None:
    file = write_settings(tmp_path, 1)
    code, out, err = await calgate("access", "explain", "DEMO\\alice", "--document", document, "-c", str(file))
    assert (code, out) == (1, "")
    assert "--document" in err
