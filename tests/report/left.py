"""What a pipeline of two seeds and its gates leave behind, without a training."""

import json

from ci_tools.gates import Outcome, Verdict, files
from ci_tools.gates.files import Verdicts
from tests.report.track.written import finished

COMMIT = "0123456789abcdef0123456789abcdef01234567"
GATES_YAML = """\
metrics:
  average_precision: {margin: 0.02, slice_margin: 0.1}
  log_loss: {higher_is_better: false, margin: 0.002}
"""


def verdict(gate="divergence", outcome=Outcome.PASSED, **changes):
    values = {
        "gate": gate, "subject": "", "outcome": outcome, "blocks": outcome is Outcome.FAILED, "statistic": 0.5,
        "interval": None, "threshold": 0.8, "unit": "u", "basis": "default: no calibration.json", "diagnosis": "d",
        "remedy": "", "evidence": {}, "seconds": 0.1, "test": "",
    }  # fmt: skip
    return Verdict(**values | changes)


def judge(root, *verdicts, **changes):
    values = {"commit": COMMIT, "dirty": False, "params_digest": "a" * 64, "policy_digest": "", "started": "2026"}
    files.write(Verdicts(**values | {"seconds": 1.5, "verdicts": verdicts} | changes), root / "gates/verdicts.json")


def store(path, values):
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(json.dumps(values))


def failed(gate="divergence", **changes):
    return verdict(gate, Outcome.FAILED, **changes)


def leave(root):
    """A run under `root` on which one gate passed."""
    (root / "params.yaml").write_text("seeds: [3, 4]\n")
    (root / "gates.yaml").write_text(GATES_YAML)
    for seed in (3, 4):
        folder = finished(root / f"runs/seed-{seed}", metrics=("average_precision",), train_seconds=90.0)
        meta = json.loads((folder / "run.json").read_text())
        store(folder / "run.json", meta | {"fingerprint": {"gpu": "A10, A10"}, "energy_joules": 50.0})
    release = {"average_precision": 0.79, "log_loss": 0.02, "roc_auc": 0.98}
    store(
        root / "evaluation/metrics.json",
        {"release": release, "seeds": {key: {"mean": value + 0.001, "sd": 0.004} for key, value in release.items()}},
    )
    seeds = {"3": {"average_precision": 0.6}, "4": {"average_precision": 0.7}}
    channel = {"web": {"n": 900, "positives": 100, "seeds": seeds}, "fax": {"n": 20, "positives": 1, "seeds": seeds}}
    store(root / "evaluation/slices.json", {"channel": channel})
    judge(root, verdict())
