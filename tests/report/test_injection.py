"""Hostile strings in every free field: none arrives as markup, mention, link, reference or command."""

import json
import re

import pytest

from ci_tools.errors import DataError
from ci_tools.gates import Outcome, Verdict
from ci_tools.gates.files import Verdicts
from ci_tools.report import results, summary
from ci_tools.report.comment import render
from ci_tools.report.results import name
from tests.report import cases
from tests.report.hostile import COMMAND, STRINGS
from tests.report.parsed import LINKED, OURS, names, shape, skeleton, tokens, words

HARMLESS = "harmless name"


def everywhere(text):
    """Results with the same name in every field that holds one."""
    n = name(text)
    one = cases.failing()
    verdicts = [
        cases.judged(n, outcome, 1.5, 1.0, (1.2, 1.8), n, facts=(*cases.facts(layer=n), *cases.facts(**{n: n})))
        for outcome in (cases.PASSED, cases.INCONCLUSIVE, cases.FAILED, cases.FAILED, cases.ERROR)
    ]
    return one.model_copy(
        update={
            "branch": n,
            "base": n,
            "verdicts": (*one.verdicts, *verdicts),
            "metrics": tuple(metric.model_copy(update={"metric": n}) for metric in one.metrics),
            "slices": tuple(part.model_copy(update={"slice": n, "metric": n}) for part in one.slices),
            "curves": tuple(curve.model_copy(update={"name": n, "split": n}) for curve in one.curves),
            "stages": tuple(stage.model_copy(update={"stage": n}) for stage in one.stages),
            "policy_changes": tuple(change.model_copy(update={"key": n}) for change in one.policy_changes),
            "policy_files": tuple(file.model_copy(update={"file": n}) for file in one.policy_files),
            "fingerprint": {n: n},
        }
    )


@pytest.fixture(scope="module")
def harmless():
    return skeleton(render(everywhere(HARMLESS), cases.LINKS))


@pytest.mark.parametrize("text", STRINGS, ids=range(len(STRINGS)))
def test_name_changes_nothing_but_the_code_it_stands_in(text, harmless):
    comment = render(everywhere(text), cases.LINKS)
    assert skeleton(comment) == harmless
    assert "\n" not in "".join(names(comment))
    assert not [line for line in comment.splitlines() if line.startswith(("/", "::"))]


def test_harmless_comment_links_only_where_it_was_told_to():
    comment = render(everywhere(HARMLESS), cases.LINKS)
    found = [token.attrs["href"] for token in tokens(comment) if token.type == "link_open"]
    assert found == [cases.LINKS.wandb, cases.LINKS.wandb_report, cases.LINKS.artifacts]
    assert not [text for text in words(comment) if LINKED.search(text)]
    html = [token.content for token in tokens(comment) if token.type.startswith("html")]
    assert html
    assert all(OURS.fullmatch(part) for part in html)


def test_strings_are_200_at_least_and_each_is_another():
    assert len(set(STRINGS)) == len(STRINGS) >= 200


@pytest.mark.parametrize("text", STRINGS, ids=range(len(STRINGS)))
def test_name_is_shown_as_it_is_but_for_what_is_replaced(text):
    shown = set(names(render(everywhere(text))))
    expected = name(text).translate({ord("|"): "\u00a6", ord("`"): "\u02cb"})
    assert expected in shown


@pytest.mark.parametrize("text", STRINGS, ids=range(len(STRINGS)))
def test_results_take_a_name_as_build_makes_it_and_refuse_it_raw_where_that_differs(text, tmp_path):
    path = tmp_path / "results.json"
    assert results.write(everywhere(text), path) == results.read(path)
    raw = json.loads(path.read_text())
    raw["branch"] = text
    path.write_text(json.dumps(raw))
    if name(text) == text:
        assert results.read(path).branch == text
    else:
        with pytest.raises(DataError, match=r"branch|hex escape"):
            results.read(path)


@pytest.fixture
def log(switchback, tmp_path, monkeypatch):
    """All that `switchback report --from` writes to the log of the job that comments; returns its exit code, too."""
    for variable in ("GITHUB_EVENT_PATH", "GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(tmp_path)

    def call(values, *options):
        (tmp_path / "results.json").write_text(json.dumps(values))
        return switchback("report", "--from", "results.json", *options)

    return call


@pytest.mark.parametrize("text", STRINGS, ids=range(len(STRINGS)))
def test_name_is_no_command_in_the_log_of_the_job_that_comments(text, log):
    code, out, err = log(everywhere(text).model_dump(mode="json"), "--json")
    assert code == 0, err
    assert json.loads(out)["results"]["branch"] == name(text)
    assert not COMMAND.search(out + err)


@pytest.mark.parametrize("text", STRINGS, ids=range(len(STRINGS)))
def test_error_that_quotes_the_file_is_no_command_in_the_log(text, log):
    whole = cases.failing().model_dump(mode="json")
    wrong = [whole | {text: 1}, whole | {"head_sha": f"{text}!"}, whole | {"stages": [{text: text}]}]
    if name(text) != text:
        wrong.append(whole | {"branch": text})
    for values in wrong:
        code, out, err = log(values, "--json")
        assert (code, json.loads(out)["error"]["exit_code"]) == (2, 2)
        assert not COMMAND.search(f"{out}\n{err}")
        assert err.count("\n") == 1
        assert err[:-1].isprintable()


def verdict(text):
    return Verdict(
        gate=text, subject=text, outcome=Outcome.FAILED, blocks=True, statistic=2.0, interval=None, threshold=1.0,
        unit=text, basis=text, diagnosis=text, remedy=text, evidence={text: text}, seconds=0.0, test=text,
    )  # fmt: skip


def verdicts(text):
    values = {"commit": "c" * 40, "dirty": False, "params_digest": "", "policy_digest": "", "started": "2026"}
    return Verdicts(**values, verdicts=(verdict(text),))


@pytest.mark.parametrize("text", STRINGS, ids=range(len(STRINGS)))
def test_sentence_in_the_step_summary_stays_a_sentence(text):
    told = summary.render("comment\n", verdicts(text))
    assert shape(told) == shape(summary.render("comment\n", verdicts(HARMLESS)))
    assert not [found for found in words(told) if LINKED.search(found)]


@pytest.mark.parametrize("text", STRINGS, ids=range(len(STRINGS)))
def test_annotation_is_one_command_that_says_what_was_said(text):
    (annotation,) = summary.annotations(verdicts(text))
    line = summary.commands([annotation])
    head, message = re.fullmatch(r"::error title=([^:,\r\n]*)::([^\r\n]*)\n", line).groups()
    assert decoded(message) == annotation.message
    assert decoded(head) == annotation.title


def decoded(text):
    """As GitHub's runner does."""
    for code, sign in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
        text = text.replace(code, sign)
    return text
