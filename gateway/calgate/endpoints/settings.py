"""`[forward_auth]`: another proxy asks before it forwards."""

from calgate.plugin.settings import Secret, Section


class ForwardAuthSection(Section):
    """`[forward_auth]`: which proxies may ask for decisions."""

    secret: Secret
    """The secret that a proxy sends in X-Calgate-Secret; forward-auth requests without it are refused."""
