"""The key that signs bundles where no third party vouches for the signer: an elliptic curve's, in a file."""

import hashlib
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from ci_tools.errors import ConfigError, SwitchbackError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

DEFAULT = Path("~/.config/switchback/signing.pem")
GIVEN = "SWITCHBACK_SIGNING_KEY"
"""Environment variable: the key itself, in PEM, for a machine that has none, such as a hosted runner."""
CURVES = ("secp256r1", "secp384r1", "secp521r1")
"""Those that model-signing takes."""
_OTHERS = 0o077
_MAKE_ONE = "`openssl ecparam -name prime256v1 -genkey -noout -out FILE` makes one"


def public_beside(private: Path) -> Path:
    """Where the public half of a signing key is kept."""
    return private.with_suffix(".pub")


def expanded(path: Path) -> Path:
    """The path with the user's home for `~`.

    Raises:
        ConfigError: this user has none, as in some containers.
    """
    try:
        return path.expanduser()
    except RuntimeError:
        raise ConfigError("this user has no home", where=path, fix="set HOME, or name the key's file") from None


def signing_key(path: Path | None = None) -> Path:
    """The private key to sign with; a new one where there is none yet. Its public half is written beside it.

    Args:
        path: PEM file; none: `DEFAULT`, which then is what `GIVEN` holds, where that is set.

    Raises:
        ConfigError: others can read the key, it is no key that can sign, or another or none is given.
        SwitchbackError: it cannot be written.
    """
    given = None if path else os.environ.get(GIVEN)
    path = expanded(path or DEFAULT)
    try:
        if not path.exists():
            _generate(path) if given is None else _take(given, path)
        if given and path.read_text(encoding="ascii", errors="replace").strip() != given.strip():
            fix = f"unset {GIVEN}, or name a file by --key"
            raise ConfigError(f"is another key than that of {GIVEN}", where=path, fix=fix)
        if path.stat().st_mode & _OTHERS:
            rule = "only its owner may read a signing key"
            raise ConfigError("others can read it", where=path, rule=rule, fix=f"chmod 600 {path}")
        public = _public_pem(path)
        beside = public_beside(path)
        if not beside.exists() or beside.read_bytes() != public:
            _put(beside, public, 0o644, replace=True)
    except OSError as error:
        raise SwitchbackError(
            f"cannot be read or written ({error.strerror})", where=path, fix="name another --key"
        ) from None
    return path


def load_public(path: Path) -> "EllipticCurvePublicKey":
    """The public key in a PEM file.

    Raises:
        ConfigError: there is none, or it is of a kind that signs no bundles.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(expanded(path).read_bytes())
    except FileNotFoundError:
        fix = "name one with --public-key, or pack a bundle here, which makes a key"
        raise ConfigError("no such public key", where=path, fix=fix) from None
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"is no public key ({_brief(error)})", where=path, fix="name a PEM file") from None
    if not isinstance(key, EllipticCurvePublicKey) or key.curve.name not in CURVES:
        raise ConfigError("is a key of another kind", where=path, rule=f"one of {', '.join(CURVES)}", fix=_MAKE_ONE)
    return key


def fingerprint(key: "EllipticCurvePublicKey") -> str:
    """SHA-256 (hex) of the public key's PEM form, by which a signature names its key."""
    return hashlib.sha256(_pem(key)).hexdigest()


def _pem(key: "EllipticCurvePublicKey") -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _public_pem(private: Path) -> bytes:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(private.read_bytes(), None)
    except (TypeError, ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"is no private key ({_brief(error)})", where=private, fix=_MAKE_ONE) from None
    if not isinstance(key, EllipticCurvePrivateKey) or key.curve.name not in CURVES:
        rule = f"one of {', '.join(CURVES)}"
        raise ConfigError("is a key of another kind", where=private, rule=rule, fix=_MAKE_ONE)
    return _pem(key.public_key())


def _generate(path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = generate_private_key(SECP256R1())
    _keep(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), path)


def _take(given: str, path: Path) -> None:
    if not given.strip():
        rule = "a key that is made here is gone with this machine, and nobody trusts it"
        raise ConfigError("is empty", where=GIVEN, rule=rule, fix=f"give it a private key in PEM; {_MAKE_ONE}")
    _keep(f"{given.strip()}\n".encode(), path)
    try:
        _public_pem(path)
    except ConfigError:
        path.unlink()  # else it would stand in the way of the right one
        raise


def _keep(content: bytes, path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _put(path, content, 0o600, replace=False)


def _put(path: Path, content: bytes, mode: int, *, replace: bool) -> None:
    """Write a file whole or not at all; without `replace`, the one that came first stays."""
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            scratch.replace(path)
        else:
            os.link(scratch, path)
    except FileExistsError:
        return
    finally:
        scratch.unlink(missing_ok=True)


def _brief(error: Exception) -> str:
    """First line of a message that may go on for many."""
    return next(iter(str(error).splitlines()), type(error).__name__)[:120]
