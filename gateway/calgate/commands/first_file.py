"""A first settings file for a domain, and the steps that remain before a gateway can run with it."""

import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import tomlkit
from tomlkit.items import InlineTable, Table

from calgate.commands.domain_dns import Domain

_KEYTAB, _AUTHORITY, _SECRET = "http.keytab", "ad-ca.pem", "ldap.secret"
_MODE = 0o640  # the gateway's group reads it, as the unit and the package set up the folder


@dataclass(frozen=True, slots=True)
class Answers:
    """The values that the DNS cannot know."""

    host: str
    upstreams: Sequence[str]
    group: str
    reader: str  # the account that reads the directory
    cals: Mapping[str, int]  # kind -> how many were bought
    contact: str


@dataclass(frozen=True, slots=True)
class Step:
    """A step to do by hand, and the file that shows that it was done."""

    what: str
    how: str
    file: Path | None = None

    @property
    def is_done(self) -> bool:
        return self.file is not None and self.file.exists()


def text_of(domain: Domain, answers: Answers, folder: Path) -> str:
    """Returns the settings file; it names certificates, keytab and passwords in `folder`."""
    host = answers.host
    document = tomlkit.document()
    document.add(tomlkit.comment(f"calgate for {domain.name}; every setting: settings.md, or calgate.toml(5)"))
    document["state_dir"] = "/var/lib/calgate"
    document["listen"] = _table(
        bind="0.0.0.0:443",
        tls=_inline(certificate=str(folder / f"{host}.pem"), key=str(folder / f"{host}.key")),
        redirect_http="0.0.0.0:80",
        admin="127.0.0.1:9090",
    )
    document["negotiate"] = _table(keytab=str(folder / _KEYTAB))
    document["ldap"] = _table(
        servers=[f"ldaps://{controller}" for controller in domain.controllers],
        ca=str(folder / _AUTHORITY),
        bind=_inline(user=answers.reader, password=_inline(file=str(folder / _SECRET))),
        base=domain.base,
    )
    rules = tomlkit.aot()
    rules.append(_table(name=f"members of {answers.group}", groups=[answers.group]))
    document["access"] = rules
    licenses = tomlkit.table(is_super_table=True)
    licenses["qlikview"] = _license(answers)
    document["licenses"] = licenses
    routes = tomlkit.aot()
    routes.append(
        _table(
            host=host,
            upstreams=list(answers.upstreams),
            license="qlikview",
            dialect="qlikview",
            sign_on=_inline(headers=_inline(QVUSER="{domain}\\{account}")),
        )
    )
    document["routes"] = routes
    return tomlkit.dumps(document)


def _license(answers: Answers) -> Table:
    license = _table(contact=answers.contact) if answers.contact else tomlkit.table()
    license.add("enforce", tomlkit.item(False).comment("on trial: decide and log, deny nobody; true when you go live"))
    for kind, bought in answers.cals.items():
        if bought:
            license[kind] = _table(in_license=bought)
    return license


def _table(**values: object) -> Table:
    table = tomlkit.table()
    table.update(values)
    return table


def _inline(**values: object) -> InlineTable:
    table = tomlkit.inline_table()
    table.update(values)
    return table


def write(file: Path, text: str) -> None:
    """Writes a new file that its folder's group can read. Raises FileExistsError: no file is ever replaced."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, _MODE)
    with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
        os.fchmod(descriptor, _MODE)  # whatever the umask is
        if os.geteuid() == 0:
            os.fchown(descriptor, -1, file.parent.stat().st_gid)
        opened.write(text)


def remaining_steps(domain: Domain, answers: Answers, file: Path) -> Iterator[Step]:
    """Yields the remaining steps, in the order in which `calgate check` would miss them."""
    folder = file.parent
    yield from _name_steps(answers.host, folder)
    yield from _kerberos_steps(domain, answers.host, folder)
    yield from _directory_steps(answers.reader, folder)
    names = shlex.join([f"{answers.host}.pem", f"{answers.host}.key", _KEYTAB, _AUTHORITY, _SECRET])
    yield Step(
        "the right to read these files for the gateway's user",
        f"cd {shlex.quote(str(folder))} && chgrp calgate {names} && chmod 0640 {names}",
    )
    if not any(answers.cals.values()):
        yield Step("how many CALs were bought", "set in_license in [licenses.qlikview.session] and the other kinds")
    yield Step(
        "QlikView's side",
        "the web server takes the user from the header QVUSER, and its port is open to this machine only"
        f" ({_guide('qlikview')})",
    )
    yield Step(
        "a test of all of it",
        f"as the gateway's user, runuser -u calgate -- calgate check -c {file}, until nothing fails; then systemctl"
        " start calgate",
    )
    yield Step(
        "going live",
        "until enforce = true, nobody is denied for lack of a CAL; access rules hold from the start"
        f" ({_guide('go-live')})",
    )


def _guide(chapter: str) -> str:
    """Returns the path of a chapter: next to an installed program, or in a checkout."""
    installed = Path(sys.prefix, "share", "calgate", "guide", f"{chapter}.md")
    return str(installed) if installed.exists() else f"deploy/guide/{chapter}.md"


def _name_steps(host: str, folder: Path) -> Iterator[Step]:
    certificate = folder / f"{host}.pem"
    yield Step(
        f"a certificate for {host}",
        f"{certificate} (PEM, with the chain) and {certificate.with_suffix('.key')}, from the authority that your"
        " browsers trust",
        certificate,
    )
    yield Step(
        f"a DNS name {host}", "an A record with this machine's address; no CNAME, which changes the name in tickets"
    )


def _kerberos_steps(domain: Domain, host: str, folder: Path) -> Iterator[Step]:
    yield Step(
        f"a keytab with the keys of HTTP/{host}",
        f"on a domain controller: setspn -S HTTP/{host} svc-calgate, then ktpass -princ HTTP/{host}@{domain.realm}"
        f" -mapuser svc-calgate -crypto AES256-SHA1 -ptype KRB5_NT_PRINCIPAL -pass * -out http.keytab; the file"
        f" belongs in {folder / _KEYTAB} ({_guide('keytab')} has other ways)",
        folder / _KEYTAB,
    )
    kdc = "" if domain.has_kdc_records else f", and its KDC: the DNS has no SRV record _kerberos._tcp.{domain.name}"
    yield Step(
        f"the realm in /etc/krb5.conf{kdc}",
        f"default_realm = {domain.realm} and rdns = false in [libdefaults], for calgate check --as and kinit"
        f" ({_guide('keytab')})",
    )


def _directory_steps(reader: str, folder: Path) -> Iterator[Step]:
    yield Step(
        "the authority of the domain controllers' certificates",
        f"its certificate in PEM as {folder / _AUTHORITY}: certutil -ca.cert on the CA, then openssl x509 -inform DER",
        folder / _AUTHORITY,
    )
    yield Step(
        f"the account {reader}, which reads users and groups",
        f"an ordinary account without further rights; its password alone in {folder / _SECRET}",
        folder / _SECRET,
    )
