from pathlib import Path

import pytest

from ci_tools.errors import ConfigError
from ci_tools.gates import Outcome, Reading, gate
from ci_tools.gates.calibration import Calibration, Reference
from ci_tools.gates.policy import Judge, Policy, Rule, difference, load

CLEAN = (1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8, 5.0)


def calibration(**statistics):
    return Calibration(
        params_digest="p",
        fingerprint={},
        commit="c",
        date="d",
        seeds=(),
        statistics=statistics,
        reference=Reference(samples=(), loss=()),
    )


def judge(text_or_policy=None, known=None, mismatch="", gates=1):
    return Judge(text_or_policy or Policy(), known, mismatch, gates)


@gate(limit=8.0, unit="", calibrated=True, floor=2.0)
def jump(value):
    return Reading(statistic=value, diagnosis="d")


@gate(limit=8.0, unit="")
def exact(value):
    return Reading(statistic=value, diagnosis="d")


@pytest.fixture
def written(tmp_path):
    def write(text):
        path = tmp_path / "gates.yaml"
        path.write_text(text)
        return path

    return write


def test_without_a_file_the_defaults_hold_and_everything_blocks(tmp_path):
    policy = load(tmp_path / "gates.yaml")
    assert policy == Policy()
    assert policy.rule("anything").stops(Outcome.FAILED)


@pytest.mark.parametrize(
    ("rule", "stopping"),
    [
        (Rule(), {"failed", "error"}),
        (Rule(inconclusive="blocks"), {"failed", "error", "inconclusive"}),
        (Rule(blocks=False), set()),
    ],
)
def test_rule_says_which_outcomes_stop_a_merge(rule, stopping):
    assert {outcome.value for outcome in Outcome if rule.stops(outcome)} == stopping


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("gatez: {}", ["gatez", "did you mean `gates`"]),
        ("gates: {drift: {block: false}}", ["gates.drift.block", "unknown key"]),
        ("gates: {drift: {blocks: 'no'}}", ["gates.drift.blocks", "'no'"]),
        ("gates: {drift: {inconclusive: fails}}", ["gates.drift.inconclusive", "'passes' or 'blocks'"]),
        ("gates: {drift: {limit: .nan}}", ["gates.drift.limit", "finite"]),
        ("metrics: {roc_auc: {margin: 0.02, slice_margin: 0.01}}", ["metrics.roc_auc", "slice_margin"]),
        ("metrics: {roc_auc: {margin: -1}}", ["metrics.roc_auc.margin", "greater than 0"]),
        ("against_main: {seeds: 8, max_seeds: 4}", ["against_main", "max_seeds (4)", "seeds (8)"]),
        ("false_alarms: 0", ["false_alarms", "greater than 0"]),
        ("- a", ["mapping"]),
        ("gates: [", ["YAML"]),
    ],
)
def test_bad_policy_is_one_sentence_that_names_the_key(written, text, words):
    with pytest.raises(ConfigError) as raised:
        load(written(text))
    message = str(raised.value)
    assert "gates.yaml" in message
    assert "\n" not in message
    for word in words:
        assert word in message


def test_rule_for_a_gate_that_no_test_ran_is_refused_with_the_nearest_name():
    policy = Policy(gates={"stragglers": Rule(), "divergense": Rule()})
    with pytest.raises(ConfigError, match=r"gates\.divergense.*did you mean `divergence`"):
        policy.refuse_unknown(["divergence", "stragglers"])
    with pytest.raises(ConfigError, match="correct the name, or remove the rule"):
        policy.refuse_unknown([])
    Policy(gates={"divergence": Rule()}).refuse_unknown(["divergence", "stragglers"])


def test_limit_of_the_policy_comes_before_calibration_and_default():
    policy = Policy(gates={"jump": Rule(limit=3.0)})
    verdict = judge(policy, calibration(jump=CLEAN)).verdict(jump(4.0))
    assert (verdict.threshold, verdict.basis, verdict.outcome) == (3.0, "gates.yaml", Outcome.FAILED)


def test_calibration_comes_before_the_default_and_says_so():
    verdict = judge(known=calibration(jump=CLEAN)).verdict(jump(4.0))
    assert verdict.basis == "calibrated on 10 clean runs"
    assert verdict.threshold == calibration(jump=CLEAN).limit(jump(0.0), Policy().false_alarms)


@pytest.mark.parametrize(
    ("known", "mismatch", "basis"),
    [
        (None, "", "default: no calibration.json"),
        (calibration(jump=CLEAN), "made with other params", "default: made with other params"),
        (calibration(jump=CLEAN[:3]), "", "default: too few clean runs"),
        (calibration(), "", "default: too few clean runs"),
    ],
)
def test_where_no_calibration_applies_the_default_holds_and_the_reason_is_given(known, mismatch, basis):
    verdict = judge(known=known, mismatch=mismatch).verdict(jump(4.0))
    assert (verdict.threshold, verdict.basis) == (8.0, basis)


def test_gate_that_needs_no_calibration_ignores_one():
    verdict = judge(known=calibration(exact=CLEAN)).verdict(exact(4.0))
    assert (verdict.threshold, verdict.basis) == (8.0, "default")


def test_gates_share_the_false_alarms():
    alone, shared = (judge(known=calibration(jump=CLEAN), gates=n).verdict(jump(1.0)).threshold for n in (1, 20))
    assert shared > alone
    expected = calibration(jump=CLEAN).limit(jump(1.0), Policy().false_alarms / 20)
    assert shared == expected


def test_rule_decides_whether_the_verdict_blocks():
    policy = Policy(gates={"exact": Rule(blocks=False)})
    assert not judge(policy).verdict(exact(9.0)).blocks
    assert judge().verdict(exact(9.0)).blocks
    assert not judge().verdict(exact(1.0)).blocks


def test_loosened_policy_shows_line_by_line(written):
    old = load(written("gates: {jump: {limit: 3}}\nmetrics: {auc: {floor: 0.9}}\n"))
    text = "gates: {jump: {limit: 4}, drift: {blocks: false}}\nmetrics: {auc: {floor: 0.8, margin: 0.1}}\n"
    assert difference(old, load(written(text))) == [
        "gates.drift.blocks unset → false",
        "gates.jump.limit 3.0 → 4.0",
        "metrics.auc.floor 0.9 → 0.8",
        "metrics.auc.margin unset → 0.1",
    ]


def test_rule_that_says_the_default_is_no_difference(written):
    assert difference(Policy(), load(written("gates: {drift: {blocks: true}}"))) == []


def test_shipped_policy_is_valid_and_demands_quality():
    policy = load(Path(__file__).parents[2] / "gates.yaml")
    assert any(metric.floor is not None and metric.margin is not None for metric in policy.metrics.values())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gates: {drift: {blocks: false, inconclusive: blocks}}", "says nothing where blocks is false"),
        ("gates: {quality_against_main: {limit: 5.0}}", r"gates\.quality_against_main\.limit contradicts metrics"),
    ],
)
def test_limits_that_contradict_each_other_are_refused(tmp_path, text, said):
    path = tmp_path / "gates.yaml"
    path.write_text(text + "\n")
    with pytest.raises(ConfigError, match=said):
        load(path)
