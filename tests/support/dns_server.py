"""A small DNS server on loopback, for SRV records."""

import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import dns.flags
import dns.message
import dns.rcode
import dns.rrset

from support.ports import free_port

Records = Mapping[str, Sequence[str]]
"""Name -> its SRV records as "priority weight port target"."""


@contextmanager
def dns_server(records: Records, address: str = "127.0.0.1") -> Iterator[str]:
    """Serves these records over UDP until the end of the block; every other name does not exist."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind((address, free_port()))
        serving = threading.Thread(target=_serve, args=(listening, records), daemon=True)
        serving.start()
        yield f"{address}:{listening.getsockname()[1]}"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ending:
            ending.sendto(b"", listening.getsockname())
        serving.join(5)


def _serve(listening: socket.socket, records: Records) -> None:
    while True:
        data, client = listening.recvfrom(4096)
        if not data:
            return
        query = dns.message.from_wire(data)
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA | dns.flags.AA
        name = query.question[0].name
        found = records.get(name.to_text(omit_final_dot=True))
        if found is None:
            response.set_rcode(dns.rcode.NXDOMAIN)
        else:
            response.answer.append(dns.rrset.from_text(name, 60, "IN", "SRV", *found))
        listening.sendto(response.to_wire(), client)
