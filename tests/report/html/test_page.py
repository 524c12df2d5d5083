import hashlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from ci_tools.errors import DataError
from ci_tools.gates.run import open_run
from ci_tools.gates.verdict import Outcome
from ci_tools.report import html
from ci_tools.report.html.page import clean, embedded
from tests.report.html import cases
from tests.report.html.cases import data, page, visible

CONTENT = {
    "passing": (cases.passing, ["You can merge", "noise", "divergence"]),
    "failing": (cases.failing, ["Do not merge", "gradient_spikes", "mend gradient_spikes", "seed-2", "Look first at"]),
    "undecided": (cases.undecided, ["Do not merge yet", "0.1 to ∞", "blocks"]),
    "first run": (cases.first_run, ["You can merge", "no base revision", "Nothing was compared"]),
}


@pytest.fixture
def copy(finished, tmp_path):
    """A pipeline to damage."""
    shutil.copytree(finished.root, tmp_path / "run")
    return open_run(cases.SEEDS, tmp_path / "run")


def edit(record, **values):
    meta = json.loads((record / "run.json").read_text())
    (record / "run.json").write_text(json.dumps(meta | values))


def words(text):
    """What a reader sees, without markup."""
    return " ".join(re.sub(r"<[^>]+>", " ", visible(text)).split())


@pytest.mark.parametrize("name", CONTENT)
def test_page_says_without_a_script_what_was_found(name, finished, tmp_path):
    found, expected = CONTENT[name]
    told = words(page(finished, found(), tmp_path / "index.html"))
    for phrase in expected:
        assert phrase in told


def test_failures_come_before_what_is_open_and_what_passed(finished, tmp_path):
    found = cases.verdicts(
        cases.verdict("first"),
        cases.verdict("second", Outcome.INCONCLUSIVE),
        cases.verdict("third", Outcome.FAILED, blocks=False),
        cases.verdict("fourth", Outcome.FAILED),
    )
    text = page(finished, found, tmp_path / "index.html")
    names = re.findall(r'<span class="name">(\w+)</span>', text)
    assert names == ["fourth", "third", "second", "first"]
    assert "does not block" in words(text)


def test_verdict_stands_with_numbers_diagnosis_remedy_and_evidence(finished, tmp_path):
    evidence = {"columns": [{"column": "amount", "size": 0.25}], "onset": 98, "nested": {"deep": {"deeper": [1, 2]}}}
    one = cases.verdict("drift", Outcome.FAILED, statistic=-0.51234, interval=(-0.6, 1.25), evidence=evidence)
    told = words(page(finished, cases.verdicts(one), tmp_path / "index.html"))
    minus = "\N{MINUS SIGN}"
    for part in (
        f"{minus}0.512",
        f"{minus}0.6 to 1.25",
        "≤ 0.8",
        one.diagnosis,
        one.remedy,
        "amount",
        "0.25",
        "98",
        "deeper [1, 2]",
    ):
        assert part in told


def test_curves_heat_map_histograms_and_ratios_hold_every_seed(finished, tmp_path):
    found = data(page(finished, cases.passing(), tmp_path / "index.html"))
    assert found["seeds"] == ["seed-1", "seed-2", "seed-3"]
    assert [chart["id"] for chart in found["charts"]][:2] == ["loss", "metric-0"]
    assert all(len(chart["lines"]) == 3 for chart in found["charts"])
    gradients = found["gradients"]
    for part in ("map", "histograms", "ratios"):
        assert sorted(gradients[part]["seeds"]) == ["0", "1", "2"], part
    assert len(gradients["layers"]) == cases.LAYERS


def test_policy_changes_and_first_divergence_stand_out(finished, tmp_path):
    differs = cases.verdict("reproducible", Outcome.FAILED, evidence={"differing": {"1": "identical until step 12"}})
    changes = ("gates.yaml: metrics.roc_auc.floor 0.9 → 0.1", "tests/model/test_a.py: removed")
    found = cases.verdicts(differs, base="main", policy_changes=changes)
    told = words(page(finished, found, tmp_path / "index.html"))
    assert "What judges this run differs from main" in told
    assert all(change in told for change in changes)
    assert "First divergence" in told
    assert "identical until step 12" in told


@pytest.mark.parametrize(
    ("changes", "same"),
    [((), True), (("calibration.json: new", "tests/model/a.py: changed"), True), (("gates.yaml: removed",), False)],
)
def test_gates_yaml_is_as_in_main_unless_a_line_is_about_it(changes, same, finished, tmp_path):
    found = cases.verdicts(cases.verdict(), base="main", policy_changes=changes)
    told = words(page(finished, found, tmp_path / "index.html"))
    assert ("as in main" in told) == same


def test_failures_that_cannot_cause_one_another_are_not_said_to(finished, tmp_path):
    found = [cases.verdict("quality_floor", Outcome.FAILED, subject=metric) for metric in ("roc_auc", "log_loss")]
    assert "Look first at" not in words(page(finished, cases.verdicts(*found), tmp_path / "index.html"))


def test_no_section_on_divergence_where_nothing_was_made_twice(finished, tmp_path):
    assert 'id="divergence"' not in page(finished, cases.passing(), tmp_path / "index.html")


def test_run_of_one_seed_says_what_it_cannot_tell(tmp_path):
    run = cases.pipeline(tmp_path / "one", seeds=(4,))
    assert "One seed alone does not tell" in words(page(run, cases.first_run()))


