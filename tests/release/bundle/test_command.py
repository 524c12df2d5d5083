"""`switchback bundle` and `switchback verify`."""

import json

import pytest

from ci_tools.errors import ConfigError, VerdictBlocks
from ci_tools.gates.verdict import Outcome
from ci_tools.release.bundle import command
from ci_tools.release.bundle.keys import public_beside
from tests.release.bundle import toy


def test_pack_then_verify_tells_what_and_by_whom(pipeline, key):
    packed = command.bundle(key=key, name="toy")
    assert str(packed).splitlines()[0] == f"packed {pipeline / 'bundles' / packed.digest}"
    verified = command.verify(pipeline / "bundles" / packed.digest, (public_beside(key),))
    assert verified.to_json() == packed.to_json() | {"verb": "verified"}
    assert "signed by key " in str(verified)
    json.dumps(verified.to_json())


def test_own_key_signs_and_verifies_where_none_is_named(pipeline, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    packed = command.bundle(pipeline / "elsewhere")
    assert command.verify(pipeline / "elsewhere" / packed.digest).signer == packed.signer


def test_override_is_told(pipeline, key):
    toy.write_verdicts(pipeline, toy.verdict("floor", Outcome.FAILED, blocks=True))
    with pytest.raises(VerdictBlocks, match="--override floor --by --reason"):
        command.bundle(key=key)
    told = command.bundle(key=key, override=" floor ,", by="Ada", reason="known")
    assert "let pass by Ada: floor failed (known)" in str(told)
    assert told.to_json()["overrides"] == [{"gate": "floor", "outcome": "failed", "by": "Ada", "reason": "known"}]


@pytest.mark.parametrize(
    "given",
    [
        {"override": "floor"},
        {"override": "floor", "by": "Ada"},
        {"override": "floor", "by": "Ada", "reason": " "},
        {"by": "Ada", "reason": "known"},
        {"override": ",", "by": "Ada", "reason": "known"},
    ],
)
def test_incomplete_override_is_refused(pipeline, key, given):
    with pytest.raises(ConfigError, match="pass all three"):
        command.bundle(key=key, **given)


def test_decision_may_be_given(pipeline, key):
    digest = command.bundle(key=key, decision="score >= 0.75").digest
    manifest = json.loads((pipeline / "bundles" / digest / "manifest.json").read_text())
    assert manifest["decision"] == {"output": "score", "threshold": 0.75}


@pytest.mark.parametrize("text", ["score", "score>=", "score>=2", "score>=x", "score>0.5", "score>=nan"])
def test_decision_of_another_form_is_refused(pipeline, key, text):
    with pytest.raises(ConfigError, match="is no decision"):
        command.bundle(key=key, decision=text)


def test_contradicting_signers_are_refused(pipeline, key, tmp_path):
    with pytest.raises(ConfigError, match="--key, --identity"):
        command.bundle(key=key, identity="somebody")
    with pytest.raises(ConfigError, match="--identity"):
        command.verify(pipeline, trust_config=tmp_path)


@pytest.mark.parametrize("flag", ["name", "by", "reason", "override", "identity", "decision"])
def test_what_is_no_text_is_refused(pipeline, flag):
    """As the command line hands on bytes that are no UTF-8."""
    with pytest.raises(ConfigError, match=f"--{flag}: 'caf.*' is no text"):
        command.bundle(**{flag: "caf\udce9"})


def test_repository_in_a_folder_whose_name_is_no_text_can_be_packed(pipeline, key, monkeypatch):
    moved = pipeline.rename(pipeline.with_name("caf\udce9"))
    monkeypatch.chdir(moved)
    assert command.bundle(pipeline.with_name("out"), key=key).name == "caf\ufffd"
