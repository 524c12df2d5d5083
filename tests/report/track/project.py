"""A repository whose pipeline has run, without torch, and W&B's client in an environment of its own."""

import contextlib
import json
import os
from dataclasses import replace
from unittest import mock

import wandb

from ci_tools.gates import files
from ci_tools.gates.files import Verdicts
from ci_tools.gates.verdict import Outcome, Verdict
from ci_tools.report.track.command import track
from tests.report.track.backend import KEY
from tests.report.track.written import finished

VERDICT = Verdict(
    gate="divergence",
    subject="seed-1",
    outcome=Outcome.PASSED,
    blocks=False,
    statistic=0.25,
    interval=None,
    threshold=0.8,
    unit="share",
    basis="default",
    diagnosis="The loss came to rest.",
    remedy="",
    evidence={"step": 12, "worst": float("inf")},
    seconds=0.1,
)
VERDICTS = Verdicts(
    commit="c" * 40,
    dirty=False,
    params_digest="d" * 64,
    policy_digest="e" * 64,
    started="2026-11-21T10:06:00+00:00",
    verdicts=(
        VERDICT,
        replace(VERDICT, gate="drift", subject="<img src=x> @everyone", outcome=Outcome.FAILED, blocks=True),
        replace(VERDICT, gate="plateau", outcome=Outcome.INCONCLUSIVE, statistic=None, interval=(0.5, float("inf"))),
    ),
)


def make(root, verdicts=VERDICTS):
    """Fill a folder; returns it."""
    record = finished(root / "runs/seed-1", data={"data/train.npz": "0" * 64})
    weights = record / "checkpoints/step-00000060"
    contents = {
        weights / "model.safetensors": "weights",
        root / "export/model.onnx": "graph",
        root / "export/parity.json": "{}",
        root / "evaluation/metrics.json": json.dumps({"release": {"roc_auc": 0.5}, "note": "text"}),
        root / "report/index.html": "<!doctype html><title>r</title><p>whole page</p>",
    }
    for path, content in contents.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    if verdicts:
        files.write(verdicts, root / "gates/verdicts.json")
    return root


@contextlib.contextmanager
def surroundings(root, backend=None, **settings):
    """The repository as working directory, W&B's settings as given, and nothing of the developer's own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB", "GITHUB", "NETRC"))}
    own = {"WANDB_CONFIG_DIR": str(root / "home"), "WANDB_CACHE_DIR": str(root / "home"), "NETRC": str(root / "no")}
    if backend is not None:
        own |= {"WANDB_BASE_URL": backend.url, "WANDB_API_KEY": KEY}
    with mock.patch.dict(os.environ, kept | own | settings, clear=True), contextlib.chdir(root):
        try:
            yield
        finally:
            wandb.teardown()


def tell(root, backend=None, records=("runs/seed-1",), seconds=5.0, **settings):
    """`switchback track`, in this process."""
    with surroundings(root, backend, **settings):
        return track([root / name for name in records], root=root, seconds=seconds)
