import json
import random
import subprocess
import sys

import numpy as np
import pytest
import torch

from ci_tools.repro import determinism
from ci_tools.repro.state import join, split


@pytest.fixture(autouse=True)
def _flags_as_before():
    threads, algorithms = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    fill, cudnn = torch.utils.deterministic.fill_uninitialized_memory, torch.backends.cudnn.flags
    with cudnn():
        yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(algorithms)
    torch.utils.deterministic.fill_uninitialized_memory = fill


def draw():
    """A few numbers of every generator; an odd count of normals leaves one cached in Python and in NumPy."""
    return [
        *(random.random() for _ in range(3)),
        random.gauss(0, 1),
        *np.random.random(3),
        np.random.standard_normal(),
        *torch.rand(3).tolist(),
        *torch.randn(17).tolist(),
    ]


def test_same_seed_draws_the_same():
    draws = []
    for seed in (5, 5, 6):
        determinism.seed_everything(seed)
        draws.append(draw())
    assert draws[0] == draws[1]
    assert not set(draws[0]) & set(draws[2])


@pytest.mark.parametrize("warm", [0, 1, 2, 700])
def test_restored_state_draws_the_same(warm):
    determinism.seed_everything(warm)
    for _ in range(warm):
        draw()
    state = determinism.rng_state()
    first, then = draw(), draw()
    determinism.set_rng_state(state)
    assert draw() == first
    assert draw() == then
    assert first != then


def test_state_survives_a_checkpoint():
    draw()
    tree, tensors = split(determinism.rng_state())
    first = draw()
    determinism.set_rng_state(join(json.loads(json.dumps(tree)), tensors))
    assert draw() == first


def test_state_is_a_copy():
    state = determinism.rng_state()
    first = draw()
    determinism.set_rng_state(state)
    draw()
    determinism.set_rng_state(state)
    assert draw() == first


def test_operation_without_a_deterministic_kernel_raises():
    x, index, values = torch.zeros(4), torch.tensor([0, 0, 1]), torch.tensor([1.0, 2.0, 3.0])
    torch.use_deterministic_algorithms(False)
    x.put_(index, values)
    determinism.make_deterministic(1)
    with pytest.raises(RuntimeError, match="does not have a deterministic implementation"):
        x.put_(index, values)


def test_flags_are_set(monkeypatch):
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = torch.backends.cudnn.allow_tf32 = True
    determinism.make_deterministic(1)
    assert torch.get_num_threads() == 1
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.is_deterministic_algorithms_warn_only_enabled()
    assert torch.backends.cudnn.deterministic
    assert not torch.backends.cudnn.benchmark
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


def test_fresh_memory_is_filled_only_on_request():
    determinism.make_deterministic(1, fill_uninitialized=True)
    assert torch.empty(1000).isnan().all()
    determinism.make_deterministic(1)
    assert not torch.utils.deterministic.fill_uninitialized_memory


@pytest.mark.parametrize(("before", "after"), [(None, ":4096:8"), (":16:8", ":16:8")])
def test_cublas_workspace_stands_before_torch_starts(monkeypatch, before, after):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    if before:
        monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", before)
    code = (
        "import os, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'torch': print(os.environ.get('CUBLAS_WORKSPACE_CONFIG')); sys.exit()\n"
        "sys.meta_path.insert(0, Finder())\n"
        "import ci_tools.repro.determinism"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == after
