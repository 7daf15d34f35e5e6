#!/usr/bin/python3
"""Puts people and groups into the lab's domain, straight into its database. Usage: seed.py SMB.CONF

Run by the system's Python, which has Samba's modules. Everybody's password is P4ss-word-1!.

    alice     in app-users four groups deep; also in dl-app (domain local) and uni-app (universal) by team-a
    bob       in app-users and app-admins
    carol     in none of these
    björn     a name that is not ASCII
    many1000  in 1000 groups: the largest ticket
    disabled  expired  pwexpired  locked (by lab.sh, at every start)
    gateway   the service account that holds HTTP/gateway…, AES only; asks LDAP; password Svc-Passw0rd-1!

The partner's domain has dora in partners, an alice of its own, also there, and reader, who asks LDAP.
"""

import sys

import ldb
from samba.auth import system_session
from samba.credentials import Credentials
from samba.dsdb import (
    GTYPE_SECURITY_DOMAIN_LOCAL_GROUP,
    GTYPE_SECURITY_UNIVERSAL_GROUP,
    UF_ACCOUNTDISABLE,
    UF_DONT_EXPIRE_PASSWD,
    UF_NORMAL_ACCOUNT,
)
from samba.param import LoadParm
from samba.samdb import SamDB

PASSWORD = "P4ss-word-1!"
SERVICE_PASSWORD = "Svc-Passw0rd-1!"
HOST = "gateway.corp.example.test"
AES_ONLY = "24"
LONG_AGO = "116444736000000000"  # 1970


class Seed:
    """Writes objects; every change is part of one transaction."""

    def __init__(self, smb_conf: str) -> None:
        settings = LoadParm()
        settings.load(smb_conf)
        credentials = Credentials()
        credentials.guess(settings)
        self.db = SamDB(
            url=settings.private_path("sam.ldb"), session_info=system_session(), credentials=credentials, lp=settings
        )
        self.base = self.db.domain_dn()
        self.is_partner = settings.get("workgroup") == "PARTNER"

    def replace(self, dn: str, **attributes: str | list[str]) -> None:
        message = ldb.Message(ldb.Dn(self.db, dn))
        for name, value in attributes.items():
            name = name.replace("_", "-")
            message[name] = ldb.MessageElement(value, ldb.FLAG_MOD_REPLACE, name)
        self.db.modify(message)

    def person(self, name: str, **attributes: str) -> None:
        self.db.newuser(name, PASSWORD)
        if attributes:
            self.replace(f"CN={name},CN=Users,{self.base}", **attributes)

    def group(self, name: str, *members: str, kind: int | None = None) -> None:
        self.db.newgroup(name, grouptype=kind)
        if members:
            self.db.add_remove_group_members(name, list(members), add_members_operation=True)

    def policy(self) -> None:
        """Nobody's password expires by age; five wrong ones lock an account."""
        self.replace(self.base, maxPwdAge="0", lockoutThreshold="5")

    def people(self) -> None:
        for name in ("alice", "bob", "carol", "disabled", "locked", "many1000", "guessed"):
            self.person(name)
        self.db.newuser("björn", PASSWORD, surname="Müller")
        self.person("expired", accountExpires=LONG_AGO)
        self.person("pwexpired", pwdLastSet="0")
        self.db.toggle_userAccountFlags("(sAMAccountName=disabled)", UF_ACCOUNTDISABLE, "disable", True)

    def groups(self) -> None:
        self.group("team-a", "alice")
        self.group("dept-x", "team-a")
        self.group("division-1", "dept-x")
        self.group("app-users", "division-1", "bob", "many1000")
        self.group("app-admins", "bob")
        self.group("dl-app", "team-a", kind=GTYPE_SECURITY_DOMAIN_LOCAL_GROUP)
        self.group("uni-app", "team-a", kind=GTYPE_SECURITY_UNIVERSAL_GROUP)
        for number in range(1000):
            name = f"many-{number:04d}"
            self.group(name)
            # a membership by DN alone is a tenth of the time of add_remove_group_members
            member = [f"CN=many1000,CN=Users,{self.base}"]
            change = {"dn": f"CN={name},CN=Users,{self.base}", "member": member}
            self.db.modify(ldb.Message.from_dict(self.db, change, ldb.FLAG_MOD_ADD))

    def service(self) -> None:
        self.db.newuser("gateway", SERVICE_PASSWORD)
        self.replace(
            f"CN=gateway,CN=Users,{self.base}",
            servicePrincipalName=[f"HTTP/{HOST}", "HTTP/gateway"],
            msDS_SupportedEncryptionTypes=AES_ONLY,
            userAccountControl=str(UF_NORMAL_ACCOUNT | UF_DONT_EXPIRE_PASSWD),
        )
        # once more, now that AES is wanted: keys are made when a password is set
        self.db.setpassword("(sAMAccountName=gateway)", SERVICE_PASSWORD, False)

    def partners(self) -> None:
        for name in ("dora", "alice"):
            self.person(name)
        self.group("partners", "dora", "alice")
        self.db.newuser("reader", SERVICE_PASSWORD)

    def controller(self) -> None:
        """The names that Samba's own updater would have given it; here there is no DNS."""
        found = self.db.search(expression="(sAMAccountName=DC1$)", attrs=["1.1"])
        message = ldb.Message(found[0].dn)
        names = ["ldap/dc1.corp.example.test", "ldap/DC1", "ldap/dc1.corp.example.test/CORP"]
        message["servicePrincipalName"] = ldb.MessageElement(names, ldb.FLAG_MOD_ADD, "servicePrincipalName")
        self.db.modify(message)


seed = Seed(sys.argv[1])
seed.db.transaction_start()
seed.policy()
if seed.is_partner:
    seed.partners()
else:
    seed.people()
    seed.groups()
    seed.service()
    seed.controller()
seed.db.transaction_commit()
