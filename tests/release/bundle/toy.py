"""A pipeline's files around a model of a few hundred bytes, and bundles of any content that are signed all the same."""

import hashlib
import json
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from ci_tools.gates import files
from ci_tools.gates.files import Verdicts
from ci_tools.gates.verdict import Outcome, Verdict
from ci_tools.record.schema import SCHEMA_VERSION, RunMeta
from ci_tools.release.bundle import folder, signature
from ci_tools.release.bundle.manifest import CARD, MANIFEST, MODEL, SIGNATURE

CREATED = "2026-01-02T03:04:05+00:00"
PARAMS_DIGEST, COMMIT = "a" * 64, "b" * 40


def graph(**metadata):
    """score = sigmoid(rows · weight), as an ONNX file."""
    weight = helper.make_tensor("weight", TensorProto.FLOAT, [2, 1], [0.5, -1.0])
    nodes = [
        helper.make_node("MatMul", ["rows", "weight"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["score"]),
    ]
    rows = helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["batch", 2])
    score = helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch", 1])
    model = helper.make_model(
        helper.make_graph(nodes, "toy", [rows], [score], [weight]),
        ir_version=10,
        opset_imports=[helper.make_opsetid("", 20)],
    )
    onnx.helper.set_model_props(model, {key: str(value) for key, value in metadata.items()})
    return model


def verdict(gate="parity", outcome=Outcome.PASSED, *, subject="", blocks=False, evidence=None, diagnosis="It is so."):
    return Verdict(
        gate=gate,
        subject=subject,
        outcome=outcome,
        blocks=blocks,
        statistic=0.5,
        interval=(0.25, 0.75),
        threshold=1.0,
        unit="of it",
        basis="default",
        diagnosis=diagnosis,
        remedy="",
        evidence=evidence or {},
        seconds=0.0,
    )


def write_verdicts(root, *verdicts, **changes):
    fields = {"commit": COMMIT, "dirty": False, "params_digest": PARAMS_DIGEST, "policy_digest": "c" * 64}
    fields |= {"started": "2026-01-01T00:10:00+00:00", "verdicts": tuple(verdicts)} | changes
    files.write(Verdicts(**fields), root / "gates" / "verdicts.json")


def write_model(root, content):
    (root / "export").mkdir(exist_ok=True)
    (root / "export/model.onnx").write_bytes(content)
    parity = {"sha256": hashlib.sha256(content).hexdigest(), "score": 1e-7, "flips": 0, "nonfinite": 0, "rows": 1000}
    (root / "export/parity.json").write_text(json.dumps(parity))


def write_record(root, **changes):
    folder_of_record = root / "runs/seed-1"
    folder_of_record.mkdir(parents=True, exist_ok=True)
    fields = {
        "schema_version": SCHEMA_VERSION,
        "id": "toy",
        "status": "finished",
        "command": [],
        "workdir": "",
        "seed": 1,
        "params": {},
        "params_digest": PARAMS_DIGEST,
        "git_commit": COMMIT,
        "git_dirty": False,
        "code": {},
        "code_digest": "d" * 64,
        "data": {},
        "fingerprint": {"torch": "2"},
        "probe_every": 1,
        "checkpoint_every": 1,
        "started": "2026-01-01T00:00:00+00:00",
        "ended": "2026-01-01T00:05:00+00:00",
    }
    (folder_of_record / "run.json").write_text(RunMeta(**(fields | changes)).text())


def pipeline(root):
    """All files that packing needs, about one model that passed."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "params.yaml").write_text("seeds: [1]\n")
    write_record(root)
    write_model(root, graph(decision=json.dumps({"output": "score", "threshold": 0.25})).SerializeToString())
    write_verdicts(root, verdict())
    return root


def manifest_of(files_of_bundle, **changes):
    """A manifest's text that fits the files."""
    values = {
        "name": "toy",
        "created": CREATED,
        "git_commit": COMMIT,
        "params_digest": PARAMS_DIGEST,
        "record_digest": "",
        "verdicts_digest": "",
        "files": {
            name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
            for name, content in files_of_bundle.items()
        },
        "inputs": [{"name": "rows", "datatype": "FP32", "shape": [-1, 2]}],
        "outputs": [{"name": "score", "datatype": "FP32", "shape": [-1, 1]}],
    }
    return json.dumps(values | changes).encode()


def sealed(out: Path, key: Path, model: bytes | None = None, manifest: bytes | None = None, **more: bytes) -> Path:
    """A signed bundle of exactly this content, whether that makes sense or not."""
    inside = {MODEL: graph().SerializeToString() if model is None else model, CARD: b"# toy\n"}
    text = manifest_of(inside) if manifest is None else manifest
    inside |= {MANIFEST: text} | more
    path = out / hashlib.sha256(text).hexdigest()
    out.mkdir(parents=True, exist_ok=True)
    folder.write(path, inside)
    (path / SIGNATURE).write_bytes(signature.sign(path, key))
    for file in path.iterdir():
        file.chmod(0o644)  # tests change them
    return path
