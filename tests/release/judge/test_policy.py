"""release.yaml and its budgets."""

from pathlib import Path

import pytest

from ci_tools import config
from ci_tools.errors import ConfigError
from ci_tools.release.judge import Policy, budget, load

SHIPPED = Path(__file__).parents[3] / "release.yaml"


def refuse(raw):
    with pytest.raises(ConfigError) as refused:
        config.validate(raw, Policy, where="release.yaml")
    return str(refused.value)


def test_shipped_policy_is_the_default_one():
    assert load(SHIPPED) == Policy()


def test_without_a_file_the_defaults_hold(tmp_path):
    assert load(tmp_path / "release.yaml") == Policy()


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        ({"false_rollbacks": 0.1}, "did you mean `false_rollback`?"),
        ({"false_rollback": 0}, "false_rollback: input should be greater than 0, got 0"),
        ({"wrong_promotion": 0.7}, "wrong_promotion"),
        ({"events": {"errors": {"tolerated_ratio": 2.0, "margin_ratio": 1.5}}}, "margin_ratio (1.5) must exceed"),
        ({"events": {"errors": {"blocks": False}}}, "needed is true where blocks is false"),
        ({"events": {"5xx": {}}}, "metric name '5xx'"),
        ({"latency": {"p95": {"quantile": 0.95, "tolerated_ratio": 1.05, "margin_ratio": 1.06}}}, "histogram bin"),
        ({"latency": {"p95": {"quantile": 1.0}}}, "latency.p95.quantile"),
        ({"flips": {"tolerated": 0.1, "margin": 0.05}}, "margin (0.05) must exceed tolerated (0.1)"),
        ({"ramp": {"first": 0.5, "largest": 0.2}}, "smallest ≤ first ≤ largest"),
        ({"min_seconds": 4000.0}, "must lie before deadline_seconds"),
        ({"at_deadline": "promote"}, "at_deadline"),
        ({"events": {}, "latency": {}, "flips": None}, "no metric is needed"),
    ],
)
def test_bad_values_are_named(raw, told):
    assert told in refuse(raw)


def test_budgets_of_blocking_metrics_sum_to_the_whole():
    policy = Policy.model_validate(
        {"events": {"errors": {"alpha_share": 3.0}, "told": {"blocks": False, "needed": False}}}
    )
    alphas = budget.alphas(policy)
    blocking = [name for name, metric in policy.metrics.items() if metric.blocks]
    assert sum(alphas[name] for name in blocking) == pytest.approx(policy.false_rollback, rel=1e-12)
    assert alphas["events.errors"] == pytest.approx(3 * alphas["latency.p95"])
    assert alphas["events.told"] == policy.false_rollback


def test_parts_within_a_metric_do_not_exceed_it():
    harm = (budget.FAST, budget.ROBUST, budget.OUTAGE)
    safe = (budget.SAFE_FAST, budget.SAFE_ROBUST, budget.SAFE_RATE)
    assert [sum(harm), sum(safe)] == pytest.approx([1, 1])


def test_every_key_says_what_it_means():
    def undocumented(schema):
        for name, section in {"Policy": schema, **schema["$defs"]}.items():
            for key, field in section["properties"].items():
                if "description" not in field and not {"$ref", "anyOf"} & field.keys():
                    yield f"{name}.{key}"

    assert [*undocumented(Policy.model_json_schema())] == []
