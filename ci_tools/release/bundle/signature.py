"""model.sig: OpenSSF model-signing's signature, written by its library and read strictly.

The file is a Sigstore bundle: a DSSE envelope around an in-toto statement that names every file with its SHA-256, and
what its signer is known by. Any verifier of that format accepts it. This one accepts nothing else: where the library
reads past what it does not use, an altered byte is refused here. With a key it also needs a quarter of the time.
https://github.com/sigstore/model-transparency, https://github.com/secure-systems-lab/dsse/blob/master/protocol.md
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ci_tools.errors import BundleError, explain
from ci_tools.harmless import one_line
from ci_tools.release.bundle.keys import fingerprint, load_public
from ci_tools.release.bundle.manifest import SIGNATURE
from ci_tools.release.bundle.trust import Keyless, Trust

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"
_AGAIN = "get the bundle from its source again, or pack and sign it again"


@dataclass(frozen=True, kw_only=True)
class Signed:
    """What a trusted signer vouches for."""

    name: str
    """Of the folder that was signed."""
    files: Mapping[str, str]
    """SHA-256 (hex) by path."""
    signer: str


def sign(folder: Path, signer: Path | Keyless) -> bytes:
    """The signature of all files in `folder`, which takes its name, too.

    Args:
        folder: holds no signature yet.
        signer: a private key's file, or who the certificate must name.

    Raises:
        DependencyUnavailable: model-signing is not installed; keyless: no token of an identity, or no network.
    """
    try:
        from model_signing import hashing, signing
    except ModuleNotFoundError as error:
        raise explain(error) from None
    hashed = hashing.Config().set_ignored_paths(  # type: ignore[no-untyped-call] # it has no types
        paths=[SIGNATURE], ignore_git_paths=False
    )
    settings = signing.Config().set_hashing_config(hashed)  # type: ignore[no-untyped-call] # it has no types
    file = folder / SIGNATURE
    if isinstance(signer, Path):
        settings.use_elliptic_key_signer(private_key=signer).sign(folder, file)
        raw = json.loads(file.read_bytes())
    else:
        from ci_tools.release.bundle import keyless

        keyless.sign(settings, folder, file, signer)
        raw = keyless.trimmed(json.loads(file.read_bytes()))
    file.unlink()
    return canonical(raw)


def authenticate(content: bytes, trust: Trust, where: Path) -> Signed:
    """What the signature says, once it is certain that a trusted signer said it.

    Args:
        content: of model.sig.
        trust: any of its signers.
        where: the file, for errors.

    Raises:
        BundleError: it is no signature, was altered, or is somebody else's.
        ConfigError: a trusted public key cannot be read.
        DependencyUnavailable: keyless: Sigstore's keys cannot be had.
    """
    raw = _parsed(content, where)
    material = raw.get("verificationMaterial")
    if isinstance(material, dict) and "publicKey" in material:
        payload, signer = _by_key(raw, trust, where)
    elif trust.keyless is None:
        rule = f"{trust.whose} trusts public keys only"
        raise BundleError("is the signature of no key", where=where, rule=rule, fix=trust.fix)
    else:
        from ci_tools.release.bundle import keyless

        payload, signer = keyless.authenticate(raw, trust.keyless, where)
    name, files = _statement(payload, where)
    return Signed(name=name, files=files, signer=signer)


def canonical(raw: object) -> bytes:
    """The one way to write a signature's JSON, so that no byte of it is free."""
    return json.dumps(raw, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def refused(what: str, where: Path, rule: str = "") -> BundleError:
    """The error of a signature that does not hold."""
    return BundleError(what, where=where, rule=rule or "only what a trusted signer signed is loaded", fix=_AGAIN)


def _parsed(content: bytes, where: Path) -> dict[str, Any]:
    try:
        raw = json.loads(content.decode())
        if isinstance(raw, dict) and canonical(raw) == content:
            return raw
    except (ValueError, RecursionError):
        raise refused("is no signature", where) from None
    raise refused("is not in the form in which signatures are written", where)


def _by_key(raw: dict[str, Any], trust: Trust, where: Path) -> tuple[bytes, str]:
    """Payload of the envelope, signed by one of the trusted keys, and which."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        hint = raw["verificationMaterial"]["publicKey"]["hint"]
        envelope = raw["dsseEnvelope"]
        payload, signature = _base64(envelope["payload"]), _base64(envelope["signatures"][0]["sig"])
    except (KeyError, IndexError, TypeError, ValueError, binascii.Error):
        raise refused("is no signature by a key", where) from None
    keys = {fingerprint(key): key for key in map(load_public, trust.public_keys)}
    key = keys.get(hint) if isinstance(hint, str) else None
    if key is None:
        known = ", ".join(one[:16] for one in keys) or "no key"
        by = f"is by key {one_line(hint[:16], 16)}" if isinstance(hint, str) else "is by no key that it names"
        raise BundleError(by, where=where, rule=f"{trust.whose} trusts {known}", fix=trust.fix)
    if raw != _envelope(payload, signature, hint):
        raise refused("holds what no signature by a key does", where)
    by_bits = {256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}
    try:
        key.verify(signature, pre_authentication(payload), ec.ECDSA(by_bits[key.curve.key_size]))
    except InvalidSignature:
        raise refused("does not hold: it or what it signs was altered", where) from None
    return payload, f"key {hint[:16]}"


def _envelope(payload: bytes, signature: bytes, hint: str) -> dict[str, Any]:
    """All that a signature by a key holds."""
    return {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {"publicKey": {"hint": hint}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
        },
    }


def pre_authentication(payload: bytes) -> bytes:
    """The bytes that are signed, by DSSE's protocol: "DSSEv1", then type and payload, each behind its length."""
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)


def _statement(payload: bytes, where: Path) -> tuple[str, dict[str, str]]:
    """Name and digests of an authentic payload."""
    try:
        said = json.loads(payload)
        (subject,), predicate = said["subject"], said["predicate"]
        resources = predicate["resources"]
        files = {one["name"]: one["digest"] for one in resources}
        known = (
            said["_type"] == STATEMENT_TYPE
            and said["predicateType"] == PREDICATE_TYPE
            and predicate["serialization"]["method"] == "files"
            and all(one["algorithm"] == "sha256" for one in resources)
            and len(files) == len(resources)
        )
        root = hashlib.sha256(b"".join(bytes.fromhex(one["digest"]) for one in resources)).hexdigest()
        name, known = subject["name"], known and subject["digest"]["sha256"] == root
    except (ValueError, KeyError, TypeError, RecursionError):
        known = False
    if not known:
        raise refused("signs something other than the files of a model", where)
    return str(name), files


def _base64(text: object) -> bytes:
    if not isinstance(text, str):
        raise ValueError("no text")
    return base64.b64decode(text, validate=True)
