"""ONNX Runtime against torch: the same rows through both, and how far the answers are apart.

Shapes: B = batch, N = rows, F = numeric columns, C = categorical columns, K = kinds of extreme values.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model.network import RiskNetwork

BATCH_SIZES = (1, 7, 256)
SAMPLE_ROWS = 512
"""Rows scored in small batches, spread over all; the largest batch size scores every row."""
LEVELS = {
    "plain": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "optimized": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
}


class Inputs(NamedTuple):
    """Rows to score; the field names are those of the graph's inputs."""

    numeric: NDArray[np.float32]
    """[N, F], raw units; NaN where missing."""
    categorical: NDArray[np.int64]
    """[N, C], codes; 0 for missing or unseen."""

    def batches(self, size: int) -> Iterator["Inputs"]:
        """All rows in order, `size` at a time."""
        for at in range(0, len(self.numeric), size):
            yield Inputs(self.numeric[at : at + size], self.categorical[at : at + size])


class Outputs(NamedTuple):
    """What a runtime says about N rows; the field names are those of the graph's outputs."""

    logit: NDArray[np.float64]
    score: NDArray[np.float64]


class Scorer(nn.Module):
    """The exported graph: the network, and the sigmoid of its logit."""

    def __init__(self, network: RiskNetwork) -> None:
        super().__init__()
        self.network = network
        self.eval()

    def forward(self, numeric: Tensor, categorical: Tensor) -> tuple[Tensor, Tensor]:
        """float32 [B, F] and int64 [B, C] to logit and score, float32 [B] each."""
        logit_B = self.network(numeric, categorical)
        return logit_B, torch.sigmoid(logit_B)


def edge_inputs(schema: Mapping[str, Any]) -> Inputs:
    """Every extreme number with every kind of code in all columns, then 128 seeded rows that mix them."""
    big, lowest, highest = np.finfo(np.float32).max, np.iinfo(np.int64).min, np.iinfo(np.int64).max
    value_K = np.array([0, 1, -1, 1e-38, 1e30, -1e30, big, -big, np.inf, -np.inf, np.nan], np.float32)
    known_C = np.array([len(column["categories"]) for column in schema["categorical"]], np.int64)
    code_KC = np.stack([known_C, known_C + 1] + [np.full_like(known_C, k) for k in (0, 1, -1, lowest, highest)])

    shape = {"numeric": len(schema["numeric"]), "categorical": len(known_C)}
    pairs = np.divmod(np.arange(len(value_K) * len(code_KC)), len(code_KC))
    random = np.random.default_rng(0)
    value_NF, code_NC = (
        np.vstack([np.tile(same[:, None], columns), random.integers(kinds, size=(128, columns))])
        for same, columns, kinds in zip(pairs, shape.values(), (len(value_K), len(code_KC)), strict=True)
    )
    return Inputs(value_K[value_NF], code_KC[code_NC, np.arange(len(known_C))])


def torch_outputs(network: RiskNetwork, inputs: Inputs) -> Outputs:
    """The network's answers, in batches of the largest size."""
    scorer = Scorer(network)
    with torch.inference_mode():
        parts = [
            scorer(torch.from_numpy(batch.numeric), torch.from_numpy(batch.categorical))
            for batch in inputs.batches(BATCH_SIZES[-1])
        ]
    logit, score = (torch.cat(column).double().numpy() for column in zip(*parts, strict=True))
    return Outputs(logit, score)


def open_session(model: bytes, level: onnxruntime.GraphOptimizationLevel) -> onnxruntime.InferenceSession:
    """A CPU session on one thread, so that sums have one order."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = level
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def onnx_outputs(session: onnxruntime.InferenceSession, inputs: Inputs, batch_size: int) -> Outputs:
    """The session's answers, in batches of the given size."""
    parts = [session.run(Outputs._fields, batch._asdict()) for batch in inputs.batches(batch_size)]
    logit, score = (np.concatenate(column).astype(np.float64) for column in zip(*parts, strict=True))
    return Outputs(logit, score)


def difference(reference: Outputs, other: Outputs, thresholds: Sequence[float]) -> dict[str, float]:
    """How far two answers are apart: largest differences over rows finite in both, and counts.

    `relative_logit` is |Δlogit| / (1 + |logit|); `flips` counts rows decided otherwise at a threshold.
    """
    finite_N = np.isfinite([*reference, *other]).all(axis=0)
    logit_N = np.abs(reference.logit - other.logit)[finite_N]
    return {
        "score": float(np.abs(reference.score - other.score)[finite_N].max(initial=0)),
        "logit": float(logit_N.max(initial=0)),
        "relative_logit": float((logit_N / (1 + np.abs(reference.logit[finite_N]))).max(initial=0)),
        "flips": sum(int(np.sum((reference.score >= at) != (other.score >= at))) for at in thresholds),
        "nonfinite": int(np.sum(~finite_N)),
    }


def measure(
    model: bytes, network: RiskNetwork, cases: Mapping[str, Inputs], thresholds: Sequence[float]
) -> dict[str, Any]:
    """`difference` at its worst over cases, batch sizes and optimisation levels, and the score's by case."""
    worst: dict[str, float] = {}
    by_case: dict[str, dict[str, float]] = {}
    sessions = {name: open_session(model, level) for name, level in LEVELS.items()}
    for case, inputs in cases.items():
        reference, everything = torch_outputs(network, inputs), np.arange(len(inputs.numeric))
        sample = np.unique(np.linspace(0, everything[-1], SAMPLE_ROWS).astype(np.int64))
        for batch_size in BATCH_SIZES:
            rows = everything if batch_size == BATCH_SIZES[-1] else sample
            expected = Outputs(reference.logit[rows], reference.score[rows])
            asked = Inputs(inputs.numeric[rows], inputs.categorical[rows])
            for level, session in sessions.items():
                found = difference(expected, onnx_outputs(session, asked, batch_size), thresholds)
                worst = {key: max(value, worst.get(key, 0)) for key, value in found.items()}
                by_case.setdefault(f"{case}_batch_{batch_size}", {})[level] = found["score"]
    rows_scored = sum(len(inputs.numeric) for inputs in cases.values())
    return worst | {"rows": rows_scored, "score_by_case": by_case}
