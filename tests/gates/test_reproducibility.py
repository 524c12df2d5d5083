import json
import re
import shutil
from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ci_tools.gates.policy import Judge, Policy
from ci_tools.gates.reproducibility import _nonfinite, checkpoint_corruption, reproducible
from ci_tools.gates.run import Baseline, Run
from ci_tools.gates.verdict import Outcome
from ci_tools.record import open_record
from ci_tools.record.files import final_digests
from ci_tools.repro import manifest
from tests.record import toy

LAST = "step-00000120"


def verdict(measurement):
    return Judge(Policy(), None, "", 1).verdict(measurement)


def corruption(path):
    return verdict(checkpoint_corruption(open_record(path)))


@pytest.fixture
def record(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def edit(path, **values):
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | values))


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def change_weights(record, name, value, digests=True):
    """Put `value` into one weight of a checkpoint, and mend its manifest; with `digests` run.json too."""
    folder = record / "checkpoints" / name
    weights = load_file(folder / "model.safetensors")
    weights["3.weight"][0, 0] = value
    save_file(weights, folder / "model.safetensors")
    content = json.loads((folder / "manifest.json").read_text())
    content["files"]["model.safetensors"] = manifest.file_digest(folder / "model.safetensors")
    content["tensors"]["model.safetensors"] = manifest.tensor_digests(folder / "model.safetensors")
    (folder / "manifest.json").write_text(json.dumps(content))
    if digests:
        edit(record / "run.json", files=final_digests(record))


# -- checkpoints --------------------------------------------------------------------------------------------------


def test_clean_record_passes(finished):
    found = corruption(finished)
    assert (found.outcome, found.statistic) == (Outcome.PASSED, 0)
    assert LAST in found.evidence["checkpoints"]


