"""What the gateway itself shows: every refusal, and the few pages that are none.

One set of words (`words.py`) in three forms: a page for people, `application/problem+json` (RFC 9457) for programs
that prefer it, and the document server's own form for calls of its client. None of them shows a refusal's `detail`, a
secret, or another person's name.
"""

from calgate.pages.refused import headers
from calgate.pages.render import Pages, PagesSection, Rendered, Viewer
from calgate.pages.words import Words, words_for

__all__ = ["Pages", "PagesSection", "Rendered", "Viewer", "Words", "headers", "words_for"]
