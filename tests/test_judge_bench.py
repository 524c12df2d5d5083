"""The bench of the judge: the product's own decisions, rivals that do what they say, rates that count right."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks.judge import campaign, ours, rivals, score, traffic
from benchmarks.judge.campaign import Job, Plan
from benchmarks.judge.traffic import LOWEST, Cell
from ci_tools.errors import DataError
from ci_tools.release.judge import Arm, Observation, begin, evidence, update
from ci_tools.release.judge.budget import alphas, needed_evidence

RUNS = 3


def minutes(requests, failures, p99=None):
    """What rivals see of one release; arguments are [2][M]."""
    shape = (2, len(requests[0]), 1)
    zeros = np.zeros(shape)
    p99 = zeros if p99 is None else np.reshape(p99, shape).astype(float)
    return rivals.Minutes(np.reshape(requests, shape).astype(float), np.reshape(failures, shape).astype(float), p99,
                          zeros, zeros)  # fmt: skip


def observation(one, run, seconds, events):
    def arm(index):
        histogram = {}
        if one.releases:
            places = one.places[index][one.releases[index] == run] + LOWEST
            histogram = dict(zip(*(x.tolist() for x in np.unique(places, return_counts=True)), strict=True))
        failures = {"errors": int(one.failures[index, run])} if events else {}
        return Arm(requests=int(one.requests[index, run]), events=failures, latency=histogram)

    return Observation(seconds=seconds, canary_weight=one.weights[0], baseline_weight=one.weights[1], canary=arm(0),
                       baseline=arm(1), stable=arm(2))  # fmt: skip


@pytest.mark.parametrize(
    "cell",
    [
        Cell("errors", "x2", "weights", 2000),
        Cell("errors", "none", "bursts", 2000),
        Cell("latency", "+20 %", "bursts", 200),
    ],
)
def test_many_releases_at_once_are_judged_as_the_product_judges_one(cell):
    rules = ours.policy(cell, 0.05, 0.05)
    judge, states = ours.Judge([rules], RUNS), [begin(rules) for _ in range(RUNS)]
    rolled_back = np.full(RUNS, np.inf)
    for index, one in enumerate(itertools.islice(traffic.bins(cell, RUNS, 1), 170)):
        judge.see(one)
        seconds = (index + 1) * traffic.BIN_SECONDS
        for run in range(RUNS):
            states[run] = update(states[run], observation(one, run, seconds, cell.kind == "errors"), rules)
            harmful = any(
                one.peak >= needed_evidence(alphas(rules)[name]) for name, one in states[run].compared.items()
            )
            if harmful and np.isinf(rolled_back[run]):
                rolled_back[run] = seconds / 60
    for name in judge.names:
        for run in range(RUNS):
            np.testing.assert_allclose(judge.wealth[name].harm_KJ[run], states[run].compared[name].harm, atol=1e-6)
            assert judge.bad[name][0, run] == states[run].compared[name].total.canary
            assert evidence(states[run], rules)[name].harm <= states[run].compared[name].peak
    np.testing.assert_allclose(judge.whole[0].rolled_back, rolled_back)


def test_traffic_is_the_same_for_the_same_seed_and_has_the_rates_it_says():
    cell = Cell("errors", "x5", "flat", 2000)
    one, again = (np.sum([[b.requests, b.failures] for b in traffic.bins(cell, 4, 7)], axis=0) for _ in range(2))
    np.testing.assert_array_equal(one, again)
    share = one[1] / one[0]
    np.testing.assert_allclose(share[:2].mean(axis=1), [0.025, 0.005], rtol=0.05)
    assert len({cell.name for cell in traffic.cells()}) == len(traffic.cells())


def test_bursts_have_the_correlation_they_say():
    cell = Cell("errors", "none", "bursts", 2000)
    found = [(one.requests[1], one.failures[1]) for one in itertools.islice(traffic.bins(cell, 200, 8), 60)]
    n, e = (np.concatenate(values) for values in zip(*found, strict=True))
    p = traffic.BASE_RATE
    excess = (e * (e - 1) - n * (n - 1) * p**2).sum() / (n * (n - 1)).sum()
    assert excess / (p * (1 - p)) == pytest.approx(traffic.CORRELATION, rel=0.15)


def test_flagger_counts_failed_checks_and_forgives_none():
    failures = np.array([2, 0, 2, 0, 2, 2, 0, 2, 2])
    assert rivals.flagger(minutes([[100] * 9] * 2, [failures, failures * 0]), "errors") == 8
    assert math.isinf(rivals.flagger(minutes([[100] * 9] * 2, [failures // 2, failures]), "errors").item())
    slow = np.full(9, 501.0)
    assert rivals.flagger(minutes([[100] * 9] * 2, [failures * 0] * 2, [slow, slow]), "latency") == 5


def test_argo_aborts_beyond_its_failure_limit():
    failures = np.full(60, 2)
    assert rivals.argo(minutes([[100] * 60] * 2, [failures, failures]), "errors") == 20
    failures[:45] = 1
    assert math.isinf(rivals.argo(minutes([[100] * 60] * 2, [failures, failures]), "errors").item())


def test_z_test_rejects_at_the_first_look_that_shows_it():
    e_c, e_b = np.array([5, 5, 20]), np.array([5, 5, 5])
    n = 1000
    pooled = 45 / (2 * 3 * n)
    z = (30 - 15) / (3 * n) / math.sqrt(pooled * (1 - pooled) * 2 / (3 * n))
    assert z > rivals.Z_PEEK
    assert rivals.z_peek(minutes([[n] * 3] * 2, [e_c, e_b]), "errors") == 3


def test_kayenta_needs_the_interval_of_the_shift_to_clear_a_quarter_of_it():
    rng = np.random.default_rng(9)
    base = rng.poisson(50, 60)
    for extra, expected in ((0, math.inf), (60, 15.0)):
        found = rivals.kayenta(minutes([[1000] * 60] * 2, [base + extra, rng.permutation(base)]), "errors")
        assert found == expected


def test_rates_count_right():
    cell = Cell("errors", "outage", "flat", 20)
    times = {"rolled_back": [31.0, 33.0, None], "promoted": [1.0, None, 2.0]}
    found = score._rates(cell, {name: [math.inf if x is None else x for x in row] for name, row in times.items()})
    assert found.rolled_back == pytest.approx(2 / 3, abs=1e-4)
    assert found.promoted == pytest.approx(2 / 3, abs=1e-4)
    assert found.minutes == 3.0


def test_stopped_campaign_goes_on_and_other_code_is_refused(tmp_path, monkeypatch):
    few = [Cell("errors", "none", "flat", 20), Cell("errors", "x1.5", "flat", 20)]
    monkeypatch.setattr(traffic, "cells", lambda: few)
    monkeypatch.setattr(campaign.oracle, "RATIOS", (10.0,))
    monkeypatch.setattr(campaign.oracle, "SHARES", (0.5,))
    monkeypatch.setenv("SWITCHBACK_QUIET", "1")
    plan, path = Plan(no_difference=4, difference=2, oracle=5), tmp_path / "lines.jsonl"
    lines = campaign.run(plan, path, 1)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:1]) + b'{"what": "torn')
    again = campaign.run(plan, path, 1)
    assert sorted(map(json.dumps, again)) == sorted(map(json.dumps, lines))
    cells, oracle = score.rates(again), score.delays(again)
    assert "| errors none flat 20 |" in score.markdown(cells, oracle)
    assert score.claims(cells, oracle)["Switchback at 5%: cells above 5% of false rollbacks"] == []
    path.write_text(json.dumps(lines[0] | {"code": "other"}) + "\n")
    with pytest.raises(DataError, match="other code"):
        campaign.run(plan, path, 1)


def test_oracle_needs_what_wald_says():
    assert campaign.oracle.oracle_events(2.0, 0.5, 0.01) == pytest.approx(
        math.log(100) / (2 / 3 * math.log(4 / 3) + 1 / 3 * math.log(2 / 3)), rel=1e-12
    )
    line = campaign.judge_oracle(Job(campaign.judge_oracle, "oracle", 0, 50, ratio=5.0, share=0.5))
    assert 0.7 < np.mean(line["delays"]) < 2


def test_published_figures_keep_their_levels():
    published = json.loads((Path(__file__).parents[1] / "benchmarks/results/judge-cpu.json").read_text())
    claims, cells = published["facts"]["claims"], published["facts"]["cells"]
    assert [name for name, found in claims.items() if " cells above " in name and found] == []
    assert claims["event test over Wald's oracle, largest mean"] <= 1.5
    assert set(cells) == {cell.name for cell in traffic.cells()}
    assert cells["errors none silent 200"]["Switchback at 5%"]["promoted"] == 0
    for cell in traffic.cells():
        least = 1000 if cell.truth in ("none", *campaign.AT_MARGIN) else 400
        assert cells[cell.name]["Switchback at 5%"]["runs"] >= least
