"""Makes two domains trust each other, or no longer: trust.py begin|end SMB.CONF SMB.CONF, of their domain controllers.

A forest trust in both directions, as Windows' own wizard makes it. `samba-tool domain trust create` does the same, but
finds the other domain by DNS, and the lab has none. Run with the system's Python, which has Samba's modules.
"""

import sys
from typing import Any

import samba
from samba.credentials import DONT_USE_KERBEROS, Credentials
from samba.dcerpc import drsblobs, lsa, security
from samba.param import LoadParm
from samba.trust_utils import CreateTrustedDomainRelax

PASSWORD = "Adm1n-Passw0rd!"
BOTH = lsa.LSA_TRUST_DIRECTION_INBOUND | lsa.LSA_TRUST_DIRECTION_OUTBOUND
AES = security.KERB_ENCTYPE_AES256_CTS_HMAC_SHA1_96 | security.KERB_ENCTYPE_AES128_CTS_HMAC_SHA1_96


class Authority:
    """A domain's local security authority, as its administrator sees it."""

    def __init__(self, settings: str) -> None:
        lp = LoadParm()
        lp.load(settings)
        credentials = Credentials()
        credentials.guess(lp)
        credentials.set_username("Administrator")
        credentials.set_password(PASSWORD)
        credentials.set_domain(lp.get("workgroup"))
        credentials.set_kerberos_state(DONT_USE_KERBEROS)
        host = f"{lp.get('netbios name')}.{lp.get('realm')}".lower()
        self.lsa = lsa.lsarpc(f"ncacn_np:{host}", lp, credentials)
        attributes = lsa.ObjectAttribute()
        attributes.sec_qos = lsa.QosInfo()
        self.policy = self.lsa.OpenPolicy2("", attributes, security.SEC_FLAG_MAXIMUM_ALLOWED)
        self.domain = self.lsa.QueryInfoPolicy2(self.policy, lsa.LSA_POLICY_INFO_DNS)

    def trust(self, other: "Authority", incoming: Any, outgoing: Any) -> None:
        about = lsa.TrustDomainInfoInfoEx()
        about.trust_type = lsa.LSA_TRUST_TYPE_UPLEVEL
        about.trust_direction = BOTH
        about.trust_attributes = lsa.LSA_TRUST_ATTRIBUTE_FOREST_TRANSITIVE
        about.domain_name.string = other.domain.dns_domain.string
        about.netbios_name.string = other.domain.name.string
        about.sid = other.domain.sid
        access = lsa.LSA_TRUSTED_DOMAIN_ALL_ACCESS
        made = CreateTrustedDomainRelax(self.lsa, self.policy, about, access, incoming, outgoing)
        types = lsa.TrustDomainInfoSupportedEncTypes()
        types.enc_types = AES
        self.lsa.SetInformationTrustedDomain(made, lsa.LSA_TRUSTED_DOMAIN_SUPPORTED_ENCRYPTION_TYPES, types)

    def distrust(self, other: "Authority") -> None:
        self.lsa.DeleteTrustedDomain(self.policy, other.domain.sid)


def secret() -> Any:
    """A password for one direction, as both sides keep it."""
    password = samba.generate_random_machine_password(120, 120).encode("utf-16-le")
    clear = drsblobs.AuthInfoClear()
    clear.size, clear.password = len(password), list(password)
    info = drsblobs.AuthenticationInformation()
    info.LastUpdateTime = samba.unix2nttime(samba.current_unix_time())
    info.AuthType, info.AuthInfo = lsa.TRUST_AUTH_TYPE_CLEAR, clear
    array = drsblobs.AuthenticationInformationArray()
    array.count, array.array = 1, [info]
    kept = drsblobs.trustAuthInOutBlob()
    kept.count, kept.current = 1, array
    return kept


action, ours, theirs = sys.argv[1], Authority(sys.argv[2]), Authority(sys.argv[3])
if action == "begin":
    there, back = secret(), secret()
    ours.trust(theirs, there, back)
    theirs.trust(ours, back, there)
else:
    ours.distrust(theirs)
    theirs.distrust(ours)
