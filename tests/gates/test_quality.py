"""Quality gates on made-up scores: what they find, and what they say of arms that do not fit together."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats
from sklearn.metrics import average_precision_score, log_loss

from ci_tools.gates import Baseline, Outcome, Run
from ci_tools.gates.comparison import Arm, loss, worst
from ci_tools.gates.policy import AgainstMain, Judge, Metric, Policy
from ci_tools.gates.quality import (
    calibration_error,
    quality_against_main,
    quality_floor,
    simpler_model,
    slices_against_main,
)
from ci_tools.record.files import write_table
from ci_tools.record.schema import SCHEMA_VERSION, RunMeta

AP, LOSS = "average_precision", "log_loss"
ROWS, SEEDS = 2_000, (1, 2, 3, 4, 5)
POLICY = Policy(
    metrics={
        AP: Metric(floor=0.5, margin=0.02, slice_margin=0.1, simpler_margin=0.02),
        LOSS: Metric(higher_is_better=False, floor=0.4, margin=0.02),
        "f1": Metric(floor=0.5, margin=0.05),
        "bare": Metric(),
    }
)
rng = np.random.default_rng(0)
SIGNAL = rng.normal(0, 1.5, ROWS)
LABEL = (rng.random(ROWS) < 1 / (1 + np.exp(2 - 2 * SIGNAL))).astype(np.float32)
GROUP = np.where(np.arange(ROWS) % 4 == 0, "few", "many")


def scores(seed, noise, rows=slice(None), *, bias=0.0, ids=None, label=LABEL, where=True):
    """The table of one seed: the signal blurred by `noise` in the rows of `where`."""
    blur = np.random.default_rng(seed).normal(0, 1, ROWS) * np.where(where, noise, 0.2)
    score = 1 / (1 + np.exp(2 - bias - 2 * (SIGNAL + blur)))
    columns = {
        "id": np.arange(ROWS) if ids is None else ids, "label": label, "score": score.astype(np.float32), "group": GROUP
    }  # fmt: skip
    return pa.table({name: values[rows] for name, values in columns.items()})


def run(noise=0.2, seeds=SEEDS, *, offset=0, root=None, **options):
    """A run whose seeds are blurred alike; `offset` draws the blur of other seeds under the same numbers."""
    made = Run(root or Path("here"), tuple(seeds))
    made.__dict__["records"] = tuple(
        SimpleNamespace(scores=scores(seed + offset, noise, **options), metrics={"f1": 0.6 + 0.01 * seed})
        for seed in seeds
    )
    return made


def verdict(measurement, policy=POLICY):
    return Judge(policy, None, "", 0).verdict(measurement)


def against(here, main, name=AP, policy=POLICY):
    return verdict(quality_against_main(here, Baseline(main), name, policy), policy)


def test_a_clear_loss_of_every_seed_fails_and_is_measured():
    found = against(run(noise=1.2), run(offset=100))
    assert found.outcome is Outcome.FAILED
    main, here = (
        np.mean([average_precision_score(LABEL, scores(s + o, n)["score"]) for s in SEEDS])
        for o, n in ((100, 0.2), (0, 1.2))
    )
    assert found.statistic == pytest.approx(main - here, abs=1e-9)
    assert found.interval[0] < found.statistic < found.interval[1]
    assert found.threshold == 0.02
    assert found.evidence["seeds worse"] == 5
    assert found.evidence["sign test"] == pytest.approx(1 / 32)
    assert f"lost {found.statistic:.4f}" in found.diagnosis


def test_other_draws_of_the_same_training_pass():
    found = against(run(offset=0), run(offset=100))
    assert found.outcome is Outcome.PASSED
    assert found.remedy == ""


def test_a_gain_passes():
    found = against(run(noise=0.2), run(noise=1.2, offset=100))
    assert found.outcome is Outcome.PASSED
    assert found.statistic < 0
    assert "gained" in found.diagnosis


def test_loss_of_a_metric_that_should_be_low_is_its_rise():
    found = against(run(noise=1.2), run(offset=100), LOSS)
    assert found.outcome is Outcome.FAILED
    worse, better = scores(1, 1.2)["score"].to_numpy(), scores(101, 0.2)["score"].to_numpy()
    assert log_loss(LABEL, worse) > log_loss(LABEL, better)
    assert found.statistic > 0


def test_identical_scores_pass_and_say_so():
    found = against(run(), run())
    assert (found.outcome, found.statistic) == (Outcome.PASSED, 0.0)
    assert "identical: all 5 seeds score all 2000 test rows" in found.diagnosis


def test_renamed_layers_do_not_matter():
    here, main = run(), run()
    here.records[0].meta = SimpleNamespace(layers=("a",))
    main.records[0].meta = SimpleNamespace(layers=("b",))
    assert against(here, main).outcome is Outcome.PASSED


def test_seeds_are_paired_by_number_not_by_position():
    forward, backward = against(run(1.2), run(offset=100)), against(run(1.2), run(seeds=SEEDS[::-1], offset=100))
    assert forward.interval == pytest.approx(backward.interval)
    assert forward.evidence["standard error"] == pytest.approx(backward.evidence["standard error"])


def test_arms_that_share_some_seeds_are_compared_on_those():
    shared = against(run(noise=1.2), run(offset=100))
    more = against(run(noise=1.2), run(seeds=(9, *SEEDS, 8), offset=100))
    assert more.statistic == shared.statistic
    assert more.evidence["seeds worse"] == 5


def test_arms_with_other_seeds_are_compared_without_pairs():
    found = against(run(noise=1.2), run(seeds=(6, 7, 8, 9)))
    assert found.outcome is Outcome.FAILED
    assert "5 and 4 seeds" in found.diagnosis
    assert "sign test" not in found.evidence


def test_pairs_are_more_certain_than_the_same_seeds_unpaired_where_seeds_go_together():
    def table(seed, shift):
        common = np.random.default_rng(seed).normal(0, 0.05 + 0.1 * seed, ROWS)
        score = 1 / (1 + np.exp(2 - 2 * (SIGNAL + common) + shift * np.random.default_rng(99).normal(0, 1, ROWS)))
        return SimpleNamespace(scores=pa.table({"id": np.arange(ROWS), "label": LABEL, "score": score}))

    here, main, other = Run(Path("here"), SEEDS), Run(Path("main"), SEEDS), Run(Path("main"), (6, 7, 8, 9, 10))
    here.__dict__["records"] = tuple(table(seed, 0.2) for seed in SEEDS)
    main.__dict__["records"] = other.__dict__["records"] = tuple(table(seed, 0.0) for seed in SEEDS)
    paired, unpaired = against(here, main), against(here, other)
    assert paired.statistic == pytest.approx(unpaired.statistic)
    assert paired.evidence["of which seeds"] < 0.3 * unpaired.evidence["of which seeds"]


def test_one_seed_per_arm_is_inconclusive():
    found = against(run(seeds=(1,)), run(seeds=(2,)))
    assert found.evidence["seeds wanted"] == POLICY.against_main.seeds
    assert found.outcome is Outcome.INCONCLUSIVE
    assert "two seeds" in found.diagnosis


def test_missing_baseline_is_inconclusive_with_its_reason():
    found = verdict(quality_against_main(run(), Baseline(None, "main has no pipeline"), AP, POLICY))
    assert (found.outcome, found.diagnosis, found.subject) == (Outcome.INCONCLUSIVE, "main has no pipeline", AP)


def test_arms_with_other_test_rows_are_compared_on_those_they_share():
    shuffled = np.random.default_rng(1).permutation(ROWS)[:1_950]
    found = against(run(noise=1.2, rows=slice(0, 1_950)), run(offset=100, rows=shuffled))
    kept = np.sort(shuffled[shuffled < 1_950])
    main, here = (
        np.mean([average_precision_score(LABEL[kept], scores(s + o, n)["score"].to_numpy()[kept]) for s in SEEDS])
        for o, n in ((100, 0.2), (0, 1.2))
    )
    assert found.statistic == pytest.approx(main - here, abs=1e-9)
    assert found.evidence["test rows"] == len(kept)


def test_arms_that_share_too_few_test_rows_are_no_evidence():
    found = against(run(rows=slice(0, 1_700)), run(offset=100))
    assert found.outcome is Outcome.INCONCLUSIVE
    assert "only 1,700 were scored by both arms" in found.diagnosis


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"ids": np.arange(ROWS) + ROWS}, "shares no test row with main"),
        ({"label": 1 - LABEL}, "2000 of 2000 test rows have another label than in main"),
        ({"ids": np.arange(ROWS) // 2}, "an id stands for several test rows"),
        ({"bias": np.nan}, "2000 scores of seed 1 are not finite"),
        ({"label": 2 * LABEL}, "labels are not 0 and 1"),
    ],
)
def test_scores_that_cannot_be_compared_are_an_error_in_one_sentence(options, sentence):
    found = against(run(**options), run(offset=100))
    assert found.outcome is Outcome.ERROR
    assert sentence in found.diagnosis
    assert "\n" not in found.diagnosis


def test_seeds_of_one_run_on_different_rows_are_an_error():
    mixed = run()
    mixed.records[1].scores = mixed.records[1].scores.slice(1)
    found = against(mixed, run(offset=100))
    assert found.outcome is Outcome.ERROR
    assert "seeds 1 and 2 were scored on different test rows (id differs)" in found.diagnosis


def test_scores_without_a_needed_column_are_an_error():
    poor = run()
    poor.records[0].scores = poor.records[0].scores.drop_columns(["score"])
    assert "no column score" in against(poor, run(offset=100)).diagnosis


def test_test_rows_of_one_class_are_inconclusive():
    found = against(run(label=0 * LABEL), run(offset=100, label=0 * LABEL))
    assert found.outcome is Outcome.INCONCLUSIVE
    assert "one class only" in found.diagnosis


NOISY = Policy(metrics={AP: Metric(margin=0.006)}, against_main=AgainstMain(seeds=5, max_seeds=20))


def test_an_undecided_comparison_says_what_it_could_detect_and_asks_for_seeds():
    found = against(run(noise=0.5), run(noise=0.5, offset=100), policy=NOISY)
    assert found.outcome is Outcome.INCONCLUSIVE
    assert found.evidence["seeds wanted"] == 10
    assert found.evidence["detectable loss"] > found.interval[1] - found.statistic + 0.006
    assert found.evidence["seeds needed"] > 5
    assert f"about {found.evidence['seeds needed']} seeds" in found.diagnosis
    assert "max_seeds" in found.remedy


def test_the_last_look_asks_for_no_further_seeds():
    policy = NOISY.model_copy(update={"against_main": AgainstMain(seeds=5, max_seeds=5)})
    found = against(run(noise=0.5), run(noise=0.5, offset=100), policy=policy)
    assert found.outcome is Outcome.INCONCLUSIVE
    assert "seeds wanted" not in found.evidence


def test_seeds_are_not_asked_for_where_the_test_rows_are_what_is_missing():
    slanted = np.where(np.arange(ROWS) % 2 == 0, 1.0, 0.2)  # half the rows are scored worse, in all seeds alike
    common = {"noise": 0.2, "seeds": (1, 2, 3, 4, 5)}
    here, main = run(**common), run(**common, offset=100)
    blur = np.random.default_rng(50).normal(0, 1, ROWS) * slanted
    for record in here.records:
        score = record.scores["score"].to_numpy() * np.exp(-np.abs(blur))
        record.scores = record.scores.set_column(2, "score", pa.array(score))
    loss = against(here, main).statistic
    policy = Policy(metrics={AP: Metric(margin=loss + 1e-4)})
    found = against(here, main, policy=policy)
    assert found.outcome is Outcome.INCONCLUSIVE
    assert "seeds wanted" not in found.evidence
    assert found.evidence["of which test rows"] > found.evidence["of which seeds"]


def test_a_slice_too_noisy_for_any_look_asks_for_no_seeds():
    tight = Policy(metrics={AP: Metric(margin=1e-4, slice_margin=1e-3)})
    found = verdict(slices_against_main(run(0.5), Baseline(run(0.5, offset=100)), AP, tight), tight)
    assert found.outcome is Outcome.INCONCLUSIVE
    assert "seeds wanted" not in found.evidence
    whole = against(run(0.5), run(0.5, offset=100), policy=tight)
    assert whole.evidence["seeds wanted"] == 10


def test_more_seeds_narrow_the_interval():
    few = against(run(0.5), run(0.5, offset=100), policy=NOISY)
    many = against(run(0.5, seeds=range(1, 11)), run(0.5, seeds=range(1, 11), offset=100), policy=NOISY)
    assert np.ptp(many.interval) < np.ptp(few.interval)


def test_a_metric_of_the_teams_own_is_read_from_the_records():
    here, main = run(), run(offset=100)
    for record in here.records:
        record.metrics["f1"] -= 0.3
    found = against(here, main, "f1")
    assert found.outcome is Outcome.FAILED
    assert found.statistic == pytest.approx(0.3)
    assert found.evidence["of which test rows"] == 0


def test_a_metric_that_nobody_recorded_is_an_error_that_names_the_choices():
    here = run()
    del here.records[2].metrics["f1"]
    found = against(here, run(offset=100), "f1")
    assert found.outcome is Outcome.ERROR
    assert "seed 3 holds no metric f1" in found.diagnosis
    assert "average_precision, roc_auc, log_loss" in found.diagnosis


def test_a_metric_without_demands_is_an_error_and_one_without_a_margin_inconclusive():
    assert "metrics.nothing: not set" in against(run(), run(), "nothing").diagnosis
    for gate, arguments in (
        (quality_floor, (run(), "bare", POLICY)),
        (quality_against_main, (run(), Baseline(run()), "bare", POLICY)),
        (slices_against_main, (run(), Baseline(run()), "bare", POLICY)),
        (simpler_model, (run(), "bare", POLICY)),
    ):
        found = verdict(gate(*arguments))
        assert found.outcome is Outcome.INCONCLUSIVE
        assert "gates.yaml sets no" in found.diagnosis


@pytest.mark.parametrize(("noise", "outcome"), [(0.2, Outcome.PASSED), (4.0, Outcome.FAILED)])
@pytest.mark.parametrize("name", [AP, LOSS])
def test_floor_judges_the_mean_over_seeds(name, noise, outcome):
    found = verdict(quality_floor(run(noise), name, POLICY))
    assert found.outcome is outcome
    assert found.interval[0] < found.statistic < found.interval[1]


def test_floor_within_the_noise_is_inconclusive():
    mean = np.mean([average_precision_score(LABEL, scores(s, 0.2)["score"]) for s in SEEDS])
    policy = Policy(metrics={AP: Metric(floor=float(mean) + 0.001)})
    found = verdict(quality_floor(run(), AP, policy), policy)
    assert found.outcome is Outcome.INCONCLUSIVE
    assert found.statistic == pytest.approx(0.001, abs=1e-9)


def test_floor_of_a_single_seed_says_what_it_cannot_know():
    assert "one seed, whose own noise is unknown" in verdict(quality_floor(run(seeds=(1,)), AP, POLICY)).diagnosis


def test_a_loss_in_one_slice_only_is_found_there():
    found = verdict(slices_against_main(run(noise=2.5, where=GROUP == "few"), Baseline(run(offset=100)), AP, POLICY))
    assert found.outcome is Outcome.FAILED
    assert found.subject == f"{AP}, group=few"
    assert found.evidence["slices that failed"] == ["group=few"]
    inside = GROUP == "few"
    main, here = (
        np.mean([average_precision_score(LABEL[inside], t["score"].to_numpy()[inside]) for t in tables])
        for tables in (
            [scores(s + 100, 0.2) for s in SEEDS],
            [scores(s, 2.5, where=inside) for s in SEEDS],
        )
    )
    assert found.statistic == pytest.approx(main - here, abs=1e-9)


def test_slices_pass_only_when_all_of_them_do():
    found = verdict(slices_against_main(run(), Baseline(run(offset=100)), AP, POLICY))
    assert found.outcome is Outcome.PASSED
    assert found.evidence["slices compared"] == 2
    highest = max(high for _, _, high in found.evidence["worst slices"].values())
    assert found.interval[1] == highest


def test_failing_any_slice_is_as_rare_as_failing_one_and_passing_takes_all():
    found = verdict(slices_against_main(run(), Baseline(run(offset=100)), AP, POLICY))
    low, high = found.interval
    freedom, tail = found.evidence["degrees of freedom"], (1 - found.evidence["confidence of the interval"]) / 2
    assert found.statistic - low == pytest.approx(stats.t.isf(tail / 2, freedom) * found.evidence["standard error"])
    assert high - found.statistic == pytest.approx(stats.t.isf(tail, freedom) * found.evidence["standard error"])


def test_a_slice_that_surely_lost_decides_over_one_that_may_have_lost_more():
    def lost(of, *values):
        here, main = (
            Arm(seeds=SEEDS, value_K=np.array(one), derivative_KN=np.zeros((5, 0)))
            for one in (np.zeros(5), np.array(values))
        )
        return loss(here, main, True, 0.025, of=of, among=2)

    sure, unsure = lost("sure", 0.2, 0.21, 0.19, 0.2, 0.2), lost("unsure", -1.0, 1.0, 0.5, 0.0, 0.3)
    assert worst([sure, unsure], margin=0.1).of == "sure"
    assert worst([sure, unsure], margin=0.3).of == "unsure"


def test_small_slices_are_counted_but_not_judged(monkeypatch):
    monkeypatch.setattr("ci_tools.gates.quality.SLICE_ROWS", 1_000)
    found = verdict(slices_against_main(run(), Baseline(run(offset=100)), AP, POLICY))
    assert (found.evidence["slices compared"], found.evidence["slices too small"]) == (1, 1)
    monkeypatch.setattr("ci_tools.gates.quality.SLICE_ROWS", 10_000)
    found = verdict(slices_against_main(run(), Baseline(run(offset=100)), AP, POLICY))
    assert found.outcome is Outcome.INCONCLUSIVE
    assert "none of 2 slices" in found.diagnosis


def evaluated(release, **simpler):
    """A run whose evaluation holds the release's scores and those of simpler models."""
    made = Run(Path("here"), SEEDS)
    columns = {"id": np.arange(ROWS), "label": LABEL, "group": GROUP, "seed_1": release} | simpler
    made.__dict__["scores"] = pa.table(columns)
    return made


