import pytest

from ci_tools.gates import Outcome
from ci_tools.gates.files import Verdicts
from ci_tools.report.summary import LARGEST, MOST, annotations, append, commands, render
from tests.report.left import failed, verdict
from tests.report.parsed import words

PARAMS = "train:\n  lr: 6e-3\n"


@pytest.fixture
def root(tmp_path):
    (tmp_path / "params.yaml").write_text(PARAMS)
    return tmp_path


def verdicts(*found):
    return Verdicts(commit="", dirty=False, params_digest="", policy_digest="", started="2026", verdicts=found)


def test_annotation_names_file_line_gate_and_fix(root):
    one = failed(subject="seed-3", diagnosis="it rose, at 50 %", remedy="halve lr", statistic=1.2, blocks=True)
    assert commands(annotations(verdicts(one), root)) == (
        "::error file=params.yaml,line=2,title=divergence (seed-3) failed::"
        "it rose, at 50 %25%0A1.2 > 0.8 u%0AFix: halve lr\n"
    )


def test_what_does_not_block_warns_and_what_passed_or_is_open_is_not_annotated(root):
    open_ = verdict("drift", Outcome.INCONCLUSIVE)
    found = annotations(verdicts(verdict(), open_, failed("stragglers", blocks=False)), root)
    assert [(one.level, one.title) for one in found] == [("warning", "stragglers failed")]
    (blocking,) = annotations(verdicts(verdict("drift", Outcome.INCONCLUSIVE, blocks=True)), root)
    assert blocking.level == "error"


def test_no_more_annotations_than_github_shows(root):
    found = annotations(verdicts(*[failed() for _ in range(15)], *[failed(blocks=False) for _ in range(15)]), root)
    assert [one.level for one in found] == ["error"] * MOST + ["warning"] * MOST


def test_summary_is_the_comment_and_the_gates_own_words():
    told = render("# comment\n", verdicts(verdict(diagnosis="fine"), failed(diagnosis="it rose.", remedy="halve it")))
    assert told.startswith("# comment\n\n### Diagnoses\n")
    assert any("it rose." in text for text in words(told))
    assert any("halve it" in text for text in words(told))
    assert "fine" not in told


def test_summary_of_passes_is_the_comment_alone():
    assert render("comment\n", verdicts(verdict())) == "comment\n\n"


def test_summary_is_never_larger_than_github_takes():
    many = [failed(diagnosis="@" * 5000, remedy="@" * 5000) for _ in range(300)]
    told = render("comment\n", verdicts(*many))
    assert LARGEST * 0.9 < len(told.encode()) < LARGEST + 200
    assert "more in gates/verdicts.json" in told.splitlines()[-1]


def test_summary_is_added_to_what_stands_there(tmp_path):
    path = tmp_path / "summary"
    append("one\n", path)
    append("two ✅\n", path)
    assert path.read_text(encoding="utf-8") == "one\ntwo ✅\n"
