import re

from ci_tools.report import cost
from tests.report import cases


def test_cost_tells_gpu_minutes_energy_and_what_the_cache_saved():
    cost = re.search(r"<summary>(Cost.*?)</summary>", cases.comment("inconclusive"))[1]
    assert "11.6 GPU minutes in these runs (4.6 of them now)" in cost
    assert "19.6 Wh by their GPUs" in cost
    assert "the cache saved 7 min 26 s" in cost
    assert "GPU" not in re.search(r"<summary>(Cost.*?)</summary>", cases.comment("first_run"))[1]


def test_energy_that_one_gpu_run_lacks_is_not_summed():
    whole = cases.passing()
    assert cost.of(whole).joules == 5 * 14_100
    first, *others = whole.runs
    lacking = whole.model_copy(update={"runs": (first.model_copy(update={"joules": None}), *others)})
    assert cost.of(lacking).joules is None


def test_run_on_a_cpu_has_no_energy_to_lack():
    whole = cases.passing()
    first, *others = whole.runs
    mixed = whole.model_copy(update={"runs": (first.model_copy(update={"joules": None, "gpus": 0}), *others)})
    assert cost.of(mixed).joules == 4 * 14_100


def test_minutes_count_every_gpu():
    whole = cases.passing()
    runs = tuple(run.model_copy(update={"gpus": 8, "train_seconds": 60.0}) for run in whole.runs)
    assert cost.of(whole.model_copy(update={"runs": runs})).gpu_minutes == 40


def test_stage_whose_real_run_nobody_knows_is_counted_apart():
    whole = cases.first_run()
    unknown = tuple(stage.model_copy(update={"ran_seconds": None}) for stage in whole.stages[2:4])
    spent = cost.of(whole.model_copy(update={"stages": (*whole.stages[:2], *unknown)}))
    assert spent.saved_unknown == 2
    assert round(spent.saved_seconds, 6) == 21.3


def test_without_a_walk_nobody_knows_what_was_spent_now():
    spent = cost.of(cases.passing().model_copy(update={"stages": ()}))
    assert spent.gpu_minutes_now is None
    assert (spent.saved_seconds, spent.saved_unknown) == (0, 0)
