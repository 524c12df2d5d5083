"""The benchmarks' arithmetic and file form, under a clock that the arms themselves advance."""

import json
import random
from collections import Counter

import pytest

from benchmarks import __main__ as command
from benchmarks import report
from benchmarks.harness import Arm, Result, Rounds, interleave, measuring, paired_ratio, summary


class Clock:
    """Seconds that pass only when an arm works; `drift` makes the machine slower and slower."""

    def __init__(self):
        self.now, self.log = 0.0, []

    def __call__(self):
        return self.now

    def arm(self, name, cost, against="bare"):
        def steps():
            while True:
                self.now += cost()
                self.log.append(name)
                yield

        return Arm(name, steps(), against)


def test_every_arm_takes_the_same_number_of_steps_in_shuffled_blocks():
    clock = Clock()
    arms = [clock.arm(name, lambda: 1.0) for name in "abc"]
    interleave(arms, Rounds(rounds=4, turns=3, block=5, warmup=2), clock=clock)
    assert Counter(clock.log) == dict.fromkeys("abc", 2 + 4 * 3 * 5)
    blocks = clock.log[6::5]
    turns = [tuple(blocks[i : i + 3]) for i in range(0, len(blocks), 3)]
    assert all(sorted(turn) == ["a", "b", "c"] for turn in turns)
    assert len(set(turns)) > 1


def test_warmup_is_not_measured():
    clock = Clock()
    costs = iter([100.0] * 3 + [1.0] * 20)
    seconds = interleave(
        [clock.arm("bare", lambda: next(costs), "bare")], Rounds(rounds=2, turns=2, block=5, warmup=3), clock=clock
    )
    assert seconds == {"bare": [1.0, 1.0]}


def test_work_that_falls_once_per_round_is_counted():
    clock = Clock()
    rare = (1.0 + (i % 10 == 9) for i in range(10**6))
    arms = [clock.arm("bare", lambda: 1.0, "bare"), clock.arm("probed", lambda: next(rare))]
    seconds = interleave(arms, Rounds(rounds=5, turns=2, block=5, warmup=0), clock=clock)
    assert seconds["probed"] == pytest.approx([1.1] * 5)


def test_paired_ratio_is_untouched_by_a_machine_that_slows_down():
    bare = [1.0 + 0.1 * i for i in range(20)]
    ratio = paired_ratio([1.05 * x for x in bare], bare)
    assert ratio["median"] == pytest.approx(1.05)
    assert ratio["high"] - ratio["low"] < 1e-9


def test_interval_covers_the_true_ratio_about_as_often_as_it_says():
    noise = random.Random(0)
    covered = 0
    for _ in range(100):
        bare = [noise.gauss(1, 0.02) for _ in range(25)]
        ratio = paired_ratio([noise.gauss(1.02, 0.02) for _ in range(25)], bare, resamples=500)
        covered += ratio["low"] <= 1.02 <= ratio["high"]
    assert covered >= 88


def test_summary_gives_quartiles():
    assert summary([4.0, 1.0, 3.0, 2.0, 5.0]) == {"median": 3.0, "q1": 2.0, "q3": 4.0, "n": 5}


@pytest.fixture
def result(tmp_path):
    with measuring("monitor", "python -m benchmarks monitor", {"rounds": 2}, "ms per step") as result:
        arms = [Arm("bare", iter(()), "bare"), Arm("switchback", iter(()))]
        result.add(arms, {"bare": [0.010, 0.020], "switchback": [0.0102, 0.0204]}, scale=1e3)
        result.facts["test average precision"] = {"bare": 0.5}
    return result


def test_result_file_has_the_documented_keys(result, tmp_path):
    path = result.write(tmp_path / "results")
    assert path.name == "monitor-cpu.json"
    values = json.loads(path.read_text())
    assert list(values) == [
        *("name", "command", "settings", "unit", "device", "arms", "ratios", "facts"),
        *("commit", "dirty", "date", "machine"),
    ]
    assert values["arms"]["bare"] == {"median": 15.0, "q1": 12.5, "q3": 17.5, "n": 2}
    assert values["ratios"]["switchback"] == pytest.approx(
        {"against": "bare", "median": 1.02, "low": 1.02, "high": 1.02, "n": 2}
    )
    assert set(values["ratios"]) == {"switchback"}
    assert set(values["machine"]) == {
        *("fingerprint", "cores", "memory_gib", "load_before", "cores_used_by_others"),
    }
    assert values["machine"]["fingerprint"]["torch"]


def test_an_arm_measured_twice_keeps_its_first_figures(result):
    result.add([Arm("bare", iter(()), "bare")], {"bare": [9.0]}, scale=1e3)
    assert result.arms["bare"]["median"] == 15.0


def test_report_prints_every_result_of_a_folder(result, tmp_path):
    result.write(tmp_path)
    result.device = "gpu"
    result.write(tmp_path)
    text = report.report(tmp_path)
    assert "| monitor (cpu) |" in text
    assert "| monitor (gpu) |" in text
    assert "| switchback | 15.3 | 12.75 to 17.85 | 2 | 1.0200 of bare | 1.0200 to 1.0200 |" in text
    assert "- test average precision: bare 0.5" in text


def test_stored_command_is_the_one_to_type():
    options = command.parse(["monitor", "--here", "--rounds", "3", "--out", "/somewhere"])
    assert options.command == "python -m benchmarks monitor --rounds 3"
    assert command.parse([]).name == "all"


def test_unknown_benchmark_is_refused(capsys):
    with pytest.raises(SystemExit) as end:
        command.parse(["speed"])
    assert end.value.code == 2
    assert "monitor" in capsys.readouterr().err


def test_quick_figures_never_replace_the_published_ones():
    assert command.folder(command.parse(["monitor", "--quick"])) == command.QUICK_RESULTS
    assert command.folder(command.parse(["monitor"])) == command.RESULTS
    assert command.folder(command.parse(["monitor", "--quick", "--out", "x"])).name == "x"


def test_result_names_no_path_of_this_machine(result):
    assert str(command.ROOT) not in json.dumps(vars(result))


def test_dataclass_and_file_describe_alike(result, tmp_path):
    stored = json.loads(result.write(tmp_path).read_text())
    assert report.describe(result) == report.describe(stored)
    assert isinstance(result, Result)
