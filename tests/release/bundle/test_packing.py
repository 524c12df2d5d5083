"""From a run's files to a bundle that opens."""

import hashlib
import json
import shutil
import subprocess

import pytest

from ci_tools.errors import ConfigError, DependencyUnavailable, SwitchbackError, VerdictBlocks
from ci_tools.gates.verdict import Outcome
from ci_tools.release.bundle import Keyless, open_bundle
from ci_tools.release.bundle.evidence import Waiver
from ci_tools.release.bundle.manifest import CARD, MANIFEST, MODEL, SIGNATURE, Decision
from ci_tools.release.bundle.packing import pack, repack
from tests.release.bundle import toy


def test_bundle_holds_model_card_manifest_and_signature(pipeline, key, trusted):
    packed = pack(key=key, name="toy", created=toy.CREATED)
    assert packed.path == pipeline / "bundles" / packed.digest
    assert {file.name for file in packed.path.iterdir()} == {CARD, MANIFEST, MODEL, SIGNATURE}
    assert [file.name for file in (pipeline / "bundles").iterdir()] == [packed.digest]
    assert packed.content == (pipeline / "export/model.onnx").read_bytes()
    assert open_bundle(packed.path, trusted) == packed


def test_manifest_says_where_it_comes_from(pipeline, key):
    manifest = pack(key=key, created=toy.CREATED).manifest
    assert (manifest.name, manifest.created, manifest.git_commit) == ("repository", toy.CREATED, toy.COMMIT)
    assert manifest.params_digest == toy.PARAMS_DIGEST
    for digest, file in (
        (manifest.record_digest, "runs/seed-1/run.json"),
        (manifest.verdicts_digest, "gates/verdicts.json"),
    ):
        assert digest == hashlib.sha256((pipeline / file).read_bytes()).hexdigest()
    assert manifest.decision == Decision(output="score", threshold=0.25)
    assert manifest.overrides == ()
    assert not manifest.git_dirty


def test_equal_files_give_equal_bytes(pipeline, key):
    first, second = (pack(pipeline / out, key=key, created=toy.CREATED) for out in ("a", "b"))
    assert first.digest == second.digest
    assert {**first.files, SIGNATURE: b""} == {**second.files, SIGNATURE: b""}


def test_bundle_around_another_model_says_that_nobody_judged_it(pipeline, key, trusted):
    judged = pack(key=key, created=toy.CREATED)
    another = toy.graph(made="otherwise").SerializeToString()
    other = repack(judged, another, key=key, created=toy.CREATED)
    assert open_bundle(other.path, trusted) == other
    assert other.content == another
    assert (other.manifest.inputs, other.manifest.decision) == (judged.manifest.inputs, judged.manifest.decision)
    assert (other.manifest.record_digest, other.manifest.verdicts_digest) == ("", "")
    assert f"bundle {judged.digest} for a rehearsal. Nobody judged it" in (other.path / CARD).read_text()


def test_same_judged_model_is_the_same_bundle_whenever_it_is_packed(pipeline, key, monkeypatch):
    first = pack(key=key)
    monkeypatch.setattr("ci_tools.release.bundle.packing.now", lambda: "2036-01-01T00:00:00+00:00")
    assert pack(key=key).digest == first.digest


def test_bundle_that_is_there_already_stays(pipeline, key):
    first = pack(key=key, created=toy.CREATED)
    assert pack(key=key, created=toy.CREATED) == first


def test_damaged_bundle_of_the_same_name_is_replaced(pipeline, key, trusted):
    first = pack(key=key, created=toy.CREATED)
    (first.path / CARD).unlink()
    (first.path / CARD).write_text("other")
    assert pack(key=key, created=toy.CREATED).digest == first.digest
    assert open_bundle(first.path, trusted)
    assert [file.name for file in first.path.parent.iterdir()] == [first.digest]


@pytest.mark.parametrize("change", [{"name": "other"}, {"created": "2026-01-02T03:04:06+00:00"}])
def test_other_inputs_give_another_digest(pipeline, key, change):
    given = {"name": "toy", "created": toy.CREATED}
    assert pack(key=key, **given).digest != pack(key=key, **(given | change)).digest


def test_name_is_that_of_the_repository(pipeline, key, monkeypatch):
    subprocess.run(["git", "init", "-q"], check=True)
    assert pack(key=key).manifest.name == "repository"
    monkeypatch.setenv("GITHUB_REPOSITORY", "owner/models")
    assert pack(key=key).manifest.name == "owner/models"


def test_override_is_in_manifest_and_card(pipeline, key):
    toy.write_verdicts(pipeline, toy.verdict("floor", Outcome.FAILED, blocks=True))
    packed = pack(key=key, waiver=Waiver(gates=("floor",), by="Ada", reason="the floor is wrong"))
    (override,) = packed.manifest.overrides
    assert (override.gate, override.outcome, override.by, override.reason) == (
        "floor",
        "failed",
        "Ada",
        "the floor is wrong",
    )
    assert "Let pass by a person" in packed.files[CARD].decode()


def test_blocking_verdict_leaves_no_bundle_and_no_key(pipeline, tmp_path):
    toy.write_verdicts(pipeline, toy.verdict("floor", Outcome.FAILED, blocks=True))
    with pytest.raises(VerdictBlocks, match="block"):
        pack(key=tmp_path / "new.pem")
    assert not (pipeline / "bundles").exists()
    assert not (tmp_path / "new.pem").exists()


def test_decision_may_be_given(pipeline, key):
    given = Decision(output="score", threshold=0.75)
    assert pack(key=key, decided=given).manifest.decision == given


def test_place_that_cannot_be_written_is_told(pipeline, key):
    (pipeline / "bundles").touch()
    with pytest.raises(SwitchbackError, match="bundles"):
        pack(key=key)


def test_keyless_without_an_identity_says_how_to_get_one(pipeline, monkeypatch):
    for name in ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_URL", "GITHUB_ACTIONS", "GITLAB_CI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("id.detect_credential", lambda *_: None)
    with pytest.raises(DependencyUnavailable, match="id-token: write"):
        pack(keyless=Keyless(identity="workflow"))
    assert list((pipeline / "bundles").iterdir()) == []


def test_key_of_others_is_refused_before_anything_is_written(pipeline, key, tmp_path):
    loose = shutil.copy(key, tmp_path / "loose.pem")
    loose.chmod(0o644)
    with pytest.raises(ConfigError, match="others can read it"):
        pack(key=loose)
    assert not (pipeline / "bundles").exists()


def test_manifest_is_the_text_that_its_digest_names(pipeline, key):
    packed = pack(key=key, name="größe")
    text = (packed.path / MANIFEST).read_bytes()
    assert hashlib.sha256(text).hexdigest() == packed.path.name
    assert json.loads(text)["name"] == "größe"
