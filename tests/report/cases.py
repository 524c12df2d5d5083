"""Results as realistic runs leave them, for the goldens of the comment.

`python -m tests.report.cases` writes tests/report/golden/*.md anew; look at the diff before you commit it.
"""

import math
from pathlib import Path

from ci_tools.gates.reasons import Reason
from ci_tools.gates.verdict import Outcome
from ci_tools.report.comment import render
from ci_tools.report.links import Links
from ci_tools.report.results import (
    Curve,
    Fact,
    Judged,
    Metric,
    PolicyChange,
    PolicyFile,
    Results,
    SeedRun,
    Slice,
    Stage,
)

GOLDEN = Path(__file__).parent / "golden"
PASSED, INCONCLUSIVE, ERROR, FAILED = Outcome
LINKS = Links(
    wandb="https://wandb.example.org/team/risk/runs/6ae0282ffec1",
    wandb_report="https://wandb.example.org/team/risk/reports/PR-42--Vmlldzo0Mg",
    artifacts="https://github.example.org/team/risk/actions/runs/17",
)
STACK = {
    "cpu": "AMD EPYC (26/2/1)",
    "cuda": "13.0",
    "deterministic": "algorithms+cudnn, tf32 off, CUBLAS_WORKSPACE_CONFIG=:4096:8",
    "gpu": "NVIDIA A10",
    "python": "3.11.7",
    "switchback": "0.1.0",
    "torch": "2.13.0",
}


def judged(gate, outcome=PASSED, statistic=None, threshold=None, interval=None, subject="", blocks=None, **more):
    """A verdict; failures block unless told otherwise."""
    return Judged(
        gate=gate,
        subject=subject,
        outcome=outcome,
        blocks=outcome in (ERROR, FAILED) if blocks is None else blocks,
        statistic=statistic,
        interval=interval,
        threshold=threshold,
        basis=more.pop("basis", "calibrated" if gate in CALIBRATED else "default"),
        **more,
    )


CALIBRATED = ("divergence", "vanishing_gradients", "gradient_noise", "plateau", "overfitting")


def facts(**values):
    return tuple(Fact(name=name.replace("_", " "), value=value) for name, value in values.items())


def healthy():
    """Verdicts that pass with and without a base revision."""
    return [
        judged("onnx_parity", PASSED, 0.1382, 1.0, facts=facts(score=3.6e-07, flips=0.0, tolerance=1e-05)),
        judged("no_pickle", PASSED, 0.0, 0.0),
        judged("data_leakage", PASSED, 0.0427, 1.0, (0.0427, 0.0427)),
        judged(
            "quality_floor",
            PASSED,
            -0.0912,
            0.0,
            (-0.1162, -0.0663),
            "average_precision",
            facts=facts(value=0.7912, floor=0.7, better="higher"),
        ),
        judged(
            "quality_floor",
            PASSED,
            -0.0332,
            0.0,
            (-0.0376, -0.0288),
            "roc_auc",
            facts=facts(value=0.9832, floor=0.95, better="higher"),
        ),
        judged("simpler_model", PASSED, 0.0174, 0.05, (0.0003, 0.0323), "average_precision, gradient_boosting"),
        judged("checkpoint_corruption", PASSED, 0.0, 0.0, subject="seed-1"),
        judged("vanishing_gradients", PASSED, 0.7245, 1.0, subject="seed-3"),
        judged("plateau", PASSED, 0.0692, 0.2, subject="seed-1"),
        judged("overfitting", PASSED, 0.0, 0.05, (0.0, 0.0), subject="seed-1"),
    ]


def calm():
    return judged("divergence", PASSED, 0.221, 0.8, subject="seed-2")


def against_main(ap, auc, loss):
    """The three comparisons: (outcome, loss of quality, its interval) each."""
    rows = zip(("average_precision", "roc_auc", "log_loss"), (0.02, 0.005, 0.002), (ap, auc, loss), strict=True)
    return [
        judged("quality_against_main", outcome, lost, margin, interval, metric)
        for metric, margin, (outcome, lost, interval) in rows
    ]


def metrics(verdicts, main):
    """The rows of the metrics table that belong to such verdicts."""
    found = []
    for one, level in zip(verdicts, main, strict=True):
        higher = one.subject != "log_loss"
        low, high = one.interval
        found.append(
            Metric(
                metric=one.subject,
                higher_is_better=higher,
                main=level,
                here=level - one.statistic if higher else level + one.statistic,
                sd=0.004 * level,
                seeds=5,
                interval=(-high, -low) if higher else (low, high),
                confidence=0.9833,
                margin=one.threshold,
                outcome=one.outcome,
            )
        )
    return (*found, Metric(metric="recall_at_precision", higher_is_better=True, here=0.8493, sd=0.0057, seeds=5))


