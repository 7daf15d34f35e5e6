"""A small LDAP server that misbehaves on demand, in ways that a real domain controller cannot be made to.

It serves binds and searches from a dictionary (RFC 4511), over TLS from the start or after StartTLS.
"""

import re
import socket
import ssl
import struct
import threading
from collections.abc import Iterator, Mapping, Sequence

from support.certificates import Signed

SUCCESS, TIME_LIMIT, SIZE_LIMIT, REFERRAL, INVALID_SYNTAX, BUSY, NO_SUCH_OBJECT, INVALID_CREDENTIALS = (
    0,
    3,
    4,
    10,
    34,
    51,
    32,
    49,
)
_BIND, _SEARCH, _MODIFY, _EXTENDED = 0x60, 0x63, 0x66, 0x77
_BIND_DONE, _ENTRY, _SEARCH_DONE, _MODIFY_DONE, _EXTENDED_DONE = 0x61, 0x64, 0x65, 0x67, 0x78
_CUT_SHORT = {"busy": BUSY, "out of time": TIME_LIMIT, "over its size limit": SIZE_LIMIT}
_SUBTREE = 2
Attributes = Mapping[str, Sequence[bytes]]


class LdapServer:
    """Listens on 127.0.0.1. `mood` may be changed at any time:

    "well"; "silent" (accepts, and says nothing more); "silent searching"; "resetting" (after the first entry);
    "busy" (to every search); "out of time" and "over its size limit" (every search is cut short);
    "referring" (every bind is somebody else's). With `is_read_only` it refers every change to another server.
    """

    def __init__(
        self, signed: Signed, objects: Mapping[str, Attributes], *, password: str = "right", tls_first: bool = True
    ) -> None:
        self.mood = "well"
        self.is_read_only = False
        self.password = password
        self.binds: list[str] = []
        self.was_bound_in_the_open = False
        self.searches: list[str] = []
        self._objects = objects
        self._tls_first = tls_first
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(signed.certificate, signed.key)
        self._open: set[socket.socket] = set()
        self._stopped = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def url(self) -> str:
        return f"{'ldaps' if self._tls_first else 'ldap'}://localhost:{self.port}"

    def stop(self) -> None:
        """Closes all connections and the listener."""
        if self._stopped.is_set():
            return
        self._stopped.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.hang_up()
        for thread in self._threads:
            thread.join(5)

    def hang_up(self) -> None:
        """Closes all connections, as a domain controller does with idle ones."""
        for connection in list(self._open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def _accept(self) -> None:
        while not self._stopped.is_set():
            try:
                connection, _address = self._listener.accept()
            except OSError:
                return
            self._threads.append(threading.Thread(target=self._serve, args=(connection,)))
            self._threads[-1].start()

    def _serve(self, stream: socket.socket) -> None:
        try:
            if self.mood == "silent":
                self._open.add(stream)
                self._stopped.wait(10)
                return
            if self._tls_first:
                stream = self._context.wrap_socket(stream, server_side=True)
            self._open.add(stream)
            while True:
                stream = self._answer(stream, *_read(stream))
        except OSError:
            return
        finally:
            self._open.discard(stream)
            stream.close()

    def _answer(self, stream: socket.socket, number: bytes, kind: int, body: bytes) -> socket.socket:
        if kind == _EXTENDED:
            stream.sendall(_result(number, _EXTENDED_DONE, SUCCESS))
            self._open.discard(stream)
            stream = self._context.wrap_socket(stream, server_side=True)
            self._open.add(stream)
        elif kind == _BIND:
            self.was_bound_in_the_open |= not isinstance(stream, ssl.SSLSocket)
            _version, _name, (_tag, password) = _elements(body)
            self.binds.append(password.decode())
            code = SUCCESS if self.binds[-1] == self.password else INVALID_CREDENTIALS
            code = REFERRAL if self.mood == "referring" else code
            stream.sendall(_result(number, _BIND_DONE, code))
        elif kind == _MODIFY:
            stream.sendall(_result(number, _MODIFY_DONE, REFERRAL if self.is_read_only else SUCCESS))
        elif kind == _SEARCH:
            (_tag, base), (_tag, scope), *_limits, (_filter_tag, wanted), _attributes = _elements(body)
            self._search(stream, number, base.decode(), scope[0], wanted)
        return stream

    def _search(self, stream: socket.socket, number: bytes, base: str, scope: int, wanted: bytes) -> None:
        self.searches.append(base)
        if self.mood == "silent searching":
            self._stopped.wait(10)
            return
        if self.mood in _CUT_SHORT:
            stream.sendall(_result(number, _SEARCH_DONE, _CUT_SHORT[self.mood]))
            return
        if scope == _SUBTREE:
            found = {dn: have for dn, have in self._objects.items() if dn.endswith(base) and _fits(have, wanted)}
        else:
            found = {base: self._objects[base]} if base in self._objects else {}
            if not found and self._is_elsewhere(base):
                stream.sendall(_result(number, _SEARCH_DONE, REFERRAL))
                return
        for dn, values in found.items():
            stream.sendall(_entry(number, dn, values))
            if self.mood == "resetting":
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                raise OSError("reset")
        stream.sendall(_result(number, _SEARCH_DONE, SUCCESS if found or scope == _SUBTREE else NO_SUCH_OBJECT))

    def _is_elsewhere(self, dn: str) -> bool:
        """Whether a DN is below none of the domains here: a domain controller then refers to another one."""
        return ",DC=" in dn and not any(dn.endswith(f",{base}") for base in self._objects if base.startswith("DC="))


_SPN = "servicePrincipalName"
_NAMES = ("sAMAccountName", "nCName", "userPrincipalName", "cn", _SPN)


_IN_CHAIN = b"1.2.840.113556.1.4.1941"


def _fits(values: Attributes, wanted: bytes) -> bool:
    """Enough of a filter: it names the object, its first letter, or wants every person."""
    if wanted == _SPN.encode():  # (servicePrincipalName=*)
        return _SPN in values
    if _pack(0x04, b"person") in wanted:
        return b"person" in values.get("objectClass", ())
    if _IN_CHAIN in wanted:
        return any(group in wanted for group in values.get("memberOf", ()))
    if first := re.search(re.escape(_pack(0x04, b"sAMAccountName")) + rb"0\x03\x80\x01(.)", wanted):  # (name=x*)
        return any(name[:1].lower() == first[1].lower() for name in values.get("sAMAccountName", ()))
    pairs = [_pack(0x04, key.encode()) + _pack(0x04, value) for key in _NAMES for value in values.get(key, ())]
    return any(pair in wanted for pair in pairs)


def _read(stream: socket.socket) -> tuple[bytes, int, bytes]:
    """A message's number, the tag of its operation, and its body."""
    head = _exactly(stream, 2)
    length = head[1]
    if length & 0x80:
        length = int.from_bytes(_exactly(stream, length & 0x7F), "big")
    (_tag, number), (kind, body), *_controls = _elements(_exactly(stream, length))
    return number, kind, body


def _exactly(stream: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        piece = stream.recv(length - len(data))
        if not piece:
            raise OSError("closed")
        data += piece
    return data


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        tag, length, at = data[at], data[at + 1], at + 2
        if length & 0x80:
            size = length & 0x7F
            length, at = int.from_bytes(data[at : at + size], "big"), at + size
        yield tag, data[at : at + length]
        at += length


def _pack(tag: int, content: bytes) -> bytes:
    return (
        bytes([tag, 0x84]) + len(content).to_bytes(4, "big") + content
        if len(content) > 127
        else bytes([tag, len(content)]) + content
    )


def _message(number: bytes, kind: int, body: bytes) -> bytes:
    return _pack(0x30, _pack(0x02, number) + _pack(kind, body))


def _result(number: bytes, kind: int, code: int) -> bytes:
    return _message(number, kind, _pack(0x0A, bytes([code])) + _pack(0x04, b"") + _pack(0x04, b""))


def _entry(number: bytes, dn: str, values: Attributes) -> bytes:
    attributes = b"".join(
        _pack(0x30, _pack(0x04, name.encode()) + _pack(0x31, b"".join(_pack(0x04, value) for value in several)))
        for name, several in values.items()
        if several
    )
    return _message(number, _ENTRY, _pack(0x04, dn.encode()) + _pack(0x30, attributes))
