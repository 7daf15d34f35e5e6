"""The pages of the gateway itself: every refusal, and a few others.

One set of messages (`messages.py`) in three forms: a page for people, `application/problem+json` (RFC 9457) for
programs that prefer it, and the document server's own form for calls of its client. None of them shows a refusal's
`detail`, a secret, or another person's name.
"""

from calgate.pages.message import Message
from calgate.pages.messages import words_for
from calgate.pages.problem_json import headers
from calgate.pages.render import PageContext, Pages, RenderedPage, SignInOption, own_path
from calgate.pages.settings import PagesSection

__all__ = [
    "Message",
    "PageContext",
    "Pages",
    "PagesSection",
    "RenderedPage",
    "SignInOption",
    "headers",
    "own_path",
    "words_for",
]
