"""What turns a caller's token into an identity, as the settings say."""

from importlib import import_module

from panda.auth.tokens import Verifier
from panda.db.session import Begin
from panda.settings import Settings


def verifier(begin: Begin, settings: Settings) -> Verifier:
    """For our own tokens, and for those of an issuer where one is configured; one per process.

    Raises:
        ConfigError: `[oidc]` says what cannot be meant.
    """
    if not settings.oidc.issuer:
        return Verifier(begin)
    return Verifier(begin, import_module("panda.auth.oidc").Vouched(begin, settings.oidc))
