"""Names as people write them into a form, and the realm that each belongs to. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from calgate.plugin import AuthenticationFailed, parse_user
from calgate_negotiate import name_checks


@dataclass(frozen=True, slots=True)
class PasswordName:
    """A name from a form: alice, CORP\\alice or alice@corp.example."""

    account: str
    domain: str = ""  # a NetBIOS name, or a realm
    suffix: str = ""  # of a user principal name, which need not be the realm

    @classmethod
    def read(cls, text: str) -> "PasswordName":
        """Reads a name. Raises AuthenticationFailed for one that no account can have, or that has two readings."""
        text = text.strip()
        try:
            name = parse_user(text)
            if name.form not in ("qualified", "upn", "bare"):
                raise ValueError("a SID or a DN is no name to sign in with")
            name_checks.check_part(name.account)
            if name.form != "bare":
                name_checks.check_part(name.domain)
        except ValueError as error:
            raise AuthenticationFailed(f"password: {error}") from error
        if name.form == "upn":
            return cls(name.account, suffix=name.domain)
        return cls(name.account, domain=name.domain)


class Realms:
    """The domains whose users can sign in, by NetBIOS name and realm."""

    def __init__(self, realms: Mapping[str, str], own: str) -> None:
        """`own` is the keytab's realm, which counts if the settings name none."""
        named = realms or {own.partition(".")[0]: own}
        self._by_domain = {netbios.casefold(): realm.upper() for netbios, realm in named.items()}
        self._netbios = {realm.casefold(): netbios for netbios, realm in self._by_domain.items()}
        self._first = next(iter(self._by_domain))

    @property
    def by_domain(self) -> Mapping[str, str]:
        """The realms by the names of their domains, in the order of the settings."""
        return self._by_domain

    def realm_of(self, name: PasswordName) -> str | None:
        """Returns the realm to query; None for an unknown domain, about which no server is queried."""
        if not name.domain:
            return self._by_domain[self._netbios.get(name.suffix.casefold(), self._first)]
        domain = self._netbios.get(name.domain.casefold(), name.domain.casefold())
        return self._by_domain.get(domain)

    def canonical(self, name: PasswordName) -> str:
        """Returns corp\\alice for every spelling of a name: the guard counts an account under one name."""
        wanted = (name.domain or name.suffix).casefold()
        domain = self._netbios.get(wanted, wanted if wanted in self._by_domain else self._first)
        return f"{domain}\\{' '.join(name.account.split())}".casefold()
