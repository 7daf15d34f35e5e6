"""Decides whether a client prefers a page or JSON (RFC 9110, section 12.5.1). Pure."""

_PAGE = ("text/html", "application/xhtml+xml", "text/*")
_JSON = ("application/problem+json", "application/json", "application/*")


def prefers_page(accept: str) -> bool:
    """Whether the client names a page and does not prefer JSON; `*/*` alone is a program, which reads JSON better."""
    weights = dict(_weighted(part) for part in accept.lower().split(",") if part.strip())
    page = max((weights.get(kind, 0.0) for kind in _PAGE), default=0.0)
    return page > 0 and page >= max(weights.get(kind, 0.0) for kind in _JSON)


def _weighted(part: str) -> tuple[str, float]:
    kind, *parameters = (piece.strip() for piece in part.split(";"))
    weight = next((piece[2:] for piece in parameters if piece.startswith("q=")), "1")
    try:
        return kind, float(weight)
    except ValueError:
        return kind, 0.0
