"""What every refusal code and exit code means to an administrator, and the guide's page of them.

    python -m calgate.commands.error_reference deploy/guide/errors.md

writes it; `make reference` calls it.
"""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from calgate.endpoints.refusals import InternalError
from calgate.plugin.errors import Refusal


@dataclass(frozen=True, slots=True)
class Help:
    """What happened, what an administrator can do about it, and the chapter of the guide that says more."""

    what: str
    remedy: str
    chapter: str = ""


_LOG = "the log has the precise reason under the reference number"
_REQUEST = "find the request in the log by its reference number; its `reason` says what could not be read"

REFUSALS: Mapping[str, Help] = {
    "bad-request": Help(
        "The request could be read in more than one way, so it was not read at all",
        f"{_REQUEST}. A program that causes it must be corrected; browsers do not",
    ),
    "request-timeout": Help("The client began a body and stopped sending it", "look at the network between them"),
    "method-not-allowed": Help(
        "The method is not among `listen.methods`, or the path takes others",
        "add the method to `listen.methods` if the document server needs it",
    ),
    "too-large": Help("A body that the gateway must inspect is above its limit", f"{_REQUEST}"),
    "headers-too-large": Help(
        "A header, or all of them together, are above the limit",
        "have the user delete this site's cookies; a Kerberos ticket with very many groups is another cause",
        "browsers.md",
    ),
    "sign-in-needed": Help(
        "No proof of identity came with the request; a browser that is set up sends one with its next",
        "if users see this page, their browser does not trust the site: put it into the intranet zone",
        "browsers.md",
    ),
    "sign-in-failed": Help(
        "The password is wrong, or the ticket cannot be decrypted",
        f"{_LOG}; give it the token with `calgate check --token`, and look at the keytab with `calgate check`",
        "keytab.md",
    ),
    "ntlm-off": Help(
        "The browser sent NTLM, and only Kerberos is on",
        "it could not get a ticket: check the SPN, the DNS name (an A record) and the intranet zone",
        "ntlm.md",
    ),
    "ntlm-behind-proxy": Help(
        "NTLM came through a proxy that shares its connections between users",
        "use Kerberos, or a TCP proxy with the PROXY protocol",
        "proxies.md",
    ),
    "binding-missing": Help(
        'The sign-in is not bound to its TLS connection, and `negotiate.channel_binding` is "require"',
        "if TLS ends in front of the gateway, name that certificate in `negotiate.binding_certificate`",
        "proxies.md",
    ),
    "provider-refused": Help(
        "The OpenID Connect provider did not sign the user in, or its response was not for this browser",
        f"{_LOG}; a response is valid for ten minutes, once, and in the browser that began the sign-in",
        "oidc.md",
    ),
    "account-disabled": Help("The account is disabled in the directory", "enable it there", "keep-out.md"),
    "account-expired": Help("The account has expired in the directory", "extend it there", "keep-out.md"),
    "account-locked": Help(
        "Too many wrong passwords locked the account", "unlock it in the directory, or wait", "keep-out.md"
    ),
    "account-restricted": Help(
        "The account may not sign in at this time or from this machine",
        "change its logon hours or workstations in the directory",
        "keep-out.md",
    ),
    "password-expired": Help(
        "The password has expired", "the user changes it on a Windows machine, or on the page of [password]"
    ),
    "account-unknown": Help(
        "The proof is valid, and no directory has the account",
        "add the domain of the account to `[[ldap.domains]]`, or the user to the users file",
        "groups.md",
    ),
    "not-delegated": Help(
        "The route signs users in by Kerberos delegation, and the domain does not let the gateway act for this user",
        "`calgate check --as USER` names what is missing in the domain",
        "delegation.md",
    ),
    "forbidden": Help(
        "No access rule grants the request, or one denies it",
        "`calgate access explain USER --document D` shows every rule's verdict",
        "groups.md",
    ),
    "cross-site": Help(
        "A page of another site made the request",
        "if your portal frames the site, name the portal in `session.embed_in`; behind a proxy that changes the Host"
        " header, set `listen.public_origin`",
        "proxies.md",
    ),
    "too-many-sign-ins": Help(
        "Too many failed sign-ins of the account or from the address; nobody can try for a while",
        "wait as long as `negotiate.guard` says; the log names account and address",
        "ntlm.md",
    ),
    "store-unavailable": Help(
        "Redis or Valkey does not respond", "`calgate check`; then look at the store's own log", "several.md"
    ),
    "directory-unavailable": Help(
        "No domain controller responds, and the user is not in the cache", "`calgate check`", "monitor.md"
    ),
    "logon-server-unavailable": Help(
        "winbindd or its domain controller does not respond, so no NTLM sign-in can be verified",
        "`wbinfo --ping-dc`; `systemctl status winbind`",
        "ntlm.md",
    ),
    "provider-unavailable": Help(
        "The OpenID Connect provider does not respond, or its response cannot be used",
        "`calgate check` tries it; the log line `oidc: …` has the reason",
        "oidc.md",
    ),
    "rules-unresolved": Help(
        "An access rule that might apply names a group that no directory has",
        "`calgate check` names the group: correct its name in the settings file",
        "groups.md",
    ),
    "starting": Help("The gateway has not resolved its access rules yet", "wait some seconds; else `calgate check`"),
    "no-upstream": Help(
        "All document servers of the route fail, are unhealthy or are drained",
        "`calgate upstreams list`, then `calgate check`",
        "qlikview.md",
    ),
    "bad-gateway": Help(
        "The document server cannot be reached, or its response cannot be read in exactly one way",
        f"`calgate check`; {_LOG}",
        "qlikview.md",
    ),
    "gateway-timeout": Help(
        "The document server did not respond within `answer_timeout`",
        "look at its load; raise the setting for documents that take longer",
        "qlikview.md",
    ),
    "no-cal": Help(
        "Access was granted, and no CAL is available",
        "`calgate cals explain USER` shows every pool as it was",
        "full.md",
    ),
    "no-cal-held": Help(
        "A page that was left open sent a request after its CAL had ended",
        "the user opens the document again; `session.idle_timeout` of the license says when a CAL ends",
        "cals.md",
    ),
    "in-use-elsewhere": Help(
        'The user\'s Named CAL is in use on another machine, and `other_client` is "refuse"',
        "the user signs out there; `calgate cals who-has USER` names the machine",
        "cals.md",
    ),
    "taken-over": Help(
        'Another machine of the user took the Named CAL over, because `other_client` is "take-over"',
        "the user continues on one of the two",
        "cals.md",
    ),
    "cookie-needed": Help(
        "A browser opened a document on a public route, and has not sent the cookie back that its CAL is tied to",
        "nothing, for a program's first request; if visitors see the page, their browsers refuse the site's cookies",
        "programs.md",
    ),
    "anonymous-full": Help(
        "Browsers on public routes hold all the CALs that `anonymous.max` of the license allows",
        "`calgate cals list` shows them; raise `anonymous.max` if users can spare more",
        "programs.md",
    ),
    "address-full": Help(
        "Browsers at one address, on public routes, hold all the CALs that `anonymous.per_address` allows, or requested"
        " 20 documents in a minute that the document server did not serve",
        "raise it if many visitors share an address; behind a proxy, name the proxy in `listen.trusted_proxies`",
        "programs.md",
    ),
    "none-for-anonymous": Help(
        "No Session CAL is free for a browser on a public route: users have them, wait for them, or have them reserved",
        "`calgate cals list` shows who has them",
        "programs.md",
    ),
    InternalError.code: Help(
        "A fault of the gateway",
        "report it with the traceback in the log; in private if security could be affected (SECURITY.md)",
    ),
}

