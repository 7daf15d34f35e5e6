"""The directory that the small LDAP server holds: CORP, with alice in BI Users."""

from support.ldap_server import Attributes

BASE = "DC=corp,DC=example"
DOMAIN = (1, 5, 21, 10, 20, 30)
DOMAIN_SID = "S-1-5-21-10-20-30"


def sid(*rest: int) -> bytes:
    """The bytes of a SID of the domain."""
    numbers = (*DOMAIN[2:], *rest)
    return bytes([1, len(numbers)]) + (5).to_bytes(6, "big") + b"".join(n.to_bytes(4, "little") for n in numbers)


def person(name: str, rid: int, **more: bytes) -> Attributes:
    """A person in Domain Users and in group 2000."""
    return {
        "objectSid": [sid(rid)],
        "objectClass": [b"top", b"person", b"user"],
        "sAMAccountName": [name.encode()],
        "displayName": [name.title().encode()],
        "primaryGroupID": [b"513"],
        "tokenGroups": [sid(2000)],
        "userAccountControl": [b"512"],
        "accountExpires": [b"9223372036854775807"],
        "msDS-User-Account-Control-Computed": [b"0"],
    } | {key.replace("_", "-"): [value] for key, value in more.items()}


def objects() -> dict[str, Attributes]:
    alice = person("alice", 1001)
    return {
        "": {"configurationNamingContext": [f"CN=Configuration,{BASE}".encode()]},
        BASE: {"objectSid": [sid()]},
        f"CN=CORP,CN=Partitions,CN=Configuration,{BASE}": {
            "nCName": [BASE.encode()],
            "nETBIOSName": [b"CORP"],
            "dnsRoot": [b"corp.example"],
        },
        f"CN=alice,{BASE}": alice,
        f"<SID={DOMAIN_SID}-1001>": alice,
        f"CN=BI Users,{BASE}": {
            "objectSid": [sid(2000)],
            "objectClass": [b"top", b"group"],
            "sAMAccountName": [b"BI Users"],
            "groupType": [b"-2147483646"],
        },
        f"CN=Mail,{BASE}": {
            "objectSid": [sid(2001)],
            "objectClass": [b"top", b"group"],
            "sAMAccountName": [b"Mail"],
            "groupType": [b"2"],
        },
    }
