"""A users file to test with, and an NTLM attempt as a client makes it."""

from pathlib import Path

from spnego._ntlm_raw.crypto import compute_response_v2, ntowfv2
from spnego._ntlm_raw.messages import FileTime, TargetInfo

from calgate.plugin.identity import NtlmAttempt
from calgate_users.ntlmv2 import nt_hash

FILE = f"""
# who may enter the demonstration
domains = ["DEMO", "BRANCH"]
groups = ["Auditors"]

[[users]]
name = "alice"
display_name = "Alice Archer"
groups = ["BI Users", "Sales"]
nt_hash = "{nt_hash("demo").hex()}"

[[users]]
name = "Bob"
domain = "BRANCH"
groups = ["BRANCH\\\\Till"]
nt_hash = "{nt_hash("till").hex()}"

[[users]]
name = "gone"
groups = ["BI Users"]
nt_hash = "{nt_hash("demo").hex()}"
disabled = true
"""


def write(folder: Path, text: str = FILE) -> Path:
    """Writes the file, readable by its owner only."""
    file = folder / "users.toml"
    file.touch(mode=0o600)
    file.write_text(text, encoding="utf-8")
    return file


def attempt(account: str, password: str, domain: str = "DEMO") -> NtlmAttempt:
    """Returns the response of a client with this password to a challenge."""
    challenge = bytes(range(8))
    key = ntowfv2(account, nt_hash(password), domain)
    nt, lm, _key = compute_response_v2(key, challenge, b"c" * 8, FileTime.now(), TargetInfo())
    return NtlmAttempt(domain, account, "PC1", challenge, nt, lm)
