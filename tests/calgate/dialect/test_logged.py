"""Requests in a web server's log, which has no bodies."""

import pytest

from calgate.dialect.logged import logged_document


@pytest.mark.parametrize(
    ("method", "target", "document"),
    [
        ("GET", "/QvAJAXZfc/opendoc.htm?document=Sales%5CQ1.qvw&host=QVS%40s", "sales/q1.qvw"),
        ("GET", "/QvAJAXZfc/AccessPoint.aspx?open=&id=QVS%40s%7CSales%2FQ1.qvw&client=Ajax", "sales/q1.qvw"),
        ("POST", "/QvAJAXZfc/QvsViewClient.aspx?mark=A1&host=x&view=Sales.qvw", "sales.qvw"),
        ("POST", "/QvAJAXZfc/QvsViewClient.aspx?mark=A1", None),
        ("GET", "/QvAJAXZfc/QvsViewClient.aspx?datamode=binary&name=x&view=Sales.qvw", None),
        ("GET", "/QvAJAXZfc/htc/Qva.js", None),
        ("GET", "/broken%zz", None),
        ("GET", "/QvAJAXZfc/GetWebTicket.aspx", None),
    ],
)
def test_logged_request_names_the_document_that_it_opened_or_used(
    method: str, target: str, document: str | None
) -> None:
    assert logged_document(method, target) == document
