"""The bundle as the server takes it: verified wholly, and then loaded from the very bytes that were verified."""

from ci_tools.release.bundle import Bundle, Keyless, Trust, open_bundle
from ci_tools.release.server.settings import Settings


def load(settings: Settings) -> Bundle:
    """Verify the bundle.

    Raises:
        SwitchbackError: a file is missing, changed, added, or signed by nobody who is trusted.
    """
    return open_bundle(settings.bundle, trust(settings))


def trust(settings: Settings) -> Trust | None:
    """Whose signature counts; None: that of this user's own key."""
    keyless = None
    if settings.trust_identity:
        keyless = Keyless(identity=settings.trust_identity, issuer=settings.trust_issuer)
    if not settings.trust_key and keyless is None:
        return None
    return Trust(public_keys=settings.trust_key, keyless=keyless)
