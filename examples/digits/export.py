"""Export the released weights to ONNX, and measure how far ONNX Runtime is from torch: `python export.py --seed 1`.

Writes export/model.onnx and export/parity.json, the file that the gate `onnx_parity` reads.
"""

import argparse
import hashlib
import json
import logging
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from safetensors.torch import load_file

from ci_tools.errors import run_stage
from ci_tools.record import Record, open_record
from data import read
from network import INK, SIDE, DigitNetwork, Released

FOLDER = Path("export")
THRESHOLD = 0.5
"""Confidence from which on no person has to look."""
TOLERANCE = 1e-5
"""Largest difference of a probability."""
LEVELS = {
    "plain": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "optimized": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
}


def export(seed: int) -> None:
    """The record's best weights as a graph that takes pixels and gives probabilities, with the proof beside it."""
    record = open_record(Path("runs", f"seed-{seed}"))
    model = released(record)
    content = graph(model, record).SerializeToString(deterministic=True)
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "model.onnx").write_bytes(content)
    (FOLDER / "parity.json").write_text(json.dumps(parity(content, model), indent=2, sort_keys=True) + "\n")


def released(record: Record) -> Released:
    """The network with the weights that are released."""
    network = DigitNetwork(record.meta.params["width"])
    network.load_state_dict(load_file(record.weights))
    return Released(network)


def graph(model: Released, record: Record) -> onnx.ModelProto:
    """Input `numeric`, outputs `probability` and `confidence`, all with a free batch axis."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it misses packages that this graph does not use
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's, about its own deprecations
        program = torch.onnx.export(
            model,
            (torch.zeros(3, SIDE * SIDE),),
            dynamo=True,
            dynamic_shapes={"numeric": {0: torch.export.Dim("batch", min=1)}},
            input_names=["numeric"],
            output_names=["probability", "confidence"],
            verbose=False,
        )
    found: onnx.ModelProto = program.model_proto
    decision = json.dumps({"output": "confidence", "threshold": THRESHOLD})
    onnx.helper.set_model_props(found, {"decision": decision, "params_digest": record.meta.params_digest})
    return found


@torch.no_grad()
def parity(content: bytes, model: Released) -> dict[str, object]:
    """How far ONNX Runtime is from torch at its worst, over the test rows and over extreme images."""
    extreme_BP = torch.stack([torch.full((SIDE * SIDE,), value) for value in (0.0, INK, -INK, 1e4, -1e4)])
    cases = {"test": read("test").numeric, "extreme": extreme_BP}
    worst = {"score": 0.0, "relative_logit": 0.0, "flips": 0, "nonfinite": 0}
    by_case: dict[str, dict[str, float]] = {case: {} for case in cases}
    for level, optimization in LEVELS.items():
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.graph_optimization_level = 1, optimization
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        for case, pixels in cases.items():
            expected = [part.numpy().astype(np.float64) for part in model(pixels)]
            answer = [part.astype(np.float64) for part in session.run(None, {"numeric": pixels.numpy()})]
            found = difference(expected, answer)
            worst = {name: max(value, found[name]) for name, value in worst.items()}
            by_case[case][level] = found["score"]
    facts = {"rows": sum(map(len, cases.values())), "tolerance": TOLERANCE, "score_by_case": by_case}
    return worst | facts | {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


def difference(expected: list[np.ndarray], answer: list[np.ndarray]) -> dict[str, float]:
    """Largest difference of a probability and of its logit, answers that change, and rows that are not finite."""
    (probability_NK, sure_N), (other_NK, others_N) = expected, answer
    logit_NK, other_logit_NK = (np.log(p_NK.clip(1e-30)) for p_NK in (probability_NK, other_NK))
    changed_N = (probability_NK.argmax(1) != other_NK.argmax(1)) | ((sure_N >= THRESHOLD) != (others_N >= THRESHOLD))
    return {
        "score": float(np.abs(probability_NK - other_NK).max()),
        "relative_logit": float((np.abs(logit_NK - other_logit_NK) / (1 + np.abs(logit_NK))).max()),
        "flips": int(changed_N.sum()),
        "nonfinite": int(np.sum(~np.isfinite(other_NK).all(1))),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, required=True, help="of the run that is released")
    chosen = parser.parse_args().seed
    sys.exit(run_stage(lambda: export(chosen)))