def blurred(noise, seed=7):
    return scores(seed, noise)["score"].to_numpy()


def test_a_simpler_model_that_is_better_fails_and_is_named():
    found = verdict(simpler_model(evaluated(blurred(2), trees=blurred(0.2, 1), line=blurred(2, 2)), AP, POLICY))
    assert found.outcome is Outcome.FAILED
    assert found.subject == f"{AP}, trees"
    expected = average_precision_score(LABEL, blurred(0.2, 1)) - average_precision_score(LABEL, blurred(2))
    assert found.statistic == pytest.approx(expected, abs=1e-9)


def test_a_simpler_model_that_is_worse_passes():
    assert verdict(simpler_model(evaluated(blurred(0.2), line=blurred(2, 1)), AP, POLICY)).outcome is Outcome.PASSED


def test_interval_of_a_simpler_models_lead_is_that_of_the_paired_bootstrap():
    ours, theirs = blurred(0.6), blurred(0.4, 1)
    found = verdict(simpler_model(evaluated(ours, line=theirs), AP, POLICY))
    draw = np.random.default_rng(0)
    leads = []
    for _ in range(400):
        rows = draw.integers(0, ROWS, ROWS)
        leads.append(
            average_precision_score(LABEL[rows], theirs[rows]) - average_precision_score(LABEL[rows], ours[rows])
        )
    np.testing.assert_allclose(found.interval, np.quantile(leads, [0.025, 0.975]), atol=0.15 * np.ptp(found.interval))


