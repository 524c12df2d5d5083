"""The bundle as the server takes it: verified wholly, and then loaded from the very bytes that were verified."""

from ci_tools.release.bundle import Bundle, Trust, open_bundle
from ci_tools.release.bundle.trust import named
from ci_tools.release.server.settings import Settings


def load(settings: Settings) -> Bundle:
    """Verify the bundle.

    Raises:
        SwitchbackError: a file is missing, changed, added, or signed by nobody who is trusted.
    """
    return open_bundle(settings.bundle, trust(settings))


def trust(settings: Settings) -> Trust | None:
    """Whose signature counts; None: that of this user's own key."""
    return named(settings.trust_key, settings.trust_identity, settings.trust_issuer, settings.trust_config)
