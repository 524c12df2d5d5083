"""Scores of every seed on the test split, as metrics, slices and curves, next to two simpler models.

Reads run records only, so it needs no torch. Shapes: N = rows, F = numeric columns, C = categorical columns.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pa_parquet
from numpy.typing import NDArray
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder

from ci_tools.config import leaves, load
from ci_tools.console import say
from ci_tools.errors import DataError, RecordError, RecordMismatch, run_stage
from ci_tools.record import open_record
from model import metrics
from model.data import Split, load_schema, load_split
from model.params import Evaluate, Params

SLICE_ROWS = 50
"""Fewest rows of a slice whose metrics are worth reading."""
CURVE_POINTS = 200
"""Points per plotted curve."""

Scores = NDArray[np.float64]


def evaluate(params: Params, data: Path, runs: Path, out: Path) -> dict[str, Any]:
    """Measure everything and write it under `out`; returns what metrics.json holds.

    Raises:
        RecordMismatch: a record was scored on other test rows.
        RecordError: a record is missing, unfinished or holds scores that are not numbers.
        DataError: the data stage has not written its files, or `out` cannot be written.
    """
    test = load_split(data, "test")
    tables = {seed: read_scores(runs / f"seed-{seed}", test, params) for seed in params.seeds}
    seeds = {seed: table["score"].to_numpy().astype(np.float64) for seed, table in tables.items()}
    columns = tables[params.seeds[0]].drop_columns(["id", "label", "score"])
    simpler: dict[str, Scores] = {}
    if params.evaluate.simpler_models:
        say("fitting logistic regression and gradient boosting on the same rows")
        train, validation = load_split(data, "train"), load_split(data, "validation")
        simpler = simpler_scores(train, validation, test, load_schema(data))

    by_seed = {seed: _measure(test.label, score, params.evaluate) for seed, score in seeds.items()}
    report = {"release": by_seed[params.seeds[0]], "seeds": spread(list(by_seed.values()))}
    report |= {name: _measure(test.label, score, params.evaluate) for name, score in simpler.items()}

    by_slice = slices(test.label, seeds, columns, params.evaluate)
    try:
        out.mkdir(parents=True, exist_ok=True)
        _write_json(out / "metrics.json", report)
        _write_json(out / "slices.json", by_slice)
        _write_scores(out / "scores.parquet", test, columns, seeds, simpler)
        _write_curves(out, test.label, {"network": seeds[params.seeds[0]]} | simpler, params.evaluate)
    except OSError as error:
        raise DataError(f"cannot be written ({error.strerror})", where=out, fix="free space, or name another") from None
    return report


def read_scores(path: Path, test: Split, params: Params) -> pa.Table:
    """The per-row scores of one finished record, in the order of the test split.

    Raises:
        RecordError: the record is unfinished, or a score is not a number.
        RecordMismatch: ids or labels are not those of the test split, or training had other params.
    """
    record = open_record(path)
    now, then = (leaves(values) for values in (params.model_dump(mode="json"), record.meta.params))
    other = [key for key in then if now.get(key) != then[key]]
    if other:
        raise RecordMismatch(
            f"was trained with {other[0]}={then[other[0]]!r}, params.yaml now has {now.get(other[0])!r}",
            where=path,
            fix="run `switchback reproduce`",
        )
    if record.meta.status != "finished":
        raise RecordError(
            f"training is {record.meta.status}", where=path, rule="only finished runs are evaluated", fix="train it"
        )
    table = record.scores
    same_rows = np.array_equal(table["id"].to_numpy(), test.id)
    if not same_rows or not np.array_equal(table["label"].to_numpy(), test.label):
        raise RecordMismatch(
            "the record was made on other data",
            where=path,
            rule="its scores must cover exactly the rows of the test split",
            fix="train again with this data",
        )
    bad = int(np.sum(~np.isfinite(table["score"].to_numpy())))
    if bad:
        raise RecordError(f"{bad} of {table.num_rows} scores are not finite", where=path, fix="train again")
    return table


def simpler_scores(train: Split, validation: Split, test: Split, schema: Mapping[str, Any]) -> dict[str, Scores]:
    """Test scores of logistic regression and gradient boosting, both fitted on the train split.

    Validation rows only say when boosting stops, just as they choose the network's checkpoint.
    """
    splits = (train, validation, test)
    train_rows, validation_rows, test_rows = (np.column_stack([split.numeric, split.categorical]) for split in splits)
    linear = logistic_regression(schema).fit(train_rows, train.label)
    trees = gradient_boosting(schema)
    trees.fit(train_rows, train.label, X_val=validation_rows, y_val=validation.label)
    models = {"logistic_regression": linear, "gradient_boosting": trees}
    return {name: model.predict_proba(test_rows)[:, 1].astype(np.float64) for name, model in models.items()}


def logistic_regression(schema: Mapping[str, Any]) -> Pipeline:
    """Linear in what the network's first layer sees: standardised numbers, missing flags, one-hot categories."""
    numeric, categorical = schema["numeric"], schema["categorical"]
    known = [np.arange(len(column["categories"]) + 1) for column in categorical]
    places = list(range(len(numeric) + len(categorical)))
    features = make_column_transformer(
        (FunctionTransformer(standardise, kw_args={"columns": numeric}), places[: len(numeric)]),
        (OneHotEncoder(categories=known), places[len(numeric) :]),
        sparse_threshold=1.0,
    )
    return make_pipeline(features, LogisticRegression(max_iter=2_000))