DEFAULT_EXIT: Mapping[int, str] = {
    0: "It is done.",
    1: "It could not be done; one line on standard error says why.",
    2: "Wrong use, or the settings file is faulty: each fault with its line.",
}
_PLANNED = {0: "Nothing is to be done, or it is done.", 3: "Changes are planned; `--apply` makes them."}
EXITS: Mapping[str, Mapping[int, str]] = {
    "calgate run": {
        0: "A signal stopped it.",
        1: "An address, certificate, keytab or store cannot be used. systemd tries again.",
        2: "The settings file is faulty. systemd does not try again.",
    },
    "calgate check": {0: "Nothing fails.", 1: "Something fails.", 2: "The settings file is faulty."},
    "calgate access explain": {0: "The user may.", 1: "The user is refused, or is not known."},
    "calgate config validate": {0: "The file has no faults."},
    "calgate cals plan": {0: "There is a result.", 1: "The input cannot be read, or has fewer than 50 wishes."},
    "calgate cals sync": _PLANNED,
    "calgate cals unused": {
        0: "Nothing is to be done, or it is done.",
        3: "Changes are planned; `--apply` makes them.",
    },
}
"""Command -> exit codes that mean something else there than in DEFAULT_EXIT, or that only it has."""


def exits(command: str) -> Mapping[int, str]:
    """Returns the exit codes of a command."""
    return {**DEFAULT_EXIT, **EXITS.get(command, {})}


def statuses(kind: type[Refusal] = Refusal) -> dict[str, int]:
    """Returns the HTTP status of every refusal code."""
    found = dict.fromkeys((kind.code, *kind.further_codes), kind.status)
    for one in kind.__subclasses__():
        found = {**statuses(one), **found}
    return found


def page() -> str:
    """Returns the guide's chapter."""
    return "\n".join([*_refusals(), *_exits()]) + "\n"


def _refusals() -> Iterator[str]:
    yield from ("# What does this page or log line mean?", "")
    yield from ("Made from the code by `make reference`.", "", "## Refusals", "")
    yield "Every page that refuses something has a reference number, such as 7F3K-92QD, and a program gets the code as"
    yield "`application/problem+json`. The log has both: `journalctl -u calgate --grep 7F3K-92QD`."
    yield from ("", "| code | status | what happened | what to do |", "|---|---|---|---|")
    status = statuses()
    for code, help_ in sorted(REFUSALS.items(), key=lambda item: (status.get(item[0], 0), item[0])):
        more = f" ([more]({help_.chapter}))" if help_.chapter else ""
        yield f"| `{code}` | {status.get(code, '')} | {help_.what} | {help_.remedy}{more} |"


def _exits() -> Iterator[str]:
    yield from ("", "## Exit codes", "", "| command | code | meaning |", "|---|---|---|")
    for code, text in DEFAULT_EXIT.items():
        yield f"| every command | {code} | {text} |"
    for command, codes in EXITS.items():
        for code, text in codes.items():
            yield f"| `{command}` | {code} | {text} |"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")
