"""What is packed belongs together, was judged, and was found good; or somebody answers for it."""

import json
import os

import pytest
from onnx import TensorProto

from ci_tools.errors import ConfigError, DataError, RecordError, SwitchbackError, VerdictBlocks
from ci_tools.gates.verdict import Outcome
from ci_tools.release.bundle.evidence import Waiver, collect, overrides
from tests.release.bundle import toy


def refusal(kind=DataError):
    with pytest.raises(SwitchbackError) as refused:
        collect()
    assert isinstance(refused.value, kind)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_files_of_one_run_are_taken(pipeline):
    found = collect()
    assert found.content == (pipeline / "export/model.onnx").read_bytes()
    assert found.record.meta.id == "toy"
    assert [one.name for one in found.interface.inputs] == ["rows"]


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("params.yaml", ConfigError),
        ("export/model.onnx", DataError),
        ("export/parity.json", DataError),
        ("gates/verdicts.json", DataError),
        ("runs/seed-1/run.json", RecordError),
    ],
)
@pytest.mark.parametrize("damage", [lambda file: file.unlink(), lambda file: file.write_bytes(b"\xff\x00")])
def test_missing_or_damaged_file_is_named(pipeline, file, kind, damage):
    damage(pipeline / file)
    assert file.rpartition("/run.json")[0] or file in refusal(kind)


@pytest.mark.parametrize("seeds", ["seeds: []", "seeds: x", "other: 1", "seeds: [1.5]"])
def test_params_without_seeds_are_refused(pipeline, seeds):
    (pipeline / "params.yaml").write_text(f"{seeds}\n")
    assert "params.yaml" in refusal(ConfigError)


def test_code_of_the_model_is_not_run(pipeline):
    (pipeline / "pyproject.toml").write_text('[tool.switchback]\nparams = "trap:Params"\n')
    (pipeline / "trap.py").write_text("raise SystemExit('was run')\n")
    assert collect()


class TestModel:
    def test_that_is_a_link_is_refused(self, pipeline):
        (pipeline / "export/model.onnx").rename(pipeline / "cached")
        (pipeline / "export/model.onnx").symlink_to(pipeline / "cached")
        assert "is no regular file" in refusal()

    def test_that_is_a_pipe_is_refused(self, pipeline):
        (pipeline / "export/model.onnx").unlink()
        os.mkfifo(pipeline / "export/model.onnx")
        assert "is no regular file" in refusal()

    def test_with_tensors_elsewhere_is_refused(self, pipeline):
        model = toy.graph()
        model.graph.initializer[0].data_location = TensorProto.EXTERNAL
        model.graph.initializer[0].external_data.add(key="location", value="model.onnx.data")
        toy.write_model(pipeline, model.SerializeToString())
        assert "keeps tensors in another file" in refusal()

    def test_too_large_is_refused(self, pipeline, monkeypatch):
        monkeypatch.setattr("ci_tools.release.bundle.folder.LARGEST", 10)
        assert "at most 10" in refusal()

    def test_other_than_the_one_compared_with_torch_is_refused(self, pipeline):
        (pipeline / "export/model.onnx").write_bytes(toy.graph(new=1).SerializeToString())
        assert "parity.json: describes another graph" in refusal()

    @pytest.mark.parametrize(("key", "value"), [("git_commit", "e" * 40), ("params_digest", "e" * 64), ("seed", 2)])
    def test_exported_from_another_record_is_refused(self, pipeline, key, value):
        toy.write_model(pipeline, toy.graph(**{key: value}).SerializeToString())
        assert f"was exported from a run with {key} '{value}'" in refusal()


class TestRecord:
    @pytest.mark.parametrize("status", ["running", "failed", "crashed", "preempted", "replayed"])
    def test_unfinished_is_refused(self, pipeline, status):
        toy.write_record(pipeline, status=status)
        assert f"training is {status}" in refusal(RecordError)

    def test_whose_files_changed_is_refused(self, pipeline):
        toy.write_record(pipeline, files={"scores.parquet": "0" * 64})
        assert "no scores.parquet" in refusal(RecordError)