def standardise(numeric_NF: NDArray[Any], columns: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
    """The network's normaliser in NumPy: [N, F] raw numbers to [N, 2F] standardised numbers and missing flags."""
    mean_F = np.array([column["mean"] for column in columns])
    scale_F = np.array([column["scale"] for column in columns])
    log_F = np.array([column["transform"] == "log" for column in columns], dtype=bool)
    x_NF = numeric_NF.astype(np.float64)
    x_NF = np.where(log_F, np.sign(x_NF) * np.log1p(np.abs(x_NF)), x_NF)
    x_NF = ((x_NF - mean_F) / scale_F).clip(-10, 10)
    return np.hstack([np.nan_to_num(x_NF, nan=0.0), np.isnan(numeric_NF)])


def gradient_boosting(schema: Mapping[str, Any]) -> HistGradientBoostingClassifier:
    """Trees on raw numbers, with native missing values and categories.

    Columns of more than 255 codes, the limit of native categories, are split by code: by order of frequency.
    """
    first = len(schema["numeric"])
    sizes = [len(column["categories"]) + 1 for column in schema["categorical"]]
    native = [first + index for index, size in enumerate(sizes) if size <= 255]
    return HistGradientBoostingClassifier(
        # Half of scikit-learn's default: better on validation rows of the simulated source, equal on small tables.
        learning_rate=0.05,
        max_iter=500,
        early_stopping=True,
        categorical_features=native or None,
        random_state=0,
    )


def spread(measured: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Mean, sample standard deviation (0 for a single seed), minimum and maximum over seeds."""
    values = {name: np.array([one[name] for one in measured]) for name in metrics.NAMES}
    return {
        name: {
            "mean": float(value.mean()),
            "sd": float(value.std(ddof=1)) if len(value) > 1 else 0.0,
            "min": float(value.min()),
            "max": float(value.max()),
        }
        for name, value in values.items()
    }


def slices(
    label_N: NDArray[Any], seeds: Mapping[int, Scores], columns: pa.Table, params: Evaluate
) -> dict[str, dict[str, Any]]:
    """Column → value → rows, positives and each seed's metrics, the release first.

    `seeds` is null below `SLICE_ROWS` rows, or where a class is absent: no evidence is not a number.
    """
    found: dict[str, dict[str, Any]] = {}
    for name in columns.column_names:
        encoded = columns[name].combine_chunks().fill_null("(missing)").dictionary_encode()
        code_N = encoded.indices.to_numpy()
        found[name] = {}
        for code, value in enumerate(encoded.dictionary.to_pylist()):
            inside_N = code_N == code
            n, positives = int(inside_N.sum()), int(label_N[inside_N].sum())
            enough = n >= SLICE_ROWS and 0 < positives < n
            measured = {
                str(seed): _measure(label_N[inside_N], score[inside_N], params)
                for seed, score in seeds.items()
                if enough
            }
            found[name][value] = {"n": n, "positives": positives, "seeds": measured or None}
            found[name][value]["release"] = next(iter(measured.values()), None)
    return found


def _measure(label_N: NDArray[Any], score_N: Scores, params: Evaluate) -> dict[str, float]:
    return metrics.measure(label_N, score_N, precision_floor=params.precision_floor, bins=params.calibration_bins)


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")


def _write_scores(
    path: Path, test: Split, columns: pa.Table, seeds: Mapping[int, Scores], simpler: Mapping[str, Scores]
) -> None:
    table = pa.table({"id": test.id, "label": test.label})
    for name in columns.column_names:
        table = table.append_column(name, columns[name])
    for name, score in ({f"seed_{seed}": score for seed, score in seeds.items()} | dict(simpler)).items():
        table = table.append_column(name, pa.array(score, pa.float32()))
    pa_parquet.write_table(table, path, compression="zstd")


def _write_curves(out: Path, label_N: NDArray[Any], models: Mapping[str, Scores], params: Evaluate) -> None:
    """CSVs for `dvc plots`: one x column and one y column per model, so that a plot draws one line each."""
    recall = np.linspace(0, 1, CURVE_POINTS)
    precision = {name: metrics.precision_at(label_N, score, recall) for name, score in models.items()}
    _write_csv(out / "precision_recall.csv", {"recall": recall} | precision)
    # Denser towards 0: where positives are rare, decisions are made there.
    fpr = np.linspace(0, 1, CURVE_POINTS) ** 2
    tpr = {name: metrics.true_positive_rate_at(label_N, score, fpr) for name, score in models.items()}
    _write_csv(out / "roc.csv", {"false_positive_rate": fpr} | tpr)
    curve = metrics.calibration(label_N, models["network"], params.calibration_bins)
    _write_csv(out / "calibration.csv", curve._asdict())


def _write_csv(path: Path, columns: Mapping[str, NDArray[Any]]) -> None:
    options = pa_csv.WriteOptions(quoting_style="none")
    pa_csv.write_csv(pa.table(dict(columns)), path, options)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m model.evaluate", description="Measure all seeds on the test rows.")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), help="the experiment (params.yaml)")
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder that model.data wrote (data)")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the records seed-N (runs)")
    parser.add_argument("--out", type=Path, default=Path("evaluation"), help="folder to write (evaluation)")
    options = parser.parse_args(arguments)

    def work() -> None:
        report = evaluate(load(options.params, Params), options.data, options.runs, options.out)
        for name, values in report.items():
            if name != "seeds":
                figures = ", ".join(f"{key} {value:.4f}" for key, value in values.items())
                sys.stdout.write(f"{name}: {figures}\n")

    return run_stage(work)


if __name__ == "__main__":
    sys.exit(main())
