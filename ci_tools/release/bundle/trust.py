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


HERE, SERVICE = "this command", "the release service"


class Trust(Config):
    """Signers of which any one is enough."""

    public_keys: tuple[Path, ...] = ()
    """PEM files."""
    keyless: Keyless | None = None
    whose: str = HERE
    """Who trusts them, for errors: a bundle is checked by the client and by the service, each with its own trust."""

    @property
    def fix(self) -> str:
        """What to do where another signer is to be trusted."""
        if self.whose == SERVICE:
            return "start `switchback serve` with --public-key or --identity of that signer, or sign with a trusted key"
        return "pass --public-key or --identity of that signer, or sign with a trusted key"

    @model_validator(mode="after")
    def _somebody(self) -> Self:
        if not self.public_keys and self.keyless is None:
            raise ValueError("trusts nobody: name a public key or an identity")
        return self


def named(
    public_keys: tuple[Path, ...] = (),
    identity: str = "",
    issuer: str = "",
    trust_config: Path | None = None,
    whose: str = HERE,
) -> Trust | None:
    """Trust in those who are named, GitHub Actions being the issuer where none is; None: nobody is.

    Raises:
        ConfigError: Sigstore's keys without an identity.
    """
    if trust_config and not identity:
        raise ConfigError("belongs to an identity", where="--trust-config", fix="pass --identity, too")
    keyless = None
    if identity:
        keyless = Keyless(identity=identity, issuer=issuer or GITHUB_ACTIONS, trust_config=trust_config)
    return Trust(public_keys=public_keys, keyless=keyless, whose=whose) if public_keys or keyless else None


def own(whose: str = HERE) -> Trust:
    """Trust in what this user signs: the public key beside the default signing key.

    Raises:
        ConfigError: this user has no home.
    """
    return Trust(public_keys=(public_beside(expanded(DEFAULT)),), whose=whose)
