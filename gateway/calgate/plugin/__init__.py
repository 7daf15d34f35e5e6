"""The roles a plugin can fill, and the values that pass between them and the core.

A plugin is a module named by an entry point of the group `calgate.plugins`; the entry point's name is its section in
the settings file. It may import this module, `calgate.refusal`, `calgate.setting` and `calgate.binding`, nothing else
of the core. It offers:

`role`
    "directory", "allocator", "authenticator" or "sign-on": plugins are started in this order
`Config`
    its section, a `calgate.setting.Section`
`start(config, services)`
    an async context manager that yields one object which fills one role (or more) below
`commands(desk)`, optional
    a `click.Command` (usually a group) that joins the command line
`warnings(config)`, optional
    sentences for an administrator about settings that are allowed and unwise
`check(config, survey)`, optional
    an async iterator of `Finding`: every real thing that the section names, tried; those of directories come first,
    and what they find broken the others leave untried
`explain(token)`, optional
    findings about the bytes of an Authorization header, for `calgate check --token`
`ntlm_report(desk, file, as_json=...)`, optional
    prints who signed in by NTLM, for `calgate check --ntlm-report`
"""

from calgate.plugin.access import Grant
from calgate.plugin.channel_binding import certificate_binding
from calgate.plugin.checks import CheckContext, CommandContext, DomainInfo, Finding, Lockout, ServiceAccount
from calgate.plugin.errors import (
    AccountRefused,
    AuthenticationFailed,
    BadGateway,
    BadRequest,
    ConfigError,
    CrossSite,
    Forbidden,
    GatewayTimeout,
    HeadersTooLarge,
    MethodRefused,
    Refusal,
    RequestTimeout,
    SignInNeeded,
    TooLarge,
    TooManySignIns,
    Unavailable,
)
from calgate.plugin.identity import (
    Authenticated,
    Authenticator,
    Continue,
    Directory,
    Handshake,
    Identity,
    NtlmAttempt,
    NtlmProof,
    NtlmVerifier,
    Peer,
    Person,
)
from calgate.plugin.licensing import Activity, Allocator, Claimant, Lease, LicenseInfo, Lost, NoCal, Pool
from calgate.plugin.services import Event, Services, Store
from calgate.plugin.settings import Duration, Network, Secret, Section, is_origin, parse_duration
from calgate.plugin.sign_on import SignOn

__all__ = [
    "AccountRefused",
    "Activity",
    "Allocator",
    "Authenticated",
    "AuthenticationFailed",
    "Authenticator",
    "BadGateway",
    "BadRequest",
    "CheckContext",
    "Claimant",
    "CommandContext",
    "ConfigError",
    "Continue",
    "CrossSite",
    "Directory",
    "DomainInfo",
    "Duration",
    "Event",
    "Finding",
    "Forbidden",
    "GatewayTimeout",
    "Grant",
    "Handshake",
    "HeadersTooLarge",
    "Identity",
    "Lease",
    "LicenseInfo",
    "Lockout",
    "Lost",
    "MethodRefused",
    "Network",
    "NoCal",
    "NtlmAttempt",
    "NtlmProof",
    "NtlmVerifier",
    "Peer",
    "Person",
    "Pool",
    "Refusal",
    "RequestTimeout",
    "Secret",
    "Section",
    "ServiceAccount",
    "Services",
    "SignInNeeded",
    "SignOn",
    "Store",
    "TooLarge",
    "TooManySignIns",
    "Unavailable",
    "certificate_binding",
    "is_origin",
    "parse_duration",
]
