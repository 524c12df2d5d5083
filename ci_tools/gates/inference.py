"""An exported graph in ONNX Runtime: fed with rows that fit it, and timed in turns with another one.

R = rounds of measurement, B = bootstrap resamples.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ci_tools.errors import DataError, explain
from ci_tools.gates.run import Run
from ci_tools.gates.training import F64

BATCH_SIZES = (1, 256)
WARM_UP = 5
FEWEST_ROUNDS, MOST_ROUNDS = 10, 1000
SECONDS = 0.8
"""Measuring time per batch size, unless `FEWEST_ROUNDS` take longer."""

RESAMPLES = 1000
FREE_AXIS = 16
"""Length of an axis that the graph leaves open, where it is not the batch."""

DTYPES: dict[str, np.dtype[Any]] = {
    "tensor(float)": np.dtype("float32"),
    "tensor(double)": np.dtype("float64"),
    **{f"tensor({name})": np.dtype(name) for name in ("float16", "bool", "int8", "int16", "int32", "int64")},
    **{f"tensor({name})": np.dtype(name) for name in ("uint8", "uint16", "uint32", "uint64")},
}
"""By ONNX type: the inputs that can be made up."""


class Engine:
    """One run's model, on one thread of the CPU.

    Raises:
        DataError: the model is missing, or ONNX Runtime refuses it.
        DependencyUnavailable: ONNX Runtime is not installed.
    """

    def __init__(self, run: Run) -> None:
        try:
            import onnxruntime
        except ModuleNotFoundError as error:
            raise explain(error) from None
        self._run = run
        self._rows = run.split("test") if (run.root / "data/test.npz").exists() else {}
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        try:
            self._session = onnxruntime.InferenceSession(str(run.model), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's exceptions share no base
            raise self._refused(error) from None

    @property
    def batch_sizes(self) -> Sequence[int]:
        """`BATCH_SIZES`, or the one that the graph fixes."""
        fixed = [spec.shape[0] for spec in self._session.get_inputs() if spec.shape and isinstance(spec.shape[0], int)]
        return fixed[:1] or BATCH_SIZES

    def prepared(self, size: int) -> Callable[[], object]:
        """One inference on a batch of this size, ready to be called; engines of equal inputs get equal ones.

        Raises:
            DataError: the graph takes no such batch.
        """
        random = np.random.default_rng(size)
        feed = {spec.name: self._values(spec, size, random) for spec in self._session.get_inputs()}
        try:
            self._session.run(None, feed)
        except Exception as error:
            raise self._refused(error) from None
        return lambda: self._session.run(None, feed)

    def _values(self, spec: Any, size: int, random: np.random.Generator) -> NDArray[Any]:
        """Test rows where their name, type and shape are the input's, else noise, and zeros for integers."""
        if spec.type not in DTYPES:
            rule = "only models on numbers can be timed"
            raise DataError(f"input {spec.name} is a {spec.type}", where=self._run.model, rule=rule)
        dtype, known = DTYPES[spec.type], self._rows.get(spec.name)
        shape = [n if isinstance(n, int) else FREE_AXIS if axis else size for axis, n in enumerate(spec.shape)]
        if known is not None and known.dtype == dtype and list(known.shape[1:]) == shape[1:] and len(known):
            return known[random.integers(len(known), size=size)]
        return random.standard_normal(shape).astype(dtype) if dtype.kind == "f" else np.zeros(shape, dtype)

    def _refused(self, error: Exception) -> DataError:
        why = " ".join(str(error).split())
        return DataError(f"ONNX Runtime refuses it ({why})", where=self._run.model, fix="run `switchback reproduce`")


def in_turns(calls: Sequence[Callable[[], object]], random: np.random.Generator) -> F64:
    """Seconds [R, calls]: each round makes every call once, in random order.

    A single call has nothing to be told apart from, and gets a tenth of the time.
    """
    for _ in range(WARM_UP):
        for call in calls:
            call()
    rounds: list[F64] = []
    ends = time.perf_counter() + SECONDS / (10 if len(calls) == 1 else 1)
    while len(rounds) < FEWEST_ROUNDS or (len(rounds) < MOST_ROUNDS and time.perf_counter() < ends):
        taken = np.empty(len(calls))
        for i in random.permutation(len(calls)):
            started = time.perf_counter()
            calls[i]()
            taken[i] = time.perf_counter() - started
        rounds.append(taken)
    return np.array(rounds)


def ratio_of_medians(time_R2: F64, confidence: float, random: np.random.Generator) -> Mapping[str, float]:
    """`ratio`, `low` and `high`: first column's median over the second's, and its interval.

    A percentile bootstrap over the rounds, in which both times of a round are drawn together (Efron & Tibshirani 1993,
    "An Introduction to the Bootstrap", chapter 13). It does not cover where in memory two models happen to lie, which
    moves the ratio of a model to itself by about 1 %.
    """
    rows = random.integers(len(time_R2), size=(RESAMPLES, len(time_R2)))
    median_B2 = np.median(time_R2[rows], axis=1)
    low, high = np.quantile(median_B2[:, 0] / median_B2[:, 1], [(1 - confidence) / 2, (1 + confidence) / 2])
    first, second = np.median(time_R2, axis=0)
    return {"ratio": float(first / second), "low": float(low), "high": float(high)}
