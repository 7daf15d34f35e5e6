"""`[forward_auth]`."""

from calgate.plugin.settings import Secret, Section


class ForwardAuthSection(Section):
    """`[forward_auth]`: what the proxy must show in the header X-Calgate-Secret."""

    secret: Secret
