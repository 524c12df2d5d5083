"""The limits of a long run's page. Times are measured by `python -m benchmarks page`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import long_run
from benchmarks import page as bench
from benchmarks.harness import Result
from benchmarks.page import BUILD, GIBIBYTES, LONG, MEGABYTES
from ci_tools.gates.run import open_run
from tests.report.html import cases


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    root = tmp_path_factory.mktemp("long")
    long_run.write(root, **LONG)
    return root


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_page_of_a_long_run_is_small_and_built_in_little_memory(long):
    command = [sys.executable, "-c", BUILD, str(long), json.dumps(LONG["seeds"])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (long / "report/index.html").stat().st_size <= MEGABYTES * 1e6
    assert json.loads(done.stdout)["kib"] <= GIBIBYTES * 2**20


@pytest.mark.parametrize(("steps", "layers", "seeds"), [(2_000, 1_000, 3), (300, 3, 40), (1, 1, 1)])
def test_page_stays_small_for_other_shapes_of_run(tmp_path, steps, layers, seeds):
    run = cases.pipeline(tmp_path, seeds=tuple(range(1, seeds + 1)), steps=steps, layers=layers)
    assert len(cases.page(run, cases.passing()).encode()) <= MEGABYTES * 1e6


def test_layers_that_share_a_row_keep_the_largest(tmp_path):
    run = open_run((1,), tmp_path)
    long_run.write(tmp_path, steps=60, layers=900, seeds=(1,))
    found = cases.data(cases.page(run, cases.passing()))["gradients"]
    assert found["map"]["together"] == 4
    assert len(found["layers"]) == 900


@pytest.mark.parametrize(
    ("seconds", "megabytes", "broken"), [(1.0, 1.4, []), (5.1, 1.4, ["5.0 s to build"]), (1.0, 3.1, ["3.0 MB"])]
)
def test_benchmark_names_the_limits_that_are_broken(seconds, megabytes, broken):
    result = Result(name="page", command="", settings={}, unit="s")
    result.arms["build, long run"] = {"median": seconds}
    result.facts |= {"megabytes, long run": megabytes, "peak memory of the build in MiB, long run": 200}
    bench.judge(result, "long run")
    assert result.facts["failed"] == broken
