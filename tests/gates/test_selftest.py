"""The self-test finds every gate that is removed, turned round or loosened out of reach."""

from dataclasses import replace

import pytest

from ci_tools.cli import main
from ci_tools.gates import Gate, Reading
from ci_tools.gates.plants import PLANTS
from ci_tools.gates.policy import Judge, Policy, Rule
from ci_tools.gates.selftest import MODES, self_test

NAMES = [gate.name for gate in MODES]


def judge(policy=None):
    return Judge(policy or Policy(), None, "", 0)


def missed(mode, gates=MODES, policy=None):
    """Faults of a mode that were not named rightly; the healthy specimen is ''."""
    findings = self_test(judge(policy), gates, {mode: PLANTS[mode]})
    return {finding.plant for finding in findings if not finding.right} - {""}


def turned_round(gate):
    """The gate with its comparison the other way round: what passed fails, and what failed passes."""

    def reading(*subjects):
        found = gate(*subjects)
        limit, one = found.limit, found.reading
        interval = None if one.interval is None else tuple(2 * limit - end for end in reversed(one.interval))
        return replace(one, statistic=2 * limit - one.statistic, interval=interval, limit=limit)

    reading.__name__ = gate.name
    return Gate(reading, limit=gate.limit, unit="", remedy="", floor=gate.floor, calibrated=False)


def silent(gate):
    def reading(*subjects):
        return Reading(statistic=0.0, diagnosis="nothing")

    reading.__name__ = gate.name
    return Gate(reading, limit=gate.limit, unit="", remedy="", floor=gate.floor, calibrated=False)


def mutated(mode, how):
    return [how(gate) if gate.name == mode else gate for gate in MODES]


def test_there_are_ten_modes_and_faults_for_each():
    assert len(NAMES) == 10
    assert sorted(NAMES) == sorted(PLANTS)
    assert all(PLANTS.values())


def test_planted_faults_are_named_rightly_and_the_healthy_run_is_not_accused():
    findings = self_test(judge())
    assert [finding.named for finding in findings] == ["", *(mode for mode, faults in PLANTS.items() for _ in faults)]
    assert all(finding.diagnosis for finding in findings[1:])


def test_nothing_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    self_test(judge())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("mode", NAMES)
def test_removed_rule_makes_the_self_test_fail(mode):
    assert missed(mode, [gate for gate in MODES if gate.name != mode]) == set(PLANTS[mode])


@pytest.mark.parametrize("mode", NAMES)
def test_rule_that_never_fires_makes_the_self_test_fail(mode):
    assert missed(mode, mutated(mode, silent)) == set(PLANTS[mode])


@pytest.mark.parametrize("mode", NAMES)
def test_inverted_rule_makes_the_self_test_fail(mode):
    assert missed(mode, mutated(mode, turned_round)) == set(PLANTS[mode])


@pytest.mark.parametrize("mode", NAMES)
def test_limit_loosened_out_of_reach_makes_the_self_test_fail(mode):
    assert missed(mode, policy=Policy(gates={mode: Rule(limit=1e12)})) == set(PLANTS[mode])


def test_command_says_what_was_named_and_exits_by_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["switchback", "gate", "--self-test"])
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "ok    healthy run: nothing found"
    assert "ok    overfitting: 2 of 2 plants" in lines
    assert len(lines) == 12
    assert lines[-1] == f"10 of 10 modes named rightly by {sum(map(len, PLANTS.values()))} planted faults"

    (tmp_path / "gates.yaml").write_text("gates: {overfitting: {limit: 1e6}}\n")
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 1
    text = capsys.readouterr().out
    missed = "in losses per example: nothing found; in the mean loss: nothing found"
    assert f"WRONG overfitting: 0 of 2 plants ({missed})\n" in text
    assert "9 of 10 modes named rightly" in text
