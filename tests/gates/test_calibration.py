import numpy as np
import pytest
from scipy import stats

from ci_tools.errors import ConfigError
from ci_tools.gates import Reading, gate
from ci_tools.gates.calibration import Calibration, Reference, load, save, upper_quantile


@gate(limit=8.0, unit="", calibrated=True, floor=2.0)
def jump(value):
    return Reading(statistic=value, diagnosis="d")


def made(**changes):
    values = {
        "params_digest": "p",
        "fingerprint": {"torch": "2", "cpu": "x"},
        "commit": "c",
        "date": "2026-01-01",
        "seeds": (1001, 1002),
        "statistics": {"jump": (1.0, 2.0, 3.0, 4.0, 5.0)},
        "reference": Reference(samples=(64, 128), loss=(0.7, 0.5)),
    }
    return Calibration(**values | changes)


@pytest.mark.parametrize("n", [20, 40])
def test_within_the_data_a_further_draw_exceeds_the_quantile_no_more_often_than_stated(n):
    """Against a simulation of exchangeable draws, to 1.5 %, and no looser than one rank."""
    draws = np.random.default_rng(0).random((4000, n + 1))
    for probability in (0.5, 0.2, 0.06, 1 / 19, 1 / (n + 1)):
        limits = np.array([upper_quantile(row[:-1], probability) for row in draws])
        exceeded = np.mean(draws[:, -1] > limits)
        assert probability - 1 / (n + 1) - 0.015 <= exceeded <= probability + 0.015


def test_reference_with_unpaired_points_is_refused(tmp_path):
    path = tmp_path / "calibration.json"
    save(made(), path)
    path.write_text(path.read_text().replace("0.7,", "0.7, 0.6,", 1))
    with pytest.raises(ConfigError, match="loss has 3 points, samples 2"):
        load(path)


@pytest.mark.parametrize("probability", [0.01, 0.001])
def test_beyond_the_data_the_tail_is_that_of_a_lomax_distribution(probability):
    """Against SciPy's inverse survival function of the predictive distribution, to 1e-9."""
    draws = stats.expon.rvs(size=20, random_state=0)
    median = np.median(draws)
    excess = draws[draws > median] - median
    predictive = stats.lomax(len(excess), scale=excess.sum())
    assert upper_quantile(draws, probability) == pytest.approx(median + predictive.isf(2 * probability), abs=1e-9)


@pytest.mark.parametrize("probability", [0.01, 0.001])
@pytest.mark.parametrize("distribution", [stats.norm(), stats.expon(), stats.uniform(), stats.gumbel_r()])
def test_clean_run_exceeds_the_limit_about_as_often_as_stated(distribution, probability):
    """20 draws set a limit; the exact chance that the next one exceeds it, averaged over 2,000 such sets."""
    sets = distribution.rvs((2000, 20), random_state=1)
    limits = np.array([upper_quantile(draws, probability) for draws in sets])
    assert distribution.sf(limits).mean() <= 1.5 * probability


def test_limit_is_never_below_what_the_runs_showed():
    draws = [0.0] * 30 + [50.0]
    assert upper_quantile(draws, 0.001) >= 50.0


def test_runs_that_are_all_alike_set_that_limit():
    assert upper_quantile([3.0] * 10, 1e-6) == 3.0


def test_limit_stays_above_the_smallest_effect_that_matters():
    low = made(statistics={"jump": (0.1,) * 20})
    assert low.limit(jump(1.0), 0.01) == 2.0


@pytest.mark.parametrize("values", [(), (1.0,) * 4])
def test_too_few_runs_set_no_limit(values):
    assert made(statistics={"jump": values}).limit(jump(1.0), 0.01) is None
    assert made(statistics={}).limit(jump(1.0), 0.01) is None


def test_load_after_save_gives_it_back(tmp_path):
    save(made(), tmp_path / "calibration.json")
    assert load(tmp_path / "calibration.json") == made()


def test_repository_without_a_calibration_has_none(tmp_path):
    assert load(tmp_path / "calibration.json") is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not a calibration"),
        ("[]", "is not a calibration"),
        ("{}", "schema version None"),
        ('{"schema_version": 2}', "schema version 2; 1 is read"),
        ('{"schema_version": 1}', "is not a calibration"),
        ('{"schema_version": 1, "statistics": NaN}', "is not a calibration"),
    ],
)
def test_file_that_is_no_calibration_is_refused_in_one_line(tmp_path, text, words):
    path = tmp_path / "calibration.json"
    path.write_text(text)
    with pytest.raises(ConfigError) as raised:
        load(path)
    assert words in str(raised.value)
    assert "switchback calibrate" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("params", "fingerprint", "words"),
    [
        ("p", {"torch": "2", "cpu": "x"}, ""),
        ("q", {"torch": "2", "cpu": "x"}, "other params"),
        ("p", {"torch": "3", "cpu": "x"}, "another stack (torch)"),
        ("p", {"torch": "2"}, "another stack (cpu)"),
        ("p", {"torch": "2", "cpu": "x", "gpu": "y"}, "another stack (gpu)"),
    ],
)
def test_calibration_made_under_other_conditions_says_which(params, fingerprint, words):
    found = made().mismatch(params, fingerprint)
    assert words in found
    assert bool(found) == bool(words)


def test_few_runs_raise_the_limit_no_further_than_half_again_what_they_reached():
    spread = (1.0, 1.0, 1.0, 1.0, 6.0)
    assert upper_quantile(spread, 1e-3) > 100
    assert made(statistics={"jump": spread}).limit(jump(1.0), 1e-3) == 9.0
    assert made(statistics={"jump": (1.0, 1.0, 1.0, 1.0, 2.0)}).limit(jump(1.0), 1e-3) == 8.0


def test_runs_do_not_set_the_limits_that_they_are_judged_by():
    known, stack = made(), {"torch": "2", "cpu": "x"}
    assert known.mismatch("p", stack, (1, 2, 3)) == ""
    assert known.mismatch("p", stack, (1, 1002)) == "calibration.json was made from the very seeds that are judged"