def test_without_simpler_models_nothing_is_said():
    assert verdict(simpler_model(evaluated(blurred(1)), AP, POLICY)).outcome is Outcome.INCONCLUSIVE


@pytest.mark.parametrize(("bias", "outcome"), [(0.0, Outcome.PASSED), (2.0, Outcome.FAILED)])
def test_calibration_error_judges_what_calibrated_scores_would_not_show(bias, outcome):
    truth = 1 / (1 + np.exp(2 - bias - 2 * SIGNAL))
    found = verdict(calibration_error(evaluated(truth)))
    assert found.outcome is outcome
    assert found.interval[0] < found.statistic < found.interval[1]


def test_calibrated_scores_show_no_excess_on_average():
    excess = []
    for seed in range(40):
        made = evaluated(1 / (1 + np.exp(2 - 2 * SIGNAL)))
        label = np.random.default_rng(seed).random(ROWS) < made.scores["seed_1"].to_numpy()
        made.__dict__["scores"] = made.scores.set_column(1, "label", pa.array(label.astype(np.float32)))
        excess.append(calibration_error(made).reading.statistic)
    assert abs(np.mean(excess)) < 3 * np.std(excess) / np.sqrt(len(excess))


def test_calibration_of_one_class_is_inconclusive():
    made = evaluated(blurred(1))
    made.__dict__["scores"] = made.scores.set_column(1, "label", pa.array(np.zeros(ROWS)))
    assert verdict(calibration_error(made)).outcome is Outcome.INCONCLUSIVE


