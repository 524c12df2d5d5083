"""Bundles to serve, packed here without a pipeline, and signed with a key of the test run."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import onnxruntime

from ci_tools.release.bundle.keys import public_beside, signing_key
from ci_tools.release.bundle.manifest import CARD, MANIFEST, MODEL, SIGNATURE, Decision, File, Manifest, Tensor
from ci_tools.release.bundle.signature import sign
from ci_tools.release.server.model import _ELEMENT_TYPES
from tests.release import graphs

NAME = "shop/risk"


def described(graph, *, decision="score", name=NAME, **changes):
    """The manifest that fits a graph."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    card = b"# risk\n"
    values = {
        "name": name,
        "created": datetime(2026, 1, 1, tzinfo=UTC).isoformat(),
        "git_commit": "0" * 40,
        "params_digest": "",
        "record_digest": "",
        "verdicts_digest": "",
        "files": {
            key: File(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))
            for key, content in ((MODEL, graph), (CARD, card))
        },
        "inputs": _tensors(session.get_inputs()),
        "outputs": _tensors(session.get_outputs()),
        "decision": Decision(output=decision, threshold=0.5) if decision else None,
    }
    return Manifest(**values | changes)


def pack(root: Path, graph: bytes | None = None, **changes) -> Path:
    """A signed bundle under `root`; `trust_key(root)` signed it."""
    graph = graphs.risk() if graph is None else graph
    text = described(graph, **changes).model_dump_json(indent=1).encode()
    folder = root / hashlib.sha256(text).hexdigest()
    folder.mkdir(parents=True)
    for name, content in ((MODEL, graph), (CARD, b"# risk\n"), (MANIFEST, text)):
        (folder / name).write_bytes(content)
    (folder / SIGNATURE).write_bytes(sign(folder, signing_key(root / "key.pem")))
    return folder


def trust_key(bundle: Path) -> Path:
    """The public key that a bundle of `pack` is signed with."""
    return public_beside(bundle.parent / "key.pem")


def _tensors(found):
    return tuple(
        Tensor(
            name=one.name,
            datatype=_ELEMENT_TYPES[one.type.removeprefix("tensor(").removesuffix(")")],
            shape=tuple(length if isinstance(length, int) else -1 for length in one.shape),
        )
        for one in found
    )
