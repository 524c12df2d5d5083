"""The model card tells people what the files say, and interprets nothing of it."""

import io
import json

import pytest
from ruamel.yaml import YAML

from ci_tools.errors import DataError
from ci_tools.gates.verdict import Outcome
from ci_tools.release.bundle.evidence import Waiver
from ci_tools.release.bundle.manifest import CARD
from ci_tools.release.bundle.packing import pack
from tests.release.bundle import toy

METRICS = {
    "release": {"auc": 0.9, "loss": 0.25},
    "seeds": {name: {"mean": 0.8, "sd": 0.01, "min": 0.7, "max": 0.95} for name in ("auc", "loss")},
    "trees": {"auc": 0.85},
}
SLICES = {
    "region": {
        "north": {"n": 1200, "positives": 30, "release": {"auc": 0.875}, "seeds": {}},
        "<b>south|": {"n": 4, "positives": 0, "release": None, "seeds": None},
    }
}
SCHEMA = {
    "source": "simulated rows",
    "label": {"name": "fraud"},
    "numeric": [{"name": "amount", "unit": "currency"}, {"name": "hour"}],
    "categorical": [{"name": "region", "categories": []}],
    "split": {"rows": {"train": 10_000, "test": 2_000}, "positives": {"train": 300}},
}


@pytest.fixture
def measured(pipeline):
    for name, values in (("evaluation/metrics", METRICS), ("evaluation/slices", SLICES), ("data/schema", SCHEMA)):
        (pipeline / f"{name}.json").parent.mkdir(exist_ok=True)
        (pipeline / f"{name}.json").write_text(json.dumps(values))
    (pipeline / "gates.yaml").write_text("metrics: { auc: { floor: 0.5 }, loss: { floor: 1.0 } }\n")
    return pipeline


def card(key, **given):
    return pack(key=key, name="toy", created=toy.CREATED, **given).files[CARD].decode()


def head_of(text):
    empty, head, _ = text.split("---\n", 2)
    assert empty == ""
    return YAML(typ="safe", pure=True).load(io.StringIO(head))


def test_card_of_a_run_without_evaluation_holds_what_there_is(pipeline, key):
    text = card(key)
    assert head_of(text) == {"library_name": "onnx", "tags": ["onnx", "switchback"]}
    for line in ("# `toy`", "| input | `rows` | FP32 | [free, 2] |", "flagged where `score` ≥ 0.25", "## Provenance"):
        assert line in text
    assert "Quality" not in text.partition("## Limits")[0]


def test_head_holds_the_metrics_as_the_hub_reads_them(measured, key):
    (entry,) = head_of(card(key))["model-index"]
    (result,) = entry["results"]
    assert entry["name"] == "toy"
    assert result["task"] == {"type": "tabular-classification"}
    assert result["dataset"] == {"name": "simulated rows", "type": "tabular", "split": "test"}
    assert result["metrics"] == [{"type": "auc", "value": 0.9}, {"type": "loss", "value": 0.25}]


def test_card_shows_metrics_slices_data_and_columns(measured, key):
    text = card(key)
    for line in (
        "| `auc` | 0.9000 | 0.8000 ± 0.0100 | 0.7000 to 0.9500 | 0.8500 |",
        "| `loss` | 0.2500 | 0.8000 ± 0.0100 | 0.7000 to 0.9500 | unknown |",
        "| `north` | 1,200 | 30 | 0.8750 |",
        "| `train` | 10,000 | 300 |",
        "| `test` | 2,000 | unknown |",
        "2 numeric columns, in the order of the input: `amount` in `currency`, `hour`.",
        "- The data were simulated",
    ):
        assert line in text


def test_names_are_shown_and_not_interpreted(measured, key):
    row = next(line for line in card(key).splitlines() if "south" in line)
    assert row == "| `<b>south¦` | 4 | 0 | unknown |"


def test_verdicts_stand_with_their_intervals_worst_first(pipeline, key):
    toy.write_verdicts(
        pipeline,
        toy.verdict("fine"),
        toy.verdict("drift", Outcome.FAILED, diagnosis="It moved."),
        toy.verdict("open", Outcome.INCONCLUSIVE, diagnosis="No base."),
    )
    text = card(key)
    rows = [line for line in text.splitlines() if line.startswith(("| failed", "| inconclusive", "| passed"))]
    assert rows == [
        "| failed | `drift` | `0.5 [0.25, 0.75] ≤ 1 of it` | `It moved.` |",
        "| inconclusive | `open` | `0.5 [0.25, 0.75] ≤ 1 of it` | `No base.` |",
        "| passed | `fine` | `0.5 [0.25, 0.75] ≤ 1 of it` |  |",
    ]
    assert "Not decided, for want of evidence: `open`." in text


def test_overrides_stand_in_the_card(pipeline, key):
    toy.write_verdicts(pipeline, toy.verdict("floor", Outcome.FAILED, blocks=True))
    text = card(key, waiver=Waiver(gates=("floor",), by="Ada | Bob", reason="[x](y)"))
    assert "| `floor` | failed | `Ada ¦ Bob` | `[x](y)` |" in text
    assert "against its verdicts" in text


@pytest.mark.parametrize("dirty", [lambda root: toy.write_record(root, git_dirty=True), None])
def test_uncommitted_changes_are_a_limit(pipeline, key, dirty):
    if dirty:
        dirty(pipeline)
    assert ("Files differed from the commit" in card(key)) == bool(dirty)


@pytest.mark.parametrize(
    ("file", "values"),
    [
        ("evaluation/metrics.json", {"release": 1}),
        ("evaluation/metrics.json", {"release": {"auc": "x"}}),
        ("evaluation/slices.json", {"region": {"north": {}}}),
        ("data/schema.json", {"numeric": [{}]}),
    ],
)
def test_files_of_another_form_are_refused(measured, key, file, values):
    (measured / file).write_text(json.dumps(values))
    with pytest.raises(DataError, match="not as the pipeline writes them"):
        card(key)