def test_gates_read_the_files_of_a_pipeline(tmp_path):
    for seed in SEEDS:
        folder = tmp_path / "runs" / f"seed-{seed}"
        folder.mkdir(parents=True)
        meta = RunMeta(
            schema_version=SCHEMA_VERSION, id="t", status="finished", command=[], workdir=".", seed=seed, params={},
            params_digest="", git_commit="", git_dirty=False, code={}, code_digest="", data={}, fingerprint={},
            probe_every=1, checkpoint_every=1, started="",
        )  # fmt: skip
        (folder / "run.json").write_text(meta.text())
        table = scores(seed, 1.2)
        write_table(folder / "scores.parquet", {name: table[name] for name in table.column_names})
    (tmp_path / "evaluation").mkdir()
    pq.write_table(evaluated(blurred(1), line=blurred(2)).scores, tmp_path / "evaluation/scores.parquet")
    here = Run(tmp_path, SEEDS)
    assert against(here, run(offset=100)).outcome is Outcome.FAILED
    assert verdict(simpler_model(here, AP, POLICY)).outcome is Outcome.PASSED
    (tmp_path / "runs/seed-3/scores.parquet").unlink()
    found = against(Run(tmp_path, SEEDS), run(offset=100))
    assert found.outcome is Outcome.ERROR
    assert "seed-3" in found.diagnosis
