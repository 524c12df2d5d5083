import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from ci_tools.repro import fingerprint

NAMES = {
    "python", "platform", "switchback", "torch", "numpy", "cuda", "cudnn", "driver", "gpu", "cpu", "cpu_capability",
    "threads", "deterministic",
}  # fmt: skip


def test_names_everything_that_decides_bits():
    found = fingerprint.capture(3)
    assert set(found) == NAMES
    assert all(isinstance(value, str) and value for value in found.values())
    assert (found["torch"], found["numpy"], found["threads"]) == (torch.__version__, np.__version__, "3")


def test_two_processes_on_one_stack_agree(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    code = "import json; from ci_tools.repro import fingerprint; print(json.dumps(fingerprint.capture(2)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert fingerprint.differences(fingerprint.capture(2), json.loads(done.stdout)) == []


def test_thread_count_is_part_of_the_stack():
    assert fingerprint.differences(fingerprint.capture(1), fingerprint.capture(2)) == ["threads: 1 → 2"]


def test_workspace_of_cublas_is_part_of_the_stack(monkeypatch):
    before = fingerprint.capture(1)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    (found,) = fingerprint.differences(before, fingerprint.capture(1))
    assert found.startswith("deterministic: ")
    assert found.endswith(":16:8")


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ({}, {}, []),
        ({"gpu": "none"}, {"gpu": "none"}, []),
        ({"gpu": "A", "cpu": "x"}, {"gpu": "B", "cpu": "y"}, ["cpu: x → y", "gpu: A → B"]),
        ({"gpu": "A"}, {}, ["gpu: A → absent"]),
        ({}, {"gpu": "A"}, ["gpu: absent → A"]),
    ],
)
def test_differences_name_each_entry(a, b, expected):
    assert fingerprint.differences(a, b) == expected


@pytest.mark.parametrize("answer", [OSError("no nvidia-smi"), subprocess.TimeoutExpired("nvidia-smi", 10)])
def test_driver_that_does_not_answer_is_unknown(monkeypatch, answer):
    def run(*_, **__):
        raise answer

    monkeypatch.setattr(fingerprint.subprocess, "run", run)
    assert fingerprint._driver() == "unknown"