DAMAGE = {
    "flipped bit in the weights": (lambda f: flip(f / "model.safetensors", -1), "tensor .* does not match"),
    "flipped bit in the state": (lambda f: flip(f / "state.safetensors", -1), "tensor .* does not match"),
    "flipped bit in the header": (lambda f: flip(f / "model.safetensors", 20), "does not match"),
    "header that does not parse": (lambda f: flip(f / "model.safetensors", 7), "does not match"),
    "flipped bit in the tree": (lambda f: flip(f / "state.json", 30), "state.json does not match"),
    "cut off": (lambda f: (f / "state.safetensors").write_bytes(b"\x00" * 20), "state.safetensors"),
    "empty": (lambda f: (f / "model.safetensors").write_bytes(b""), "model.safetensors"),
    "lost file": (lambda f: (f / "model.safetensors").unlink(), "model.safetensors is missing"),
    "lost manifest": (lambda f: (f / "manifest.json").unlink(), "manifest is missing"),
    "lost checkpoint": (shutil.rmtree, "is gone"),
    "renamed checkpoint": (lambda f: f.rename(f.with_name("damaged-" + f.name)), "is gone"),
    "reformatted manifest": (
        lambda f: (f / "manifest.json").write_text(json.dumps(json.loads((f / "manifest.json").read_text()))),
        "its manifest is not the one",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
@pytest.mark.parametrize("which", [0, -1], ids=["oldest", "newest"])
def test_damaged_checkpoint_fails_and_is_named(record, name, which):
    damage, sentence = DAMAGE[name]
    folder = open_record(record).checkpoints[which]
    damage(folder)
    found = corruption(record)
    assert (found.outcome, found.statistic) == (Outcome.FAILED, 1)
    assert found.diagnosis.startswith(f"{folder.name}: ")
    assert re.search(sentence, found.diagnosis)
    assert "switchback replay" in found.remedy


def test_mended_manifest_is_noticed_by_run_json(record):
    change_weights(record, LAST, 1.0, digests=False)
    found = corruption(record)
    assert found.statistic == 1
    assert f"{LAST}: its manifest is not the one that the finished run left" in found.diagnosis


def test_state_of_another_step_is_noticed_by_its_trace_rows(record):
    first, last = (open_record(record).checkpoints[i] for i in (0, -1))
    shutil.rmtree(last)
    shutil.copytree(first, last)
    edit(record / "run.json", files=final_digests(record))
    found = corruption(record)
    rows = manifest.checkpoint_step(first)
    assert found.diagnosis == f"{last.name}: it counts {rows} trace rows, the trace 120"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weight_that_is_not_finite_though_training_was_fails(record, value):
    change_weights(record, LAST, value)
    found = corruption(record)
    assert found.statistic == 1
    assert "tensor 3.weight holds values that are not finite" in found.diagnosis


def test_largest_weight_is_finite(record):
    change_weights(record, LAST, np.finfo(np.float32).max)
    assert corruption(record).outcome is Outcome.PASSED


@pytest.mark.parametrize("at", [50, 119])
def test_weights_that_training_itself_made_nan_are_no_corruption(tmp_path, at):
    path = toy.train(tmp_path / "run", bump="nan", at=at, patience=1000, evaluate=False, checkpoint_every=10)
    assert np.isnan(load_file(path / "checkpoints" / LAST / "model.safetensors")["3.weight"]).any()
    assert corruption(path).outcome is Outcome.PASSED


@pytest.mark.parametrize("name", ["trace.arrows", "evals.arrows", "metrics.json", "margins.parquet"])
def test_changed_evidence_fails_rather_than_errs(record, name):
    flip(record / name, -1)
    found = corruption(record)
    assert (found.outcome, found.statistic) == (Outcome.FAILED, 1)
    assert found.diagnosis == f"{name}: is not the file that the finished run left"


def test_every_damaged_item_counts(record):
    for folder in open_record(record).checkpoints:
        (folder / "state.json").unlink()
    (record / "metrics.json").unlink()
    found = corruption(record)
    assert found.statistic == len(open_record(record).checkpoints) + 1
    assert list(found.evidence["damaged"])[-1] == "metrics.json"
    assert found.diagnosis.endswith(f"and {int(found.statistic) - 1} more")


def test_trace_that_cannot_be_read_is_damage_where_run_json_vouches_for_nothing(record):
    edit(record / "run.json", files={})
    (record / "trace.arrows").write_bytes(b"\x00" * 500)
    found = corruption(record)
    assert (found.outcome, found.statistic) == (Outcome.FAILED, 1)
    assert "trace.arrows: " in found.diagnosis


def test_best_checkpoint_that_another_counts_on_must_be_there(record):
    edit(record / "run.json", files={}, status="crashed")
    best, after, _ = open_record(record).checkpoints
    assert manifest.read_manifest(after)["best_step"] == manifest.checkpoint_step(best)
    shutil.rmtree(best)
    assert f"{best.name}: is gone" in corruption(record).diagnosis


def test_unfinished_records_pass_with_their_checkpoints_and_say_nothing_without(tmp_path):
    def crash(step, run):
        if step == at:
            raise RuntimeError

    for at, outcome in ((70, Outcome.PASSED), (0, Outcome.INCONCLUSIVE)):
        path = tmp_path / str(at)
        with pytest.raises(RuntimeError):
            toy.train(path, on_step=crash)
        if at == 0:
            shutil.rmtree(path / "checkpoints")
        assert corruption(path).outcome is outcome


def test_record_of_a_run_that_went_back_passes(tmp_path):
    path = toy.train(tmp_path / "run", bump="poison", at=50, max_recoveries=2)
    assert open_record(path).meta.recoveries
    assert corruption(path).outcome is Outcome.PASSED


def test_record_that_vouches_for_no_manifests_is_still_read(record):
    files = {name: digest for name, digest in final_digests(record).items() if "/" not in name}
    edit(record / "run.json", files=files)
    assert corruption(record).outcome is Outcome.PASSED
    flip(record / "checkpoints" / LAST / "model.safetensors", -1)
    assert corruption(record).statistic == 1
    shutil.rmtree(record / "checkpoints" / LAST)
    assert corruption(record).diagnosis == f"{LAST}: is gone, though the record counts on it"


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, ml_dtypes.bfloat16])
def test_finite_is_what_numpy_says_it_is(tmp_path, dtype):
    width = np.dtype(dtype).itemsize
    random = np.random.default_rng(0)
    edges = [0, 1, -1, np.inf, -np.inf, np.nan, ml_dtypes.finfo(dtype).max, ml_dtypes.finfo(dtype).tiny]
    noise = np.frombuffer(random.bytes(500 * width), dtype)
    with np.errstate(invalid="ignore"):
        for value in np.concatenate([np.array(edges).astype(dtype), noise]):
            save_file({"w": np.full(3, value, dtype), "n": np.array([2**62])}, tmp_path / "one")
            assert bool(_nonfinite(tmp_path / "one")) == (not np.isfinite(value)), value


