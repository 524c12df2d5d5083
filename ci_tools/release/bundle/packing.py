"""From the pipeline's files to a signed bundle."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from ci_tools.errors import DataError, explain
from ci_tools.files import sync
from ci_tools.record.provenance import now, project_root
from ci_tools.release.bundle import card, folder, signature
from ci_tools.release.bundle.evidence import Evidence, Waiver, collect, overrides
from ci_tools.release.bundle.interface import decision
from ci_tools.release.bundle.keys import public_beside, signing_key
from ci_tools.release.bundle.manifest import CARD, MANIFEST, MODEL, SIGNATURE, Decision, File, Manifest
from ci_tools.release.bundle.trust import Keyless, Trust
from ci_tools.release.bundle.verified import Bundle, open_bundle

BUNDLES = Path("bundles")


def pack(
    out: Path = BUNDLES,
    *,
    key: Path | None = None,
    keyless: Keyless | None = None,
    waiver: Waiver | None = None,
    decided: Decision | None = None,
    name: str = "",
    created: str = "",
) -> Bundle:
    """Pack and sign what the working directory's pipeline made, into a folder named by the digest under `out`.

    Law: equal files and arguments give equal bytes, but for the signature.

    Args:
        out: folder of bundles.
        key: private key to sign with; none: this user's, which is made where there is none.
        keyless: sign by Sigstore instead, as this identity.
        waiver: who lets blocking verdicts pass.
        decided: how a score becomes a decision, where the ONNX file does not say.
        name: of the model; empty: the repository's.
        created: UTC time, ISO 8601; empty: when the model was judged, so that packing it twice makes one bundle.

    Raises:
        DataError: a file is missing, damaged or of another model, or a verdict blocks.
        RecordError: the run record is missing, unfinished or damaged.
        ConfigError: the key or an argument breaks a rule.
        DependencyUnavailable: a package, or Sigstore, is not there.
    """
    evidence = collect()
    # Refused before a key is made or asked for.
    overridden = overrides(evidence.verdicts, waiver)
    meta, verdicts = evidence.record.meta, evidence.verdicts
    manifest = Manifest(
        name=name or _repository(),
        created=created or verdicts.started,
        git_commit=verdicts.commit,
        git_dirty=verdicts.dirty,
        params_digest=meta.params_digest,
        record_digest=evidence.record_digest,
        verdicts_digest=evidence.verdicts_digest,
        files={MODEL: _file(evidence.content)},
        inputs=evidence.interface.inputs,
        outputs=evidence.interface.outputs,
        decision=decision(evidence.interface, decided, evidence.run.model),
        overrides=overridden,
    )
    signer = keyless or signing_key(key)
    trusted = Trust(keyless=keyless) if keyless else Trust(public_keys=(public_beside(signing_key(key)),))
    try:
        return _seal(_files(evidence, manifest), out, signer, trusted)
    except OSError as error:
        raise explain(error) from None


def repack(
    bundle: Bundle, content: bytes, out: Path = BUNDLES, *, created: str = "", key: Path | None = None
) -> Bundle:
    """A bundle like another around a model that nobody judged, as a rehearsal or a drill needs it. It says so.

    Args:
        bundle: whose name, inputs, outputs and decision it takes.
        content: the ONNX file.
        out: folder of bundles.
        created: UTC time, ISO 8601; empty: now.
        key: private key to sign with; none: this user's.

    Raises:
        DataError: the model refers to other files.
        ConfigError: the key breaks a rule.
    """
    text = f"A model made of bundle {bundle.digest} for a rehearsal. Nobody judged it.\n".encode()
    manifest = bundle.manifest.model_copy(
        update={
            "created": created or now(),
            "record_digest": "",
            "verdicts_digest": "",
            "files": {CARD: _file(text), MODEL: _file(content)},
            "overrides": (),
        }
    )
    private = signing_key(key)
    try:
        files = {MODEL: content, CARD: text, MANIFEST: _written(manifest)}
        return _seal(files, out, private, Trust(public_keys=(public_beside(private),)))
    except OSError as error:
        raise explain(error) from None


def _files(evidence: Evidence, manifest: Manifest) -> dict[str, bytes]:
    """All files but the signature."""
    text = card.write(evidence, manifest).encode()
    whole = manifest.model_copy(update={"files": dict(sorted({**manifest.files, CARD: _file(text)}.items()))})
    return {MODEL: evidence.content, CARD: text, MANIFEST: _written(whole)}


def _written(manifest: Manifest) -> bytes:
    return (json.dumps(manifest.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n").encode()


def _seal(files: Mapping[str, bytes], out: Path, signer: Path | Keyless, trusted: Trust) -> Bundle:
    """Sign the files, check the result, and only then give it its name."""
    digest = hashlib.sha256(files[MANIFEST]).hexdigest()
    target = out / digest
    with suppress(DataError):
        return open_bundle(target, trusted)  # packed before, of the same files
    out.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".new-", dir=out))
    try:
        folder.write(scratch / digest, files)
        seal = signature.sign(scratch / digest, signer)
        shutil.rmtree(scratch / digest)
        folder.write(scratch / digest, {**files, SIGNATURE: seal})
        open_bundle(scratch / digest, trusted)
        if target.exists():
            target.rename(scratch / "before")
        (scratch / digest).rename(target)
        sync(out)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return open_bundle(target, trusted)


def _file(content: bytes) -> File:
    return File(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))


def _repository() -> str:
    """OWNER/NAME in GitHub Actions; else the name of the work tree's folder."""
    name = os.environ.get("GITHUB_REPOSITORY") or project_root(Path.cwd()).resolve().name
    return os.fsencode(name).decode(errors="replace")  # a folder's name may be no text
