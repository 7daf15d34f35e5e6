"""Every kind of page in every language, with sample values: what `calgate pages preview` writes."""

from collections.abc import Iterator
from dataclasses import replace

from calgate.pages.render import PageContext, Pages, SignInOption
from calgate.pages.samples import FORM, FORM_LABEL, sample_refusals
from calgate.plugin.errors import AuthenticationFailed, SignInNeeded


def preview(pages: Pages, now: float) -> Iterator[tuple[str, str, bytes]]:
    """Yields the name, the language and the HTML of each page."""
    for tag in pages.tags():
        reader = PageContext(
            now,
            accept="text/html",
            accept_language=tag,
            reference="7F3K-92QD",
            site="bi.corp.example",
            user="CORP\\a.sample",
            path="/QvAJAXZfc/opendoc.htm?document=Sales/Q1.qvw",
        )
        stranger = replace(reader, user=None)
        for name, refusal in sample_refusals(now).items():
            yield name, tag, pages.refuse(refusal, stranger if refusal.status == 401 else reader).body
        offered = replace(stranger, methods=[SignInOption("password", FORM_LABEL, FORM)])
        yield "sign-in-form", tag, pages.refuse(SignInNeeded("sample"), offered).body
        yield "sign-in-form-failed", tag, pages.refuse(AuthenticationFailed("sample"), offered).body
        yield "sign-out", tag, pages.sign_out(reader).body
        yield "signed-out", tag, pages.signed_out(stranger).body
        yield "give-back", tag, pages.sign_out(stranger, is_visitor=True).body
        yield "given-back", tag, pages.signed_out(stranger, is_visitor=True).body
