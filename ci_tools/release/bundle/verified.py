"""A bundle that was checked: nothing else is ever loaded."""

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from ci_tools.errors import BundleError
from ci_tools.project import document
from ci_tools.release.bundle import folder, graph, signature, trust
from ci_tools.release.bundle.manifest import CARD, MANIFEST, MODEL, SIGNATURE, Manifest
from ci_tools.release.bundle.trust import Trust

_DIGEST = re.compile(r"[0-9a-f]{64}")
_AGAIN = "get the bundle from its source again, or pack and sign it again"


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A bundle whose every byte is what a trusted signer signed."""

    digest: str
    """SHA-256 (hex) of manifest.json: the bundle's name everywhere."""
    path: Path
    manifest: Manifest
    signer: str
    """`key` and the beginning of its SHA-256, or an identity."""
    files: Mapping[str, bytes] = field(repr=False)
    """Content by name, as it was checked; the files on the disk may have changed since."""

    @property
    def content(self) -> bytes:
        """The ONNX file that was checked: what a server should load."""
        return self.files[MODEL]

    @property
    def model(self) -> Path:
        """Where it was read."""
        return self.path / MODEL


def open_bundle(path: Path, trusted: Trust | None = None) -> Bundle:
    """Check a bundle wholly, and read it.

    Args:
        path: its folder; one that is named by a digest holds the bundle of that digest.
        trusted: whose signature counts; none: that of this user's own key.

    Raises:
        BundleError: it is not what a trusted signer signed, byte for byte; names file and rule.
        ConfigError: a trusted key cannot be read.
        DependencyUnavailable: Sigstore's keys, where they are needed, cannot be had.
    """
    trusted, named = trusted or trust.own(), path.absolute()  # a link counts by its name
    path = Path(os.path.realpath(path))  # unlike `resolve`, it leaves a loop of links to whoever opens it
    with folder.opened(path) as descriptor:
        found = folder.names(descriptor, path)
        signed_file = path / SIGNATURE
        seal = folder.read(descriptor, SIGNATURE, path)
        text = folder.read(descriptor, MANIFEST, path)
        signed = signature.authenticate(seal, trusted, signed_file)
        digest = hashlib.sha256(text).hexdigest()
        if signed.files.get(MANIFEST) != digest:
            raise _refuse("is not what was signed", path / MANIFEST)
        if _DIGEST.fullmatch(named.name) and named.name != digest:
            rule, fix = "a bundle lies under its own digest", "remove it, then add that bundle again"
            raise BundleError(f"is bundle {digest}", where=named, rule=rule, fix=fix)
        manifest = _parse(text, path / MANIFEST)
        if signed.name != digest:
            raise _refuse("was made for a bundle of another name", signed_file, rule="it names the bundle's digest")
        if signed.files != {MANIFEST: digest} | {name: one.sha256 for name, one in manifest.files.items()}:
            raise _refuse("names other files than it", signed_file, rule=f"{MANIFEST} lists all files that are signed")
        _refuse_foreign(found - manifest.files.keys() - {MANIFEST, SIGNATURE}, path)
        files = {MANIFEST: text, SIGNATURE: seal}
        for name, expected in manifest.files.items():
            largest = folder.LARGEST if name == MODEL else folder.LARGEST_TEXT
            files[name] = folder.read(descriptor, name, path, largest)
            _compare(files[name], expected.sha256, expected.bytes, path / name)
    graph.refuse_outside(files[MODEL], path / MODEL)
    return Bundle(digest=digest, path=path, manifest=manifest, signer=signed.signer, files=files)


def _parse(text: bytes, where: Path) -> Manifest:
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        rule = f"see {document('docs/bundle.md')}"
        raise _refuse(f"{key}: {first['msg']}".removeprefix(": "), where, rule=rule) from None
    if manifest.files.keys() != {MODEL, CARD}:
        listed = ", ".join(sorted(manifest.files)) or "nothing"
        raise _refuse(f"lists {listed[:200]}", where, rule=f"a bundle holds {MODEL} and {CARD}")
    return manifest


def _refuse_foreign(names: set[str], where: Path) -> None:
    if names:
        listed = ", ".join(map(repr, sorted(names)))[:200]
        raise BundleError(f"holds {listed}", where=where, rule="a bundle holds what was signed only", fix="remove it")


def _compare(content: bytes, sha256: str, size: int, where: Path) -> None:
    if len(content) != size:
        raise _refuse(f"has {len(content):,} bytes instead of {size:,}", where)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise _refuse("was altered", where, rule=f"its SHA-256 is not that in {MANIFEST}")


def _refuse(what: str, where: Path, rule: str = "") -> BundleError:
    return BundleError(what, where=where, rule=rule or "a bundle is what was signed, byte for byte", fix=_AGAIN)