class TestVerdicts:
    def test_none_at_all_is_refused(self, pipeline):
        toy.write_verdicts(pipeline)
        assert "holds no verdict" in refusal()

    def test_that_have_not_ended_are_refused(self, pipeline):
        toy.write_verdicts(pipeline, toy.verdict(), pending=(toy.verdict("slow", Outcome.ERROR),))
        assert "slow has not ended" in refusal()

    def test_of_refused_input_are_refused(self, pipeline):
        toy.write_verdicts(pipeline, toy.verdict(), refused=True)
        assert "input was refused" in refusal()

    def test_of_some_of_the_tests_are_refused(self, pipeline):
        toy.write_verdicts(pipeline, toy.verdict(), selection="parity")
        assert "-k 'parity'" in refusal()

    @pytest.mark.parametrize("digest", ["", "e" * 64])
    def test_on_other_params_are_refused(self, pipeline, digest):
        toy.write_verdicts(pipeline, toy.verdict(), params_digest=digest)
        assert "other params" in refusal()

    def test_from_before_the_training_ended_are_refused(self, pipeline):
        toy.write_record(pipeline, ended="2026-01-01T00:10:01+00:00")
        assert "training ended at 2026-01-01T00:10:01" in refusal()

    @pytest.mark.parametrize("started", ["", "yesterday", "2026-01-01T00:10:00"])
    def test_without_a_time_are_refused(self, pipeline, started):
        toy.write_verdicts(pipeline, toy.verdict(), started=started)
        assert "is no time" in refusal()

    def test_on_another_export_are_refused(self, pipeline):
        parity = json.loads((pipeline / "export/parity.json").read_text())
        told = {key: parity[key] for key in ("score", "rows")}
        toy.write_verdicts(pipeline, toy.verdict("onnx_parity", evidence=told))
        assert collect()
        toy.write_verdicts(pipeline, toy.verdict("onnx_parity", evidence=told | {"score": 2e-7}))
        assert "parity of another export" in refusal()


BLOCKING = [
    toy.verdict("floor", Outcome.FAILED, subject="auc", blocks=True),
    toy.verdict("floor", Outcome.ERROR, subject="loss", blocks=True),
    toy.verdict("drift", Outcome.FAILED),
    toy.verdict("leak", Outcome.INCONCLUSIVE, blocks=True),
]


def judged(pipeline, *verdicts):
    toy.write_verdicts(pipeline, *verdicts)
    return collect().verdicts


def test_verdicts_that_do_not_block_need_nobody(pipeline):
    assert overrides(judged(pipeline, toy.verdict(), BLOCKING[2]), None) == ()


@pytest.mark.parametrize("verdict", [BLOCKING[0], BLOCKING[1], BLOCKING[3]])
def test_blocking_verdict_is_refused(pipeline, verdict):
    with pytest.raises(VerdictBlocks, match=f"1 of the verdicts block: {verdict.outcome}: {verdict.gate}"):
        overrides(judged(pipeline, verdict), None)


@pytest.mark.parametrize("gates", [("floor", "leak"), ("floor (auc)", "floor (loss)", "leak")])
def test_override_is_kept_with_who_and_why(pipeline, gates):
    found = overrides(judged(pipeline, *BLOCKING), Waiver(gates=gates, by="Ada", reason="known"))
    assert {(one.gate, one.outcome) for one in found} == {
        ("floor (auc)", "failed"),
        ("floor (loss)", "error"),
        ("leak", "inconclusive"),
    }
    assert {(one.by, one.reason) for one in found} == {("Ada", "known")}


@pytest.mark.parametrize("gates", [("floor",), ("floor (auc)", "leak"), ("leak",)])
def test_override_of_some_leaves_the_others(pipeline, gates):
    with pytest.raises(VerdictBlocks, match="of the verdicts block"):
        overrides(judged(pipeline, *BLOCKING), Waiver(gates=gates, by="Ada", reason="known"))


@pytest.mark.parametrize("name", ["drift", "parity", "flor", "floor (other)"])
def test_override_of_what_does_not_block_is_refused(pipeline, name):
    with pytest.raises(ConfigError, match="does not block"):
        overrides(judged(pipeline, *BLOCKING), Waiver(gates=("floor", "leak", name), by="Ada", reason="known"))
