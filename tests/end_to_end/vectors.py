"""Requests as raw bytes, what the gateway makes of each, and why nginx and HAProxy may make something else of it.

One row a rule. `verdict` is what reaches the document server, or the status of the refusal; how it is written:
`POST /form 'abc' x-a=1` is a method, a target, a body and the fields of that message which begin with X- or are
named in WATCHED. `nginx` and `haproxy` stay empty where they do the same; else they say in words what they do and why
the gateway does not.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Vector:
    """One request, or what pretends to be one; COOKIE stands where the session's goes in."""

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
    """A request of this request line."""
    return text + b"\r\nHost: g\r\n" + END


PATHS = "passes the path on as it came and leaves its reading to the server behind; a rule needs one (RFC 3986, 6.2.2)"
WINDOWS = "passes it on; Windows resolves it to another file than the path names (Naming Files, Paths, and Namespaces)"
LF = "takes LF for CRLF, as it may of lines (RFC 9112, 2.2); of two parsers in a row both must"
LF_IN_CHUNKS = "takes LF for CRLF; smuggling by chunk extensions lived on it (RFC 9112, 7.1)"

VECTORS = (
    # ------------------------------------------------------------ plain ones, that all agree about
    Vector("a GET", GET + END, "GET /portal"),
    Vector("a query as it came", line(b"GET /portal?a=%41&b=1;2 HTTP/1.1"), "GET /portal?a=%41&b=1;2"),
    Vector("a harmless escape as it came", line(b"GET /a%20b HTTP/1.1"), "GET /a%20b"),
    Vector("a POST by length", POST + b"Content-Length: 3\r\n" + END + b"abc", "POST /form 'abc'"),
    Vector("a POST in chunks", CHUNKED + b"3\r\nabc\r\n0\r\n\r\n", "POST /form 'abc'"),
    Vector("a GET with a body", GET + b"Content-Length: 3\r\n" + END + b"abc", "GET /portal 'abc'"),
    Vector("blanks about a length", POST + b"Content-Length: \t3 \r\n" + END + b"abc", "POST /form 'abc'",
           nginx="takes no tab before a length; optional blanks are part of the grammar (RFC 9110, 5.5)"),
    Vector("CHUNKED in capitals", CHUNKED.replace(b"chunked", b"CHUNKED") + b"3\r\nabc\r\n0\r\n\r\n",
           "POST /form 'abc'"),
    Vector("two requests at once", GET + b"Cookie: COOKIE\r\n\r\n" + line(b"GET /b HTTP/1.1"), "GET /portal, GET /b"),
    Vector("empty lines before a request", b"\r\n\r\n" + GET + END, "GET /portal"),
    Vector("an absolute target of this host", line(b"GET http://g/portal HTTP/1.1"), "GET /portal",
           haproxy="passes the absolute form on; a document server expects a path (RFC 9112, 3.2.2)"),
    # ------------------------------------------------------------ lengths
    Vector("two lengths that differ", POST + b"Content-Length: 3\r\nContent-Length: 4\r\n" + END + b"abcd", "400"),
    Vector("two lengths that agree", POST + b"Content-Length: 3\r\nContent-Length: 3\r\n" + END + b"abc", "400",
           haproxy="makes one of them, as it may; refusing is as right and needs no comparing (RFC 9112, 6.3)"),
    Vector("a list of lengths", POST + b"Content-Length: 3, 3\r\n" + END + b"abc", "400",
           haproxy="makes one of them, as it may; refusing is as right (RFC 9112, 6.3)"),
    Vector("a signed length", POST + b"Content-Length: +3\r\n" + END + b"abc", "400"),
    Vector("a negative length", POST + b"Content-Length: -3\r\n" + END + b"abc", "400"),
    Vector("a hexadecimal length", POST + b"Content-Length: 0x3\r\n" + END + b"abc", "400"),
    Vector("an underscore in a length", POST + b"Content-Length: 0_3\r\n" + END + b"abc", "400"),
    Vector("an empty length", POST + b"Content-Length:\r\n" + END + b"abc", "400"),
    Vector("an endless length", POST + b"Content-Length: 99999999999999999999\r\n" + END + b"abc", "400"),
    Vector("a blank before the colon", POST + b"Content-Length : 3\r\n" + END + b"abc", "400"),
    # ------------------------------------------------------------ transfer codings
    Vector("length and chunks", CHUNKED.replace(b"Tr", b"Content-Length: 5\r\nTr", 1) + b"0\r\n\r\n", "400",
           haproxy="drops the length and frames anew, as it may; the sender is a smuggler or broken (RFC 9112, 6.1)"),
    Vector("gzip, chunked", CHUNKED.replace(b"chunked", b"gzip, chunked") + b"0\r\n\r\n", "400"),
    Vector("chunked twice", CHUNKED.replace(b"chunked", b"chunked, chunked") + b"0\r\n\r\n", "400"),
    Vector("chunked, identity", CHUNKED.replace(b"chunked", b"chunked, identity") + b"0\r\n\r\n", "400"),
    Vector("identity", POST + b"Transfer-Encoding: identity\r\n" + END, "400"),
    Vector("xchunked", CHUNKED.replace(b"chunked", b"xchunked") + b"0\r\n\r\n", "400"),
    Vector("a vertical tab before chunked", CHUNKED.replace(b"chunked", b"\x0bchunked") + b"0\r\n\r\n", "400"),
    Vector("a parameter of chunked", CHUNKED.replace(b"chunked", b"chunked;q=1") + b"0\r\n\r\n", "400"),
    Vector("chunks in HTTP/1.0", CHUNKED.replace(b"HTTP/1.1", b"HTTP/1.0") + b"3\r\nabc\r\n0\r\n\r\n", "400",
           haproxy="frames them anew; the framing is to be taken as faulty (RFC 9112, 6.1)"),
    # ------------------------------------------------------------ chunks
    Vector("a chunk extension", CHUNKED + b"3;x=y\r\nabc\r\n0\r\n\r\n", "POST /form 'abc'"),
    Vector("trailers", CHUNKED + b"3\r\nabc\r\n0\r\nX-Late: 1\r\n\r\n", "POST /form 'abc'",
           haproxy="passes them on; a name in a trailer would escape what is asked of a header (RFC 9110, 6.5.1)"),
    Vector("a negative chunk", CHUNKED + b"-3\r\nabc\r\n0\r\n\r\n", "400"),
    Vector("a chunk with 0x", CHUNKED + b"0x3\r\nabc\r\n0\r\n\r\n", "400"),
    Vector("an endless chunk", CHUNKED + b"ffffffffffffffffff\r\nabc\r\n0\r\n\r\n", "400"),
    Vector("a chunk longer than said", CHUNKED + b"3\r\nabcd\r\n0\r\n\r\n", "400"),
    Vector("a chunk that ends with LF", CHUNKED + b"3\r\nabc\n0\r\n\r\n", "400",
           nginx=LF_IN_CHUNKS,
           haproxy=LF_IN_CHUNKS),
    Vector("a chunk size that ends with LF", CHUNKED + b"3\nabc\r\n0\r\n\r\n", "400",
           nginx=LF_IN_CHUNKS,
           haproxy=LF_IN_CHUNKS),
    Vector("a blank before a chunk size", CHUNKED + b" 3\r\nabc\r\n0\r\n\r\n", "400"),
    Vector("a bare CR in a chunk extension", CHUNKED + b"3;a\rb\r\nabc\r\n0\r\n\r\n", "400"),
    # ------------------------------------------------------------ lines and fields
    Vector("bare LF", (GET + END).replace(b"\r\n", b"\n"), "400",
           nginx=LF,
           haproxy=LF),
    Vector("a bare LF after a field", GET + b"X-A: 1\n" + END, "400",
           nginx=LF,
           haproxy=LF),
    Vector("a bare CR in a field", GET + b"X-A: 1\rX-B: 2\r\n" + END, "400"),
    Vector("a NUL in a field", GET + b"X-A: 1\x002\r\n" + END, "400",
           haproxy="passes it on, and a server in C ends the value there; invalid and dangerous (RFC 9110, 5.5)"),
    Vector("a folded field", GET + b"X-A: 1\r\n 2\r\n" + END, "400",
           haproxy="makes blanks of the fold, as it may; refusing is the other choice (RFC 9112, 5.2)"),
    Vector("a fold before the first field", b"GET /portal HTTP/1.1\r\n X-A: 1\r\nHost: g\r\n" + END, "400"),
    Vector("a field without a name", GET + b": 1\r\n" + END, "400"),
    Vector("a field without a colon", GET + b"X-A\r\n" + END, "400",
           nginx="takes it for an empty field; it is none (RFC 9112, 5)"),
    Vector("a field name with a bracket", GET + b"X(A): 1\r\n" + END, "400",
           nginx="drops the field in silence; a client should hear that it was not heard (RFC 9110, 5.1)"),
    Vector("an underscore in a field name", GET + b"X_A: 1\r\n" + END, "400",
           nginx="drops the field in silence; a client should hear that it was not heard",
           haproxy="passes it on; a CGI or ASP.NET behind reads X_A as X-A, and so a forged identity header"),
    Vector("fields that Connection names", GET + b"X-A: 1\r\nConnection: X-A\r\n" + END, "GET /portal",
           nginx="does not look at what Connection names; an intermediary must remove it (RFC 9110, 7.6.1)",
           haproxy="does not look at what Connection names (RFC 9110, 7.6.1)"),
    Vector("Connection names the identity", GET + b"QVUSER: evil\r\nConnection: QVUSER\r\n" + END, "400",
           nginx="drops the header, which it was not told is one of identity",
           haproxy="drops no header and believes what came: the other way to lose or to forge an identity"),
    Vector("Proxy and Forwarded", GET + b"Proxy-X: 1\r\nForwarded: for=1\r\n" + END, "GET /portal",
           nginx="passes them on; who spoke of the client is ours to say (RFC 7239, 8.1)",
           haproxy="passes them on (RFC 7239, 8.1)"),
    Vector("TE and Keep-Alive", GET + b"TE: trailers\r\nKeep-Alive: 5\r\n" + END, "GET /portal",
           haproxy="passes them on; both belong to one hop (RFC 9110, 7.6.1)"),
    # ------------------------------------------------------------ the host
    Vector("no host", b"GET /portal HTTP/1.1\r\n" + END, "400",
           haproxy="serves it without; a server must answer 400 (RFC 9112, 3.2)"),
    Vector("two hosts", GET + b"Host: h\r\n" + END, "400"),
    Vector("a host that is a path", b"GET /portal HTTP/1.1\r\nHost: g/../h\r\n" + END, "400",
           haproxy="passes it on; it would stand in links, logs and X-Forwarded-Host (RFC 9110, 7.2)"),
    Vector("that in HTTP/1.0", b"GET /portal HTTP/1.0\r\nHost: g/../h\r\n" + END, "400",
           haproxy="passes it on (RFC 9110, 7.2)"),
    Vector("a user in the host", b"GET /portal HTTP/1.1\r\nHost: a@g\r\n" + END, "400",
           nginx="passes it on; a host has no user part (RFC 9110, 7.2)",
           haproxy="passes it on (RFC 9110, 7.2)"),
    Vector("an absolute target of another host", line(b"GET http://h/portal HTTP/1.1"), "400",
           nginx="believes the target over Host, as RFC 9112, 3.2.2 says; what Host stood for is then unsaid"),
    # ------------------------------------------------------------ request lines and targets
    Vector("no version", b"GET /portal\r\n" + END, "400",
           nginx="answers as HTTP/0.9, which has no status and no length, and forwards as HTTP/1.1"),
    Vector("HTTP/1.0", line(b"GET /portal HTTP/1.0"), "GET /portal"),
    Vector("HTTP/0.9 by name", line(b"GET /portal HTTP/0.9"), "400",
           haproxy="takes it for HTTP/1.0; there is no such request line (RFC 9112, 3)"),
    Vector("HTTP/2.0 by name", line(b"GET /portal HTTP/2.0"), "400",
           haproxy="takes it for HTTP/1.1; HTTP/2 does not begin so (RFC 9113, 3)"),
    Vector("HTTP/1.9", line(b"GET /portal HTTP/1.9"), "400",
           nginx="takes it for 1.1, as RFC 9110, 2.5 says; nobody sends it, and the gateway's parser does not know it",
           haproxy="takes it for 1.1, as RFC 9110, 2.5 says"),
    Vector("two blanks", line(b"GET  /portal HTTP/1.1"), "GET /portal"),
    Vector("a tab for a blank", line(b"GET\t/portal HTTP/1.1"), "400",
           haproxy="takes a tab for a blank; one blank is the grammar (RFC 9112, 3)"),
    Vector("a blank in the target", line(b"GET /por tal HTTP/1.1"), "400"),
    Vector("a method in small letters", line(b"get /portal HTTP/1.1"), "400",
           haproxy="passes on any method; methods are told apart by case, and only those listed pass (RFC 9110, 9.1)"),
    Vector("TRACE", line(b"TRACE /portal HTTP/1.1"), "405",
           haproxy="passes on any method; TRACE shows a script the headers that it must not see (RFC 9110, 9.3.8)"),
    Vector("CONNECT", line(b"CONNECT g:80 HTTP/1.1"), "405",
           haproxy="passes on any method; a gateway is no tunnel (RFC 9110, 9.3.6)"),
    Vector("the target *", line(b"OPTIONS * HTTP/1.1"), "400",
           haproxy="passes it on; rules are about paths, and it has none (RFC 9112, 3.2.4)"),
    Vector("a fragment", line(b"GET /portal#a HTTP/1.1"), "400",
           nginx="passes it on; a fragment is never sent (RFC 9110, 7.1)"),
    Vector("dots", line(b"GET /a/../b HTTP/1.1"), "400",
           nginx=PATHS,
           haproxy=PATHS),
    Vector("encoded dots", line(b"GET /a/%2e%2e/b HTTP/1.1"), "400",
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
            ("an escaped question mark", b"/docs/pub%3F/secret.pdf"),
        )
    ),
    Vector("bytes above ASCII", line(b"GET /\xc3\xa9 HTTP/1.1"), "400",
           nginx="passes them on; a target is ASCII (RFC 3986, 2)"),
    # ------------------------------------------------------------ upgrades and expectations
    Vector("an upgrade to h2c", GET + b"Upgrade: h2c\r\nConnection: Upgrade\r\n" + END, "GET /portal",
           haproxy="passes the upgrade on and would be a tunnel past all its rules (RFC 9113 has done away with h2c)"),
    Vector("an upgrade with a body", POST + b"Upgrade: websocket\r\nContent-Length: 3\r\n" + END + b"abc", "400",
           nginx="forwards the body and drops the upgrade",
           haproxy="forwards both; where the tunnel begins is then a guess (RFC 9110, 7.8)"),
    Vector("Expect in HTTP/1.0", POST.replace(b"1.1", b"1.0") + b"Expect: 100-continue\r\nContent-Length: 3\r\n" + END
           + b"abc", "POST /form 'abc'",
           haproxy="passes the expectation on; a server must ignore it in HTTP/1.0 (RFC 9110, 10.1.1)"),
)  # fmt: skip
