"""Small pipelines of every kind that a page must show, made from formulas, with verdicts as gates give them."""

import json
import re
from dataclasses import replace

import numpy as np
import pyarrow as pa

from benchmarks import long_run
from ci_tools.gates.files import Verdicts
from ci_tools.gates.run import open_run
from ci_tools.gates.verdict import Outcome, Verdict
from ci_tools.record.log import ArrowLog, read_log
from ci_tools.report import html

SEEDS = (1, 2, 3)
STEPS, LAYERS = 240, 6


def verdict(gate="divergence", outcome=Outcome.PASSED, **values):
    made = {
        "subject": "",
        "blocks": outcome is Outcome.FAILED,
        "statistic": {"passed": 0.2, "inconclusive": None}.get(outcome, 1.7),
        "interval": None,
        "threshold": 0.8,
        "unit": "share of the gain",
        "basis": "default",
        "diagnosis": f"{gate} was looked at",
        "remedy": "" if outcome is Outcome.PASSED else f"mend {gate}",
        "evidence": {},
        "seconds": 0.1,
    }
    return Verdict(gate=gate, outcome=outcome, **(made | values))


def verdicts(*found, **values):
    made = {
        "commit": "0123456789abcdef",
        "dirty": False,
        "params_digest": "0" * 64,
        "policy_digest": "1" * 64,
        "started": "2026-01-02T03:04:05+00:00",
        "seconds": 12.0,
    }
    return Verdicts(verdicts=tuple(found), **(made | values))


def against_main(**values):
    made = {
        "gate": "quality_against_main",
        "subject": "average_precision",
        "statistic": 0.0012,
        "interval": (-0.003, 0.0054),
        "threshold": 0.02,
        "unit": "in the metric's unit",
        "evidence": {"here by seed": {"1": 0.79, "2": 0.8}, "main by seed": {"1": 0.8, "2": 0.81}},
    }
    return verdict(**(made | values))


def passing():
    return verdicts(verdict(), against_main(), base="main")


def failing():
    bad = verdict("gradient_spikes", Outcome.FAILED, subject="seed-2", evidence={"steps": [88, 138], "layer": "input"})
    return verdicts(verdict("no_pickle"), bad, replace(bad, gate="divergence"), base="main")


def undecided():
    open_ended = verdict("label_noise", Outcome.INCONCLUSIVE, blocks=True, statistic=0.5, interval=(0.1, float("inf")))
    return verdicts(verdict(), open_ended, base="main")


def first_run():
    none = "no base revision was named (`switchback gate --base main`)"
    return verdicts(
        verdict(),
        against_main(outcome=Outcome.INCONCLUSIVE, statistic=None, interval=None, diagnosis=none, evidence={}),
    )


def pipeline(root, seeds=SEEDS, steps=STEPS, layers=LAYERS, names=()):
    """A finished pipeline under `root`."""
    long_run.write(root, steps=steps, layers=layers, seeds=seeds, names=names)
    return open_run(seeds, root)


def page(run, found, path=None):
    """The page's text."""
    path = path or run.root / "report/index.html"
    html.write(run, found, path)
    return path.read_text(encoding="utf-8")


def visible(text):
    """What stands outside of scripts and styles."""
    return re.sub(r"<(script|style)\b.*?</\1>", "", text, flags=re.S)


def data(text):
    """What the page's script reads."""
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)[1])


def change_loss(record, change):
    """Replace the losses of a record by `change` of them; run.json no longer vouches for the trace."""
    path = record / "trace.arrows"
    table = read_log(path)
    loss = np.asarray(change(table.column("loss").to_numpy().copy()), np.float32)
    at = table.schema.get_field_index("loss")
    table = table.set_column(at, table.schema.field(at), pa.array(loss, from_pandas=False))
    path.unlink()
    log = ArrowLog(path, table.schema)
    log.append({name: table.column(name).combine_chunks() for name in table.column_names})
    log.close(finished=True)
    meta = json.loads((record / "run.json").read_text())
    (record / "run.json").write_text(json.dumps(meta | {"files": {}}))
