"""Whose signature counts."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from ci_tools.config import Config
from ci_tools.errors import ConfigError
from ci_tools.release.bundle.keys import DEFAULT, expanded, public_beside

GITHUB_ACTIONS = "https://token.actions.githubusercontent.com"


class Keyless(Config):
    """A signer without a key of its own: Sigstore's certificate for an identity that a third party vouches for."""

    identity: Annotated[str, Field(min_length=1)]
    """In full, such as https://github.com/OWNER/REPOSITORY/.github/workflows/FILE@refs/heads/main."""
    issuer: Annotated[str, Field(min_length=1)] = GITHUB_ACTIONS
    """Who vouches for it."""
    trust_config: Path | None = None
    """Sigstore's own keys and addresses, as a file; none: asked for over the network at each verification."""


class Trust(Config):
    """Signers of which any one is enough."""

    public_keys: tuple[Path, ...] = ()
    """PEM files."""
    keyless: Keyless | None = None

    @model_validator(mode="after")
    def _somebody(self) -> Self:
        if not self.public_keys and self.keyless is None:
            raise ValueError("trusts nobody: name a public key or an identity")
        return self


def named(
    public_keys: tuple[Path, ...] = (),
    identity: str = "",
    issuer: str = GITHUB_ACTIONS,
    trust_config: Path | None = None,
) -> Trust | None:
    """Trust in those who are named; None: nobody is.

    Raises:
        ConfigError: Sigstore's keys without an identity.
    """
    if trust_config and not identity:
        raise ConfigError("belongs to an identity", where="--trust-config", fix="pass --identity, too")
    keyless = Keyless(identity=identity, issuer=issuer, trust_config=trust_config) if identity else None
    return Trust(public_keys=public_keys, keyless=keyless) if public_keys or keyless else None


def own() -> Trust:
    """Trust in what this user signs: the public key beside the default signing key.

    Raises:
        ConfigError: this user has no home.
    """
    return Trust(public_keys=(public_beside(expanded(DEFAULT)),))
