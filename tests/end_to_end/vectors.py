"""Requests as raw bytes, what the gateway does with each, and why nginx and HAProxy might do something else.

Each vector tests one rule. `verdict` is the request that reaches the document server, or the status of the refusal:
`POST /form 'abc' x-a=1` is a method, a target, a body, and those headers of the message that begin with X- or are
listed in WATCHED. `nginx` and `haproxy` are empty if that proxy does the same as the gateway; otherwise they say what
the proxy does and why the gateway does not.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Vector:
    """The bytes of a request, valid or not; the session cookie replaces COOKIE."""

    name: str
    sent: bytes
    verdict: str
    nginx: str = ""
    haproxy: str = ""


END = b"Connection: close\r\nCookie: COOKIE\r\n\r\n"
GET = b"GET /portal HTTP/1.1\r\nHost: g\r\n"
POST = b"POST /form HTTP/1.1\r\nHost: g\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n" + END


def line(text: bytes) -> bytes:
    """Returns the bytes of a request with this request line."""
    return text + b"\r\nHost: g\r\n" + END


PATHS = (
    "forwards the path as received and lets the server interpret it; an access rule needs one reading (RFC 3986, 6.2.2)"
)
WINDOWS = "forwards it; Windows resolves it to a file that the path does not name (Naming Files, Paths, and Namespaces)"
LF = "accepts LF for CRLF, as RFC 9112, 2.2 allows; that is safe only if the parser behind it does the same"
LF_IN_CHUNKS = "accepts LF for CRLF, which request smuggling by chunk extensions relied on (RFC 9112, 7.1)"

VECTORS = (
    # ------------------------------------------------------------ plain requests, which all three treat alike
    Vector("a GET", GET + END, "GET /portal"),
    Vector("a query as it came", line(b"GET /portal?a=%41&b=1;2 HTTP/1.1"), "GET /portal?a=%41&b=1;2"),
    Vector("a harmless escape as it came", line(b"GET /a%20b HTTP/1.1"), "GET /a%20b"),
    Vector("a POST by length", POST + b"Content-Length: 3\r\n" + END + b"abc", "POST /form 'abc'"),
    Vector("a POST in chunks", CHUNKED + b"3\r\nabc\r\n0\r\n\r\n", "POST /form 'abc'"),
    Vector("a GET with a body", GET + b"Content-Length: 3\r\n" + END + b"abc", "GET /portal 'abc'"),
    Vector("blanks around a length", POST + b"Content-Length: \t3 \r\n" + END + b"abc", "POST /form 'abc'",
           nginx="accepts no tab before a length; the grammar allows optional whitespace (RFC 9110, 5.5)"),
    Vector("CHUNKED in capitals", CHUNKED.replace(b"chunked", b"CHUNKED") + b"3\r\nabc\r\n0\r\n\r\n",
           "POST /form 'abc'"),
    Vector("two requests at once", GET + b"Cookie: COOKIE\r\n\r\n" + line(b"GET /b HTTP/1.1"), "GET /portal, GET /b"),
    Vector("empty lines before a request", b"\r\n\r\n" + GET + END, "GET /portal"),
    Vector("an absolute target of this host", line(b"GET http://g/portal HTTP/1.1"), "GET /portal",
           haproxy="forwards the absolute form; a document server expects a path (RFC 9112, 3.2.2)"),
    # ------------------------------------------------------------ lengths
    Vector("two lengths that differ", POST + b"Content-Length: 3\r\nContent-Length: 4\r\n" + END + b"abcd", "400"),
    Vector("two lengths that agree", POST + b"Content-Length: 3\r\nContent-Length: 3\r\n" + END + b"abc", "400",
           haproxy="merges them, as allowed; refusing is also correct and needs no comparison (RFC 9112, 6.3)"),
    Vector("a list of lengths", POST + b"Content-Length: 3, 3\r\n" + END + b"abc", "400",
           haproxy="merges them, which is allowed; refusing is equally correct (RFC 9112, 6.3)"),
    Vector("a signed length", POST + b"Content-Length: +3\r\n" + END + b"abc", "400"),
    Vector("a negative length", POST + b"Content-Length: -3\r\n" + END + b"abc", "400"),
    Vector("a hexadecimal length", POST + b"Content-Length: 0x3\r\n" + END + b"abc", "400"),
    Vector("an underscore in a length", POST + b"Content-Length: 0_3\r\n" + END + b"abc", "400"),
    Vector("an empty length", POST + b"Content-Length:\r\n" + END + b"abc", "400"),
    Vector("an endless length", POST + b"Content-Length: 99999999999999999999\r\n" + END + b"abc", "400"),
    Vector("a blank before the colon", POST + b"Content-Length : 3\r\n" + END + b"abc", "400"),
    # ------------------------------------------------------------ transfer codings
    Vector("length and chunks", CHUNKED.replace(b"Tr", b"Content-Length: 5\r\nTr", 1) + b"0\r\n\r\n", "400",
           haproxy="drops the length, as allowed; the sender is broken or an attacker (RFC 9112, 6.1)"),
    Vector("gzip, chunked", CHUNKED.replace(b"chunked", b"gzip, chunked") + b"0\r\n\r\n", "400"),
    Vector("chunked twice", CHUNKED.replace(b"chunked", b"chunked, chunked") + b"0\r\n\r\n", "400"),
    Vector("chunked, identity", CHUNKED.replace(b"chunked", b"chunked, identity") + b"0\r\n\r\n", "400"),
    Vector("identity", POST + b"Transfer-Encoding: identity\r\n" + END, "400"),
    Vector("xchunked", CHUNKED.replace(b"chunked", b"xchunked") + b"0\r\n\r\n", "400"),
    Vector("a vertical tab before chunked", CHUNKED.replace(b"chunked", b"\x0bchunked") + b"0\r\n\r\n", "400"),
    Vector("a parameter of chunked", CHUNKED.replace(b"chunked", b"chunked;q=1") + b"0\r\n\r\n", "400"),
    Vector("chunks in HTTP/1.0", CHUNKED.replace(b"HTTP/1.1", b"HTTP/1.0") + b"3\r\nabc\r\n0\r\n\r\n", "400",
           haproxy="adds new framing; the framing must be treated as faulty (RFC 9112, 6.1)"),
    # ------------------------------------------------------------ chunks
    Vector("a chunk extension", CHUNKED + b"3;x=y\r\nabc\r\n0\r\n\r\n", "POST /form 'abc'"),
    Vector("trailers", CHUNKED + b"3\r\nabc\r\n0\r\nX-Late: 1\r\n\r\n", "POST /form 'abc'",
           haproxy="forwards them; a header in a trailer would bypass the checks on headers (RFC 9110, 6.5.1)"),
    Vector("a negative chunk", CHUNKED + b"-3\r\nabc\r\n0\r\n\r\n", "400"),
    Vector("a chunk with 0x", CHUNKED + b"0x3\r\nabc\r\n0\r\n\r\n", "400"),
    Vector("an endless chunk", CHUNKED + b"ffffffffffffffffff\r\nabc\r\n0\r\n\r\n", "400"),
    Vector("a chunk longer than its size", CHUNKED + b"3\r\nabcd\r\n0\r\n\r\n", "400"),
    Vector("a chunk that ends with LF", CHUNKED + b"3\r\nabc\n0\r\n\r\n", "400",
           nginx=LF_IN_CHUNKS,
           haproxy=LF_IN_CHUNKS),
    Vector("a chunk size that ends with LF", CHUNKED + b"3\nabc\r\n0\r\n\r\n", "400",
           nginx=LF_IN_CHUNKS,
           haproxy=LF_IN_CHUNKS),
    Vector("a blank before a chunk size", CHUNKED + b" 3\r\nabc\r\n0\r\n\r\n", "400"),
    Vector("a bare CR in a chunk extension", CHUNKED + b"3;a\rb\r\nabc\r\n0\r\n\r\n", "400"),
    # ------------------------------------------------------------ lines and headers
    Vector("bare LF", (GET + END).replace(b"\r\n", b"\n"), "400",
           nginx=LF,
           haproxy=LF),
    Vector("a bare LF after a header", GET + b"X-A: 1\n" + END, "400",
           nginx=LF,
           haproxy=LF),
    Vector("a bare CR in a header", GET + b"X-A: 1\rX-B: 2\r\n" + END, "400"),
    Vector("a NUL in a header", GET + b"X-A: 1\x002\r\n" + END, "400",
           haproxy="forwards it, and a server written in C ends the value there (RFC 9110, 5.5)"),
    Vector("a folded header", GET + b"X-A: 1\r\n 2\r\n" + END, "400",
           haproxy="replaces the fold by blanks, which is allowed, as is refusing (RFC 9112, 5.2)"),
    Vector("a fold before the first header", b"GET /portal HTTP/1.1\r\n X-A: 1\r\nHost: g\r\n" + END, "400"),
    Vector("a header without a name", GET + b": 1\r\n" + END, "400"),
    Vector("a header without a colon", GET + b"X-A\r\n" + END, "400",
           nginx="reads it as a header with an empty value; a header line needs a colon (RFC 9112, 5)"),
    Vector("a header name with a bracket", GET + b"X(A): 1\r\n" + END, "400",
           nginx="silently drops the header; the client should learn that it was ignored (RFC 9110, 5.1)"),
    Vector("an underscore in a header name", GET + b"X_A: 1\r\n" + END, "400",
           nginx="silently drops the header; the client should learn that it was ignored",
           haproxy="forwards it; CGI and ASP.NET read X_A as X-A, so a client could forge an identity header"),
    Vector("headers that Connection names", GET + b"X-A: 1\r\nConnection: X-A\r\n" + END, "GET /portal",
           nginx="ignores what Connection names; an intermediary must remove those headers (RFC 9110, 7.6.1)",
           haproxy="ignores what Connection names (RFC 9110, 7.6.1)"),
    Vector("Connection names the identity header", GET + b"QVUSER: evil\r\nConnection: QVUSER\r\n" + END, "400",
           nginx="drops the header, because it does not know that it is an identity header",
           haproxy="drops no header and forwards the client's own: a forged identity"),
    Vector("Proxy and Forwarded", GET + b"Proxy-X: 1\r\nForwarded: for=1\r\n" + END, "GET /portal",
           nginx="forwards them; only the gateway may describe the client (RFC 7239, 8.1)",
           haproxy="forwards them (RFC 7239, 8.1)"),
    Vector("TE and Keep-Alive", GET + b"TE: trailers\r\nKeep-Alive: 5\r\n" + END, "GET /portal",
           haproxy="forwards them; both are hop-by-hop headers (RFC 9110, 7.6.1)"),
    # ------------------------------------------------------------ the host
    Vector("no host", b"GET /portal HTTP/1.1\r\n" + END, "400",
           haproxy="serves it without a Host; a server must respond with 400 (RFC 9112, 3.2)"),
    Vector("two hosts", GET + b"Host: h\r\n" + END, "400"),
    Vector("a host that is a path", b"GET /portal HTTP/1.1\r\nHost: g/../h\r\n" + END, "400",
           haproxy="forwards it; it would end up in links, logs and X-Forwarded-Host (RFC 9110, 7.2)"),
    Vector("a host that is a path, in HTTP/1.0", b"GET /portal HTTP/1.0\r\nHost: g/../h\r\n" + END, "400",
           haproxy="forwards it (RFC 9110, 7.2)"),
    Vector("a user in the host", b"GET /portal HTTP/1.1\r\nHost: a@g\r\n" + END, "400",
           nginx="forwards it; a host has no user part (RFC 9110, 7.2)",
           haproxy="forwards it (RFC 9110, 7.2)"),
    Vector("an absolute target of another host", line(b"GET http://h/portal HTTP/1.1"), "400",
           nginx="lets the target override Host, as RFC 9112, 3.2.2 says; the gateway refuses two hosts"),
    # ------------------------------------------------------------ request lines and targets
    Vector("no version", b"GET /portal\r\n" + END, "400",
           nginx="responds as HTTP/0.9, without status and length, and forwards the request as HTTP/1.1"),
    Vector("HTTP/1.0", line(b"GET /portal HTTP/1.0"), "GET /portal"),
    Vector("HTTP/0.9 by name", line(b"GET /portal HTTP/0.9"), "400",
           haproxy="reads it as HTTP/1.0; HTTP/0.9 has no such request line (RFC 9112, 3)"),
    Vector("HTTP/2.0 by name", line(b"GET /portal HTTP/2.0"), "400",
           haproxy="reads it as HTTP/1.1; HTTP/2 does not begin like this (RFC 9113, 3)"),
    Vector("HTTP/1.9", line(b"GET /portal HTTP/1.9"), "400",
           nginx="reads it as 1.1, as RFC 9110, 2.5 says; no client sends it, and llhttp does not accept it",
           haproxy="reads it as 1.1, as RFC 9110, 2.5 says"),
    Vector("two blanks", line(b"GET  /portal HTTP/1.1"), "GET /portal"),
    Vector("a tab for a blank", line(b"GET\t/portal HTTP/1.1"), "400",
           haproxy="accepts a tab; the grammar has a single space (RFC 9112, 3)"),
    Vector("a blank in the target", line(b"GET /por tal HTTP/1.1"), "400"),
    Vector("a method in lower case", line(b"get /portal HTTP/1.1"), "400",
           haproxy="forwards any method; methods are case-sensitive and must be listed (RFC 9110, 9.1)"),
    Vector("TRACE", line(b"TRACE /portal HTTP/1.1"), "405",
           haproxy="forwards any method; TRACE would show scripts headers that they must not see (RFC 9110, 9.3.8)"),
    Vector("CONNECT", line(b"CONNECT g:80 HTTP/1.1"), "405",
           haproxy="forwards any method; a gateway does not tunnel (RFC 9110, 9.3.6)"),
    Vector("the target *", line(b"OPTIONS * HTTP/1.1"), "400",
           haproxy="forwards it; access rules need a path, and this target has none (RFC 9112, 3.2.4)"),
    Vector("a fragment", line(b"GET /portal#a HTTP/1.1"), "400",
           nginx="forwards it; clients never send a fragment (RFC 9110, 7.1)"),
    Vector("dot segments", line(b"GET /a/../b HTTP/1.1"), "400",
           nginx=PATHS,
           haproxy=PATHS),
    Vector("encoded dot segments", line(b"GET /a/%2e%2e/b HTTP/1.1"), "400",
           nginx=PATHS,
           haproxy=PATHS),
    Vector("an encoded slash", line(b"GET /a%2fb HTTP/1.1"), "400",
           nginx=PATHS,
           haproxy=PATHS),
    Vector("a backslash", line(b"GET /a\\b HTTP/1.1"), "400",
           nginx=PATHS,
           haproxy=PATHS),
    Vector("two slashes", line(b"GET //h/b HTTP/1.1"), "400",
           nginx=PATHS,
           haproxy=PATHS),
    Vector("a semicolon", line(b"GET /a;b HTTP/1.1"), "400",
           nginx=PATHS,
           haproxy=PATHS),
    Vector("an escape within an escape", line(b"GET /a%252fb HTTP/1.1"), "400",
           nginx=PATHS,
           haproxy=PATHS),
    Vector("an escaped NUL", line(b"GET /a%00b HTTP/1.1"), "400",
           haproxy=PATHS),
    Vector("half an escape", line(b"GET /a%4 HTTP/1.1"), "400",
           haproxy=PATHS),
    *(
        Vector(name, line(b"GET " + target + b" HTTP/1.1"), "400", nginx=WINDOWS, haproxy=WINDOWS)
        for name, target in (
            ("a name that ends with a dot", b"/docs/secret.pdf."),
            ("a folder that ends with a dot", b"/admin./x"),
            ("a name that ends with a blank", b"/docs/secret.pdf%20"),
            ("a stream of a file", b"/docs/secret.pdf::$DATA"),
            ("an 8.3 name", b"/docs/SECRET~1.PDF"),
            ("a device", b"/docs/NUL.pdf"),
            ("an escaped question mark", b"/docs/pub%3F/secret.pdf"),
        )
    ),
    Vector("bytes above ASCII", line(b"GET /\xc3\xa9 HTTP/1.1"), "400",
           nginx="forwards them; a target is ASCII (RFC 3986, 2)"),
    # ------------------------------------------------------------ upgrades and expectations
    Vector("an upgrade to h2c", GET + b"Upgrade: h2c\r\nConnection: Upgrade\r\n" + END, "GET /portal",
           haproxy="forwards the upgrade, so a tunnel would bypass all rules (RFC 9113 has removed h2c)"),
    Vector("an upgrade with a body", POST + b"Upgrade: websocket\r\nContent-Length: 3\r\n" + END + b"abc", "400",
           nginx="forwards the body and drops the upgrade",
           haproxy="forwards both, so where the tunnel begins is ambiguous (RFC 9110, 7.8)"),
    Vector("Expect in HTTP/1.0", POST.replace(b"1.1", b"1.0") + b"Expect: 100-continue\r\nContent-Length: 3\r\n" + END
           + b"abc", "POST /form 'abc'",
           haproxy="forwards the expectation; a server must ignore it in HTTP/1.0 (RFC 9110, 10.1.1)"),
)  # fmt: skip
