"""What the controller must know of a bundle of the registry.

It is verified before its release begins, and by every server before it is loaded.
"""

import hashlib
from pathlib import Path

from pydantic import ValidationError

from ci_tools.errors import ConfigError
from ci_tools.release.bundle import trust
from ci_tools.release.bundle.manifest import MANIFEST, Manifest
from ci_tools.release.bundle.trust import Trust
from ci_tools.release.home import Home
from ci_tools.release.judge import Policy
from ci_tools.release.registry import Registry

Thresholds = tuple[float, float] | None
"""Of the champion's and the canary's decisions; None: they decide nothing."""


def verified(home: Home, digest: str, trusted: Trust | None = None) -> None:
    """Check a bundle wholly.

    Args:
        home: of the service.
        digest: of the bundle.
        trusted: whose signature counts; None: that of this user's own key.

    Raises:
        ConfigError: it is not in the registry.
        DataError: it is not what a trusted signer signed, byte for byte.
    """
    Registry(home.bundles).get(digest, trusted or trust.own(trust.SERVICE))


def kept(home: Home, bundle: Path, trusted: Trust | None = None) -> str:
    """Add a bundle to the registry; returns its digest.

    Args:
        home: of the service.
        bundle: its folder.
        trusted: whose signature counts; None: that of this user's own key.

    Raises:
        BundleError: it is not what a trusted signer signed, byte for byte.
    """
    return Registry(home.bundles).add(bundle, trusted).digest


def manifest(home: Home, digest: str) -> Manifest:
    """Of a bundle.

    Raises:
        ConfigError: it is not in the registry, or its manifest is another one.
    """
    path = home.bundles / digest / MANIFEST
    fix = "add it with `switchback release PATH`"
    if not digest or "/" in digest or not path.is_file():
        raise ConfigError(f"no bundle {digest[:12] or 'without a digest'} there", where=home.bundles, fix=fix)
    raw = path.read_bytes()
    if hashlib.sha256(raw).hexdigest() != digest:
        raise ConfigError("the manifest was changed", where=path, rule="a bundle is named by its manifest's SHA-256",
                          fix="pack the bundle again")  # fmt: skip
    try:
        return Manifest.model_validate_json(raw)
    except ValidationError:
        raise ConfigError("is no manifest of this version", where=path, fix="pack the bundle again") from None


def comparable(home: Home, champion: str, candidate: str, policy: Policy) -> Thresholds:
    """The decisions of two bundles that may answer the same requests.

    Raises:
        ConfigError: they may not, or the policy judges decisions that they do not make.
    """
    old, new = manifest(home, champion), manifest(home, candidate)
    for name in ("name", "inputs", "outputs"):
        if getattr(old, name) != getattr(new, name):
            raise ConfigError(f"{name} differ from the champion's", where=f"bundle {candidate[:12]}",
                              rule="clients send both the same requests and read the same answers",
                              fix="serve it under another name, by a service of its own")  # fmt: skip
    if old.decision is None or new.decision is None:
        if policy.flips and policy.flips.needed:
            raise ConfigError("flips: promotion needs decisions, and the bundles make none", where="release.yaml",
                              fix="name the decision's output when packing, or set `flips: null`")  # fmt: skip
        return None
    return old.decision.threshold, new.decision.threshold