# -- the same run twice -------------------------------------------------------------------------------------------


def made(root, seeds=(3,), **options):
    for seed in seeds:
        toy.train(root / f"runs/seed-{seed}", seed=seed, steps=60, evaluate=False, **options)
    return Run(root, tuple(seeds))


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return made(tmp_path_factory.mktemp("base"), (3, 4))


def test_same_runs_made_twice_pass(base, tmp_path):
    found = verdict(reproducible(made(tmp_path, (3, 4)), Baseline(base)))
    assert (found.outcome, found.statistic) == (Outcome.PASSED, 0)
    assert found.evidence == {"steps": {"3": 60, "4": 60}, "skipped": {}, "differing": {}}


@pytest.mark.parametrize(("bump", "rung"), [("loss", "loss"), ("gradient", "gradient of 3.weight")])
def test_difference_of_one_bit_fails_with_its_step_and_layer(base, tmp_path, bump, rung):
    run = made(tmp_path, bump=bump, at=30)
    found = verdict(reproducible(run, Baseline(base)))
    assert (found.outcome, found.statistic) == (Outcome.FAILED, 1)
    assert (
        "1 of 1 runs made twice differ; seed 3: identical until step 30; first difference: " + rung in found.diagnosis
    )


def test_other_initial_weights_fail(base, tmp_path):
    found = verdict(reproducible(made(tmp_path, bump="initial"), Baseline(base)))
    assert found.outcome is Outcome.FAILED
    assert "initial weights" in found.diagnosis


def changed(run, tmp_path, **values):
    shutil.copytree(run.root, tmp_path / "changed")
    for seed in run.seeds:
        edit(tmp_path / f"changed/runs/seed-{seed}/run.json", id="another", **values)
    return Run(tmp_path / "changed", run.seeds)


RESUMED = [{"at": "", "from_step": 20, "stack_changes": ["torch 2.12 → 2.13"]}]


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"params": {"lr": 0.5, "steps": 60}}, "params differ (lr 0.02 → 0.5)"),
        ({"fingerprint": {"torch": "0.1"}}, "fingerprint differ"),
        ({"data": {"train.npz": "00"}}, "data differ"),
        ({"status": "failed"}, "is failed"),
        ({"resumes": RESUMED}, "resumed on another stack"),
    ],
)
def test_runs_that_need_not_agree_are_not_judged(base, tmp_path, values, why):
    found = verdict(reproducible(changed(base, tmp_path, **values), Baseline(base)))
    assert found.outcome is Outcome.INCONCLUSIVE
    assert why in found.diagnosis
    assert found.evidence["skipped"].keys() == {"3", "4"}


def test_other_code_is_not_judged(base, tmp_path):
    code = dict.fromkeys(base.release.meta.code, "0")
    found = verdict(reproducible(changed(base, tmp_path, code=code), Baseline(base)))
    assert "code differ" in found.diagnosis


def test_one_run_from_the_cache_proves_nothing(base):
    found = verdict(reproducible(base, Baseline(base)))
    assert found.outcome is Outcome.INCONCLUSIVE
    assert "the same run, from the cache" in found.diagnosis


def test_seeds_of_one_side_only_are_left_out(base, tmp_path):
    found = verdict(reproducible(changed(base, tmp_path), Baseline(replace(base, seeds=(4,)))))
    assert (found.outcome, found.evidence["steps"]) == (Outcome.PASSED, {"4": 60})
    assert found.evidence["skipped"] == {"3": "the baseline has no run of this seed"}


def test_without_a_baseline_the_reason_is_told(base):
    found = verdict(reproducible(base, Baseline(None, "no such revision")))
    assert (found.outcome, found.diagnosis) == (Outcome.INCONCLUSIVE, "no such revision")


def test_damaged_record_is_an_error(base, tmp_path):
    run = changed(base, tmp_path)
    flip(run.root / "runs/seed-3/metrics.json", -1)
    found = verdict(reproducible(run, Baseline(base)))
    assert found.outcome is Outcome.ERROR
    assert "metrics.json does not match" in found.diagnosis
