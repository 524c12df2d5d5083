"""Sigstore: signatures of an identity that an issuer vouches for, without a key that anybody must keep.

In GitHub Actions the identity is that of the workflow. Sigstore's authority issues a certificate for some minutes, and
a public log proves that the signature was made within them. https://docs.sigstore.dev/about/overview/
"""

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ci_tools.errors import ConfigError, DependencyUnavailable, explain
from ci_tools.release.bundle import signature
from ci_tools.release.bundle.trust import Keyless

if TYPE_CHECKING:
    from model_signing import signing
    from sigstore.verify import Verifier

_GRANT = "run in GitHub Actions with `permissions: id-token: write`, or sign with a key (--key)"
_PIN = "name a file of its keys (trust_config), which needs no network"


def sign(settings: "signing.Config", folder: Path, file: Path, signer: Keyless) -> None:
    """Have Sigstore sign `folder` into `file`.

    Raises:
        DependencyUnavailable: this process has no identity, or Sigstore cannot be reached or refuses.
    """
    from sigstore.oidc import detect_credential

    where = "Sigstore"
    try:
        # Asked for here: the library would open a browser where there is none.
        token = detect_credential()
    except Exception as error:
        raise DependencyUnavailable(f"no token of an identity ({_brief(error)})", where=where, fix=_GRANT) from None
    if token is None:
        raise DependencyUnavailable("no identity to sign with", where=where, fix=_GRANT)
    try:
        settings.use_sigstore_signer(identity_token=token, trust_config=signer.trust_config).sign(folder, file)
    except Exception as error:  # those of its parts share no base
        raise DependencyUnavailable(f"did not sign ({_brief(error)})", where=where, fix="try again later") from None


def trimmed(raw: dict[str, Any]) -> dict[str, Any]:
    """A signature without the parts that verification has no need of, and therefore no use for a check of.

    These are further lines under the log's checkpoint, other spellings of its own, and timestamps beside the log's own
    promise of the time.
    Law: trimmed(trimmed(raw)) == trimmed(raw).
    """
    kept: dict[str, Any] = json.loads(json.dumps(raw))
    material = kept["verificationMaterial"]
    for entry in material["tlogEntries"]:
        checkpoint = entry["inclusionProof"]["checkpoint"]
        note, _, lines = checkpoint["envelope"].partition("\n\n")
        # A log signs under the name that its checkpoint's first line begins with.
        own = f"\u2014 {note.partition(chr(10))[0].partition(' - ')[0]} "
        signed = [line.removeprefix(own) for line in lines.split("\n") if line.startswith(own)][:1]
        # Base64's last digit has bits that say nothing.
        spelled = [own + base64.b64encode(base64.b64decode(one, validate=True)).decode() for one in signed]
        checkpoint["envelope"] = "\n".join([note, "", *spelled, ""])
        if "inclusionPromise" in entry:
            material["timestampVerificationData"] = {"rfc3161Timestamps": []}
    return kept


def authenticate(raw: dict[str, Any], trusted: Keyless, where: Path) -> tuple[bytes, str]:
    """Payload of the envelope, signed by the trusted identity, and that identity.

    Args:
        raw: content of model.sig.
        trusted: who must have signed.
        where: the file, for errors.

    Raises:
        DataError: it is no such signature, was altered, or is somebody else's.
        ConfigError: the file of Sigstore's keys is damaged.
        DependencyUnavailable: the keys cannot be had.
    """
    try:
        from sigstore.models import Bundle
        from sigstore.verify.policy import Identity
    except ModuleNotFoundError as error:
        raise explain(error) from None
    verifier = _verifier(trusted.trust_config)
    try:
        bundle = Bundle.from_json(json.dumps(raw))
        # What the library does not know it drops, and would never check.
        strict = json.loads(bundle.to_json()) == raw and raw["mediaType"] == signature.MEDIA_TYPE
        strict = strict and trimmed(raw) == raw
        strict = strict and [one["keyid"] for one in raw["dsseEnvelope"]["signatures"]] == [""]
        kind, payload = verifier.verify_dsse(bundle, Identity(identity=trusted.identity, issuer=trusted.issuer))
    except Exception as error:  # hostile input takes the library's parsers where no single exception waits
        raise signature.refused(f"does not hold ({_brief(error)})", where) from None
    if not strict or kind != signature.PAYLOAD_TYPE:
        raise signature.refused("holds what no keyless signature does", where)
    return payload, trusted.identity


def _verifier(file: Path | None) -> "Verifier":
    from sigstore.models import ClientTrustConfig
    from sigstore.verify import Verifier

    if file is None:
        try:
            return Verifier(trusted_root=ClientTrustConfig.production().trusted_root)
        except Exception as error:  # of its network, its cache and its parsers
            what = f"its keys cannot be had ({_brief(error)})"
            raise DependencyUnavailable(what, where="Sigstore", fix=_PIN) from None
    try:
        return Verifier(trusted_root=ClientTrustConfig.from_json(file.read_text(encoding="utf-8")).trusted_root)
    except OSError as error:
        raise ConfigError(f"cannot be read ({error.strerror})", where=file, fix=_PIN) from None
    except Exception as error:  # of its parsers
        raise ConfigError(f"holds no keys of Sigstore ({_brief(error)})", where=file, fix=_PIN) from None


def _brief(error: Exception) -> str:
    """One line of a message that may go on for many."""
    return " ".join(str(error).split())[:200] or type(error).__name__
