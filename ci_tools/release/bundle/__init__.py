"""A model packed, signed and checked: the only thing that a server loads.

    bundle = open_bundle(path, Trust(public_keys=(key,)))   # or refuses, naming file and rule
    session = InferenceSession(bundle.content)

Packing is `packing.pack`; it needs the pipeline's files, and more packages than a server has.
"""

from ci_tools.release.bundle.manifest import Manifest
from ci_tools.release.bundle.trust import Keyless, Trust
from ci_tools.release.bundle.verified import Bundle, open_bundle

__all__ = ["Bundle", "Keyless", "Manifest", "Trust", "open_bundle"]