def curves(diverged_at=None):
    """A loss that falls, and from `diverged_at` on rises until it is no number; a validation metric."""
    step = tuple(range(9, 400, 10))
    fall = [0.02 + 0.6 * math.exp(-s / 45) for s in step]
    if diverged_at is not None:
        fall = [v if s < diverged_at else v * math.exp((s - diverged_at) / 12) for s, v in zip(step, fall, strict=True)]
    mean = tuple(float(f"{v:.6g}") if v < 500 else None for v in fall)
    low, high = (tuple(None if v is None else float(f"{v * k:.6g}") for v in mean) for k in (0.9, 1.15))
    evaluated = tuple(range(50, 401, 50))
    metric = tuple(float(f"{0.79 - 0.5 * math.exp(-s / 60):.6g}") for s in evaluated)
    return (
        Curve(of="loss", name="loss", split="train", seeds=5, step=step, mean=mean, low=low, high=high),
        Curve(
            of="metric", name="average_precision", split="validation", seeds=5, step=evaluated, mean=metric,
            low=tuple(v - 0.008 for v in metric), high=tuple(v + 0.006 for v in metric),
        ),
    )  # fmt: skip


def stages(ran):
    """The stages of a walk; the trainings that `ran` counts really ran."""
    first = [("fingerprint", "checked", 1.2, None), ("data", "cached", 0.1, 21.4)]
    train = [(f"train@{k}", "ran" if k <= ran else "cached", 138.7 if k <= ran else 0.1, 138.7) for k in range(1, 6)]
    last = [("evaluate", "ran" if ran else "cached", 12.0 if ran else 0.1, 12.0), ("export", "restored", 0.3, 8.9)]
    return tuple(
        Stage(stage=stage, outcome=outcome, seconds=seconds, ran_seconds=real)
        for stage, outcome, seconds, real in (*first, *train, *last)
    )


def results(verdicts, ran=5, **more):
    """What is the same in all cases; anything may be changed."""
    values = {
        "created": "2026-11-21T15:16:30+00:00",
        "pull_request": 42,
        "head_sha": "0b2aeb641987471239cdaf773e6ad5550e46796a",
        "branch": "wider-embedding",
        "commit": "0b2aeb641987471239cdaf773e6ad5550e46796a",
        "dirty": False,
        "base": "origin/main",
        "selected": False,
        "refused": False,
        "gate_seconds": 15.368,
        "pipeline_seconds": 720.4 if ran else 7.1,
        "verdicts": tuple(verdicts),
        "curves": curves(),
        "runs": tuple(
            SeedRun(
                seed=seed, status="finished", steps=400, total_steps=400, train_seconds=138.7, gpus=1, joules=14_100.0
            )
            for seed in range(1, 6)
        ),
        "stages": stages(ran),
        "fingerprint": STACK,
        "params_digest": "da45dfdcf3f8eacf6d8dc3df4a8f445da33261d31c8d22d16884bb6032d630fe",
        "policy_digest": "984d1c7b87649936eb3b003cae6e3f31b25d6d5ff25e80192ed7e6bf20acfe44",
        "code_digest": "0d8968e5d6a7122380d5b445351101cd10ae8956252465cf4c4ae96b9e8baa87",
    }
    return Results(**values | more)


MAIN = (0.7912, 0.98317, 0.02263)


def passing():
    """A change that is better in one metric and noise in the others."""
    compared = against_main(
        (PASSED, -0.0022, (-0.0054, 0.001)), (PASSED, -0.0009, (-0.0014, -0.0004)), (PASSED, 0.0001, (-0.0002, 0.0004))
    )
    return results([*healthy(), calm(), *compared], metrics=metrics(compared, MAIN), slices=slices(False))


