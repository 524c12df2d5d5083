"""What one revision's pipeline left behind: the subject of the acceptance tests, and with another revision's, of
comparisons.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ci_tools.errors import DataError
from ci_tools.gates import training
from ci_tools.gates.reasons import Reason
from ci_tools.gates.training import Training
from ci_tools.record import Record, open_record
from ci_tools.record.log import UNDECODABLE

_AGAIN = "run `switchback reproduce`"


@dataclass(frozen=True)
class Run:
    """The files of one pipeline under `root`, each read when it is first asked for.

    Raises (from every part):
        RecordError: a run record is missing or damaged.
        DataError: another file is missing or damaged.
    """

    root: Path
    seeds: tuple[int, ...]
    """The first is the release's."""

    @cached_property
    def records(self) -> tuple[Record, ...]:
        """One run record per seed, the release's first."""
        return tuple(open_record(record_of(self.root, seed)) for seed in self.seeds)

    @property
    def release(self) -> Record:
        """The record of the first seed, whose weights are exported."""
        return self.records[0]

    @cached_property
    def trainings(self) -> tuple[Training, ...]:
        """The same as arrays."""
        return tuple(training.read(record) for record in self.records)

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """evaluation/metrics.json: `release` and each simpler model, metric to value; `seeds`, metric to spread."""
        return self._json("evaluation/metrics.json")

    @cached_property
    def slices(self) -> dict[str, Any]:
        """evaluation/slices.json: column, value, then n, positives, release and seeds."""
        return self._json("evaluation/slices.json")

    @cached_property
    def scores(self) -> pa.Table:
        """evaluation/scores.parquet: id, label, slice columns, then `seed_N` and each simpler model."""
        path = self.root / "evaluation/scores.parquet"
        try:
            return pq.read_table(path)
        except FileNotFoundError:
            raise DataError("no such file", where=path, fix=_AGAIN) from None
        except UNDECODABLE as error:
            raise DataError(f"is damaged ({' '.join(str(error).split())})", where=path, fix=_AGAIN) from None

    @cached_property
    def schema(self) -> dict[str, Any]:
        """data/schema.json: columns, categories, normalisation."""
        return self._json("data/schema.json")

    @cached_property
    def profile(self) -> dict[str, Any]:
        """data/profile.json: histograms per split and column."""
        return self._json("data/profile.json")

    @cached_property
    def parity(self) -> dict[str, Any]:
        """export/parity.json: ONNX Runtime against torch."""
        return self._json("export/parity.json")

    @property
    def model(self) -> Path:
        """The exported graph."""
        return self.root / "export/model.onnx"

    def split(self, name: str) -> dict[str, NDArray[Any]]:
        """Arrays of data/NAME.npz: numeric [N, F], categorical [N, C], label, id and, where there is time, time [N]."""
        path = self.root / "data" / f"{name}.npz"
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = dict(file)
        except FileNotFoundError:
            raise DataError("no such file", where=path, fix=_AGAIN) from None
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"is damaged ({error})", where=path, fix=_AGAIN) from None
        for missing in {"numeric", "label"} - arrays.keys():
            raise DataError(f"has no array {missing!r}", where=path, fix="write one entry per row in the data stage")
        for array, column in arrays.items():
            if column.shape[:1] != arrays["label"].shape:
                what = f"{array} has shape {column.shape}, label {arrays['label'].shape}"
                raise DataError(what, where=path, rule="every array has one entry per row")
        return arrays

    def _json(self, name: str) -> dict[str, Any]:
        path = self.root / name
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise DataError("no such file", where=path, fix=_AGAIN) from None
        except (OSError, ValueError, RecursionError) as error:
            raise DataError(f"is damaged ({error})", where=path, fix=_AGAIN) from None
        if not isinstance(value, dict):
            raise DataError("must hold an object", where=path, fix=_AGAIN)
        return value


@dataclass(frozen=True)
class Baseline:
    """The run of the base revision, or why there is none to compare with."""

    run: Run | None
    why_not: str = ""
    """One sentence; empty where `run` is there."""
    failed: bool = False
    """Whether it was asked for and could not be run, so that a comparison with it is an error."""
    reason: Reason = Reason.NO_BASE
    """`why_not` as a code."""


def record_of(root: Path, seed: int) -> Path:
    """Folder of a seed's run record."""
    return root / "runs" / f"seed-{seed}"


def open_run(seeds: Sequence[int], root: Path = Path()) -> Run:
    """The pipeline's files under `root`; nothing is read yet."""
    return Run(root, tuple(seeds))