def test_crashed_record_is_shown_as_far_as_it_got(copy):
    record = copy.root / "runs/seed-2"
    size = (record / "trace.arrows").stat().st_size
    with (record / "trace.arrows").open("r+b") as file:
        file.truncate(size * 2 // 3)
    for name in ("probes.arrows", "evals.arrows", "metrics.json"):
        (record / name).unlink()
    edit(record, status="crashed", reason="RuntimeError: out of memory", steps=150, files={})
    text = page(copy, cases.failing())
    told = words(text)
    assert "seed-2 crashed after 150 of 240 steps: RuntimeError: out of memory" in told
    assert "seed-2 recorded no gradient probes" in told
    lines = {line["seed"]: line["mean"] for line in data(text)["charts"][0]["lines"]}
    assert lines[1][-1] is None
    assert lines[0][-1] is not None


@pytest.mark.parametrize(("seeds", "phrase"), [((1, 2), "seed-1 left no run record"), ((), "no run record")])
def test_empty_pipeline_is_a_page_in_words(seeds, phrase, tmp_path):
    text = page(open_run(seeds, tmp_path), cases.verdicts(cases.verdict("tests", Outcome.ERROR, blocks=True)))
    told = words(text)
    for one in (phrase, "No training step", "No metric was found", "No gradient"):
        assert one in told
    assert data(text)["charts"] == []


def test_loss_that_is_not_finite_is_marked(tmp_path):
    run = cases.pipeline(tmp_path, seeds=(1,))
    cases.change_loss(tmp_path / "runs/seed-1", lambda loss: np.where(np.arange(len(loss)) == 100, np.nan, loss))
    text = page(run, cases.failing())
    (line,) = data(text)["charts"][0]["lines"]
    assert line["nonfinite"] == [100]
    assert "seed-1 is not finite at 1 step." in words(text)


@pytest.mark.parametrize("name", ["evaluation/metrics.json", "evaluation/slices.json", "evaluation/calibration.csv"])
@pytest.mark.parametrize("content", ["{", "[1]", '{"release": 3, "channel": [1]}', "\0"])
def test_damaged_evaluation_is_one_clear_error(copy, name, content):
    (copy.root / name).write_text(content)
    with pytest.raises(DataError, match=re.escape(name)):
        page(copy, cases.passing())


@pytest.mark.parametrize(
    ("name", "lost"),
    [("run.json", "loss"), ("trace.arrows", "loss"), ("probes.arrows", ""), ("evals.arrows", "metric-0")],
)
def test_damaged_record_is_told_in_words_and_costs_no_other(copy, name, lost):
    (copy.root / "runs/seed-3" / name).write_bytes(b"not what it was")
    text = page(copy, cases.passing())
    told = words(text)
    assert "seed-3: record damaged (" in told
    assert "seed-3 recorded no" not in told
    drawn = {chart["id"]: {line["seed"] for line in chart["lines"]} for chart in data(text)["charts"]}
    assert all({0, 1} <= seeds for seeds in drawn.values())
    assert not lost or 2 not in drawn[lost]


def test_failed_build_leaves_the_page_that_was_there(copy):
    before = page(copy, cases.passing())
    (copy.root / "evaluation/metrics.json").write_text("{")
    with pytest.raises(DataError):
        page(open_run(cases.SEEDS, copy.root), cases.passing())
    assert (copy.root / "report/index.html").read_text() == before


def test_page_asks_nobody_for_anything(finished, tmp_path):
    text = page(finished, cases.failing(), tmp_path / "index.html")
    assert "default-src &#39;none&#39;" in text
    outside = visible(text)
    assert not re.search(r"\b(src|srcset|action|formaction|ping|poster)\s*=", outside)
    assert all(link.startswith("#") for link in re.findall(r'href="([^"]*)"', outside))
    assert not re.search(r"@import|url\(", text)


def test_vendored_library_is_the_one_that_its_note_names():
    folder = Path(html.__file__).parent / "vendor"
    noted = dict(re.findall(r"`([\w.]+)` \| ([0-9a-f]{64})", (folder / "README.md").read_text()))
    files = [path for path in folder.iterdir() if path.suffix in (".js", ".css")]
    assert noted == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    assert "MIT" in (folder / "LICENSE.uPlot").read_text()


def test_every_link_leads_somewhere(finished, tmp_path):
    text = page(finished, cases.failing(), tmp_path / "index.html")
    ids = re.findall(r'\bid="([^"]+)"', visible(text))
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', text)) <= set(ids)


def test_page_is_the_same_each_time(finished, tmp_path):
    first, second = (page(finished, cases.failing(), tmp_path / f"{i}.html") for i in range(2))
    assert first == second


def test_text_of_any_kind_survives_embedding():
    values = {"</script><script>": ["<!--", "&lt;", "]]>", "é", "plain"], "n": [1.5, None], "deep": {"a": "<b>"}}
    text = embedded(values)
    assert not set("<>&") & set(text)
    assert json.loads(text) == values


def test_invisible_and_turning_characters_are_replaced():
    hidden = "\u202e\u2066\u200b\u2028\x00\x1b\ud800\ufeff\U000e0041"
    assert clean(f"a{hidden}b") == "a" + "\ufffd" * len(hidden) + "b"
    assert clean("Grüße, 損失, 🙂\n") == "Grüße, 損失, 🙂\n"
    assert len(clean("x" * 10**6)) <= 4_000