def failing():
    """A training that diverged, which cost quality; the policy was loosened at the same time."""
    compared = against_main(
        (FAILED, 0.0412, (0.0301, 0.0523)), (FAILED, 0.0088, (0.0061, 0.0115)), (PASSED, 0.0011, (0.0004, 0.0018))
    )
    numbers = facts(step=213.0, best_step=208.0, onset=210.0, returns_to_a_checkpoint=1.0)
    bad = [
        judged("divergence", FAILED, 1.42, 0.8, subject="seed-3", facts=numbers),
        judged("stragglers", FAILED, 2.43, 1.5, subject="seed-1", blocks=False),
        judged("slices_against_main", FAILED, 0.15, 0.1, (0.104, 0.196), "average_precision, channel=online"),
        judged("latency", ERROR, blocks=True),
    ]
    runs = [SeedRun(seed=seed, status="finished", steps=400, total_steps=400, train_seconds=138.7) for seed in (1, 2)]
    runs.append(SeedRun(seed=3, status="failed", steps=260, total_steps=400, train_seconds=90.2, recoveries=1))
    return results(
        [*healthy(), *compared, *bad],
        metrics=metrics(compared, MAIN),
        slices=slices(True),
        curves=curves(diverged_at=210),
        runs=tuple(runs),
        dirty=True,
        policy_changes=(
            PolicyChange(key="gates.stragglers.blocks", old=None, new=False),
            PolicyChange(key="metrics.average_precision.margin", old=0.01, new=0.02),
            PolicyChange(file="release.yaml", key="ramp.first", old=0.01, new=0.05),
        ),
        policy_files=(PolicyFile(file="tests/model/test_data.py", became="removed"),),
    )


def inconclusive():
    """A comparison that does not decide, which the policy does not let pass."""
    compared = against_main(
        (INCONCLUSIVE, 0.012, (-0.004, 0.028)), (PASSED, 0.0002, (-0.0009, 0.0013)), (PASSED, 0.0, (-0.0004, 0.0004))
    )
    compared[0] = compared[0].model_copy(update={"blocks": True, "facts": facts(seeds_needed=23.0, seeds_wanted=10.0)})
    noisy = judged("gradient_noise", INCONCLUSIVE, 0.1191, 6.0, (0.1191, 499.5), "seed-5")
    return results([*healthy(), calm(), noisy, *compared], ran=2, metrics=metrics(compared, MAIN), slices=slices(False))


def first_run():
    """A repository's first run: nothing to compare with, on a machine without a GPU, all from the cache."""
    silent = ("model_size", "latency", "schema_changed", "reproducible")
    unknown = [judged(gate, INCONCLUSIVE, threshold=1.0, reason=Reason.NO_BASE) for gate in silent]
    unknown += [
        judged("quality_against_main", INCONCLUSIVE, None, 0.0, subject="average_precision", reason=Reason.NO_BASE),
        judged("label_noise", INCONCLUSIVE, None, 0.25, subject="seed-1", reason=Reason.FEW_MARGINS),
        judged("numerical_instability", INCONCLUSIVE, 0.4, 1.0, (0.4, None), "seed-2", reason=Reason.NO_SHADOW),
    ]
    values = (("average_precision", 0.79125, 0.00633), ("log_loss", 0.02263, 0.00033), ("roc_auc", 0.98317, 0.00069))
    return results(
        [*healthy(), calm(), *unknown],
        ran=0,
        base="",
        branch="",
        pull_request=None,
        metrics=tuple(
            Metric(metric=metric, higher_is_better=metric != "log_loss", here=mean, sd=sd, seeds=5)
            for metric, mean, sd in values
        ),
        slices=tuple(
            Slice(slice=name, metric="average_precision", rows=rows, here=here)
            for name, rows, here in (("channel=contactless", 20_428, 0.5015), ("device=(missing)", 1_859, 0.811))
        ),
        runs=tuple(
            SeedRun(seed=seed, status="finished", steps=400, total_steps=400, train_seconds=138.7)
            for seed in range(1, 6)
        ),
        fingerprint=STACK | {"gpu": "none", "cuda": "none"},
    )


def slices(failed):
    rows = (
        ("channel=online", 12_801, 0.61, -0.15 if failed else -0.011, 0.046),
        ("device=app", 8_053, 0.785, -0.004, 0.05),
    )
    return tuple(
        Slice(
            slice=name,
            metric="average_precision",
            rows=count,
            here=here,
            change=change,
            interval=(change - reach, change + reach),
            failed=failed and name == "channel=online",
        )
        for name, count, here, change, reach in rows
    )


CASES = {"passing": passing, "failing": failing, "inconclusive": inconclusive, "first_run": first_run}


def comment(case):
    """The comment of a case, with links where a pull request has some."""
    found = CASES[case]()
    return render(found, LINKS if found.pull_request else None)


if __name__ == "__main__":
    for case in CASES:
        (GOLDEN / f"{case}.md").write_text(comment(case), encoding="utf-8")
