"""The released network as one ONNX file, normalisation included, with the proof that it computes what torch does."""

import argparse
import hashlib
import json
import logging
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

import ci_tools
from ci_tools.config import load, validate
from ci_tools.errors import DataError, RecordError, RecordMismatch, TrainingFailed, run_stage
from ci_tools.record import Record, open_record
from model.data import load_schema, load_split
from model.metrics import operating_point
from model.network import RiskNetwork
from model.params import Params
from model.parity import Inputs, Scorer, edge_inputs, measure, torch_outputs


def export(params: Params, data: Path, record_path: Path, out: Path) -> dict[str, Any]:
    """Write model.onnx and parity.json under `out`; returns the parity report.

    Raises:
        TrainingFailed: parity is out of tolerance; both files are written all the same.
        RecordError: the record is missing, unfinished or belongs to other data.
        DataError: the data stage has not written its files, or `out` cannot be written.
    """
    schema, test, record = load_schema(data), load_split(data, "test"), open_record(record_path)
    network = released_network(record, schema)
    cases = {"test": Inputs(test.numeric, test.categorical), "edge": edge_inputs(schema)}
    wanted = operating_point(test.label, torch_outputs(network, cases["test"]).score, params.evaluate.precision_floor)

    model = to_onnx(network, params.export.opset)
    onnx.helper.set_model_props(model, describe(record, schema, wanted.threshold))
    content = model.SerializeToString(deterministic=True)
    thresholds = [0.5] if wanted.threshold is None else [0.5, wanted.threshold]
    report = measure(content, network, cases, thresholds)
    report |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    report |= {"tolerance": params.export.score_tolerance}
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "model.onnx").write_bytes(content)
        text = json.dumps(report, indent=2, sort_keys=True, allow_nan=False) + "\n"
        (out / "parity.json").write_text(text, encoding="utf-8")
    except OSError as error:
        raise DataError(f"cannot be written ({error.strerror})", where=out, fix="free space, or name another") from None
    check(report, params.export.score_tolerance, out / "model.onnx")
    return report


def released_network(record: Record, schema: Mapping[str, Any]) -> RiskNetwork:
    """The record's network with its released weights, in evaluation mode.

    Raises:
        RecordError: training is unfinished, or the weights cannot be read.
        RecordMismatch: the weights were trained on data with another schema.
    """
    where = record.path
    if record.meta.status != "finished":
        rule = "only finished runs are exported"
        raise RecordError(f"training is {record.meta.status}", where=where, rule=rule, fix="train it to its end")
    try:
        weights = load_file(record.weights)
    except (OSError, SafetensorError) as error:
        raise RecordError(f"the weights are damaged ({error})", where=where, fix="train again") from None
    network = RiskNetwork(validate(record.meta.params, Params, where=where).network, dict(schema)).eval()
    expected = network.state_dict()
    fits = {name: value.shape for name, value in weights.items()} == {name: v.shape for name, v in expected.items()}
    # Normalisation and category counts come from the schema as buffers: equal buffers mean the same columns.
    if not fits or not all(torch.equal(weights[name], value) for name, value in network.named_buffers()):
        rule = "columns, normalisation and categories must be those it was trained on"
        raise RecordMismatch("the weights do not fit this data", where=where, rule=rule, fix="train again with it")
    network.load_state_dict(weights)
    return network


def to_onnx(network: RiskNetwork, opset: int) -> onnx.ModelProto:
    """Inputs `numeric` and `categorical`, outputs `logit` and `score`, all with a free batch axis.

    Law: equal weights and versions give equal bytes.
    """
    numeric_BF = torch.zeros(3, len(network.normalizer.mean_F))
    categorical_BC = torch.zeros(3, len(network.embeddings.size_C), dtype=torch.int64)
    batch = torch.export.Dim("batch", min=1)
    with _quiet():
        program = torch.onnx.export(
            Scorer(network),
            (numeric_BF, categorical_BC),
            dynamo=True,
            dynamic_shapes={"numeric": {0: batch}, "categorical": {0: batch}},
            input_names=["numeric", "categorical"],
            output_names=["logit", "score"],
            opset_version=opset,
            verbose=False,
        )
    model: onnx.ModelProto = program.model_proto  # type: ignore[union-attr] # dynamo=True gives one
    # The exporter's debug entries hold stack traces with paths of the machine.
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.ClearField("metadata_props")
    onnx.checker.check_model(model, full_check=True)
    return model


def describe(record: Record, schema: Mapping[str, Any], threshold: float | None) -> dict[str, str]:
    """Metadata of the ONNX file: where the weights come from, what its columns mean, and which score is a yes.

    Args:
        record: of the run.
        schema: of its data.
        threshold: scores at or above it are flagged; None where none reaches the precision that is wanted.
    """
    columns = {
        "label": schema["label"],
        "numeric": [{key: column[key] for key in ("name", "unit") if key in column} for column in schema["numeric"]],
        "categorical": [{key: column[key] for key in ("name", "categories")} for column in schema["categorical"]],
    }
    return {
        "git_commit": record.meta.git_commit,
        "params_digest": record.meta.params_digest,
        "seed": str(record.meta.seed),
        "schema": json.dumps(columns, sort_keys=True, ensure_ascii=False),
        "decision": json.dumps({"output": "score", "threshold": threshold}),
        "switchback_version": ci_tools.__version__,
    }


def check(report: Mapping[str, Any], tolerance: float, where: Path) -> None:
    """Accept a parity report or say why not.

    Raises:
        TrainingFailed: a score differs by more than `tolerance`, a decision flips, or an output is not finite.
    """
    if report["score"] > tolerance or report["flips"] or report["nonfinite"]:
        raise TrainingFailed(
            f"ONNX Runtime and torch disagree: scores by up to {report['score']:.3g}, "
            f"{report['flips']} flipped decisions, {report['nonfinite']} non-finite outputs",
            where=where,
            rule=f"scores may differ by {tolerance:g} and no decision may flip",
            fix="find the case in parity.json and compare the network's operators with the graph's",
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter warns about its own deprecations and about packages that this graph does not use."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m model.export", description="Export the released network to ONNX.")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), help="the experiment (params.yaml)")
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder that model.data wrote (data)")
    parser.add_argument("--record", type=Path, help="run record to release (runs/seed-N, N the first seed)")
    parser.add_argument("--out", type=Path, default=Path("export"), help="folder to write (export)")
    options = parser.parse_args(arguments)

    def work() -> None:
        params = load(options.params, Params)
        record = options.record or Path("runs") / f"seed-{params.seeds[0]}"
        report = export(params, options.data, record, options.out)
        file = options.out / "model.onnx"
        sys.stdout.write(f"wrote {file}: {report['bytes']:,} bytes, sha256 {report['sha256'][:12]}\n")
        sys.stdout.write(
            f"parity over {report['rows']:,} rows: scores within {report['score']:.1e} of torch, no flips\n"
        )

    return run_stage(work)


if __name__ == "__main__":
    sys.exit(main())
