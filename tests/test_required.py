import json
import subprocess
from pathlib import Path

import pytest

from ci_tools.required import main, wanting

ROOT = Path(__file__).parents[1]


def needs(**results):
    return {name: {"result": result, "outputs": {}} for name, result in results.items()}


@pytest.mark.parametrize(
    ("results", "may_skip", "lines"),
    [
        (needs(lint="success", test="success"), [], []),
        (needs(lint="success", test="failure"), [], ["test: failure"]),
        (needs(lint="cancelled"), ["lint"], ["lint: cancelled"]),
        (needs(lint="failure"), ["lint"], ["lint: failure"]),
        (needs(lint="skipped"), [], ["lint: skipped"]),
        (needs(own="skipped", merge="success"), ["own"], []),
        (needs(own="success"), ["merge"], ["merge is not among the jobs"]),
        ({"lint": {}}, [], ["lint: no result"]),
    ],
)
def test_skipped_counts_only_where_the_plan_skipped_it(results, may_skip, lines):
    assert wanting(results, may_skip) == lines


@pytest.mark.parametrize("text", ["", "{", "[]", '{"lint": "success"}'])
def test_context_that_is_none_is_misuse(text, capsys):
    assert main({"NEEDS": text}) == 2
    assert capsys.readouterr().err.startswith("error: NEEDS: ")


def test_nothing_needed_proves_nothing():
    assert main({"NEEDS": "{}"}) == 1


@pytest.mark.parametrize(("result", "code"), [("success", 0), ("failure", 2)])
def test_task_needs_no_installation(tmp_path, result, code):
    environment = {"NEEDS": json.dumps(needs(lint=result)), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(["make", "required", "BIN=/nowhere"], cwd=ROOT, env=environment, capture_output=True)
    assert done.returncode == code  # make's own code where a command failed
