"""README.md of a bundle: the model card, in Hugging Face's form.

Names come from the repository and may be of any kind: they are shown as code, where nothing is interpreted.
https://huggingface.co/docs/hub/model-cards
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ci_tools.errors import DataError
from ci_tools.gates.policy import load_for_report
from ci_tools.gates.show import comparison, name_of, worst_first
from ci_tools.gates.verdict import Outcome, Verdict
from ci_tools.release.bundle import measured
from ci_tools.release.bundle.evidence import Evidence
from ci_tools.release.bundle.manifest import Manifest
from ci_tools.release.bundle.measured import figure, shown, text
from ci_tools.report.markdown import table


def write(evidence: Evidence, manifest: Manifest) -> str:
    """The card, as Markdown behind a YAML head; `manifest` lacks only the card itself.

    Raises:
        DataError: an optional file of the pipeline, of evaluation or data, is damaged.
    """
    run, meta = evidence.run, evidence.record.meta
    metrics = run.metrics if (run.root / "evaluation/metrics.json").exists() else {}
    slices = run.slices if (run.root / "evaluation/slices.json").exists() else {}
    schema = run.schema if (run.root / "data/schema.json").exists() else {}
    try:
        parts = [
            _head(manifest, metrics, schema),
            f"# {shown(manifest.name)}",
            _summary(evidence, manifest),
            _interface(manifest),
            *measured.data(schema, meta.data),
            measured.training(meta),
            *measured.quality(metrics),
            *measured.slices(slices, list(load_for_report(run.root).metrics)),
            _gates(evidence.verdicts.verdicts),
            *_overrides(manifest),
            _limits(evidence, manifest, schema),
            _provenance(evidence, manifest),
        ]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        what = f"evaluation or data files are not as the pipeline writes them ({type(error).__name__}: {error})"
        raise DataError(text(what), where=run.root.resolve(), fix="run `switchback reproduce`") from None
    return "\n\n".join(parts) + "\n"


def _head(manifest: Manifest, metrics: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """The YAML block; JSON's values are YAML's, too."""
    lines = ["---", "library_name: onnx", "tags: [onnx, switchback]"]
    # The hub wants a task; only that of rows with a label is known here.
    if "numeric" in schema and "label" in schema:
        task = "tabular-classification"
        lines.append(f"pipeline_tag: {task}")
        values = [{"type": text(name), "value": value} for name, value in sorted(metrics.get("release", {}).items())]
        if values:
            dataset = {"name": text(schema.get("source", "")), "type": "tabular", "split": "test"}
            result = {"task": {"type": task}, "dataset": dataset, "metrics": values}
            lines.append("model-index: " + json.dumps([{"name": text(manifest.name), "results": [result]}]))
    return "\n".join([*lines, "---"])


def _summary(evidence: Evidence, manifest: Manifest) -> str:
    at = f" at commit {shown(manifest.git_commit)}" if manifest.git_commit else ""
    size = f"{len(evidence.content):,}"
    return f"An ONNX model of {size} bytes, packed by Switchback; the gates below judged it on {manifest.created}{at}."


def _interface(manifest: Manifest) -> str:
    tensors = [("input", one) for one in manifest.inputs] + [("output", one) for one in manifest.outputs]
    rows = [
        [kind, shown(one.name), one.datatype, f"[{', '.join('free' if n < 0 else str(n) for n in one.shape)}]"]
        for kind, one in tensors
    ]
    decided = manifest.decision
    rule = (
        f"A row is flagged where {shown(decided.output)} ≥ {decided.threshold:.6g}."
        if decided
        else "How a score becomes a decision is not part of this bundle."
    )
    return "\n\n".join(["## What it takes and gives", table(["", "name", "type", "shape"], rows), rule])


def _gates(verdicts: Iterable[Verdict]) -> str:
    rows = [
        [
            str(one.outcome),
            shown(name_of(one)),
            shown(comparison(one)),
            "" if one.outcome is Outcome.PASSED else shown(one.diagnosis),
        ]
        for one in worst_first(verdicts)
    ]
    return "\n\n".join(["## Gates", table(["outcome", "gate", "measured [interval], limit", "why"], rows)])


def _overrides(manifest: Manifest) -> Iterator[str]:
    if manifest.overrides:
        yield "### Let pass by a person"
        rows = [[shown(one.gate), one.outcome, shown(one.by), shown(one.reason)] for one in manifest.overrides]
        yield table(["gate", "outcome", "by", "reason"], rows)


def _limits(evidence: Evidence, manifest: Manifest, schema: Mapping[str, Any]) -> str:
    """What the files say that nobody should rely on."""
    undecided = {one.gate for one in evidence.verdicts.verdicts if one.outcome is Outcome.INCONCLUSIVE}
    lines = ["Quality holds for rows that come as the test rows did; the judge of the release watches for others."]
    if undecided:
        lines.append(f"Not decided, for want of evidence: {', '.join(map(shown, sorted(undecided)))}.")
    if manifest.overrides:
        lines.append("A person let it pass against its verdicts, see above.")
    if "simulated" in str(schema.get("source", "")):
        lines.append("The data were simulated: nothing here says how it does on real ones.")
    if manifest.git_dirty or evidence.record.meta.git_dirty:
        lines.append("Files differed from the commit that is named, when it was trained or judged.")
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in lines)


def _provenance(evidence: Evidence, manifest: Manifest) -> str:
    meta, parity = evidence.record.meta, evidence.parity
    known = {
        "judged at commit": manifest.git_commit,
        "trained at commit": meta.git_commit,
        "run record": meta.id,
        "SHA-256 of its run.json": manifest.record_digest,
        "SHA-256 of the params": manifest.params_digest,
        "SHA-256 of the training's code": meta.code_digest,
        "SHA-256 of verdicts.json": manifest.verdicts_digest,
    }
    rows, flips, lost = (figure(parity.get(name), ",") for name in ("rows", "flips", "nonfinite"))
    return "\n\n".join(
        [
            "## Provenance",
            table(["", ""], [[name, shown(value) or "none"] for name, value in known.items()]),
            f"ONNX Runtime against torch, over {rows} rows: scores differ by {figure(parity.get('score'), '.1e')} at "
            f"most, {flips} decisions flip, {lost} outputs are not finite.",
        ]
    )
