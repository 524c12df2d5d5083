"""What deterministic kernels cost: the reference step, and on a GPU the operations known to be affected."""

from argparse import Namespace
from collections.abc import Callable

import torch

from benchmarks.harness import Arm, Result, Rounds, Steps, interleave, measuring
from benchmarks.reference import plain_steps, samples, shipped_params
from ci_tools.repro.determinism import make_deterministic

FULL = Rounds(rounds=40, turns=5, block=10, warmup=50)
QUICK = Rounds(rounds=6, turns=5, block=10, warmup=10)
FLAGS = {"off": (False, False), "on": (True, False), "on, memory filled": (True, True)}
"""Name to (deterministic, fill_uninitialized_memory); the second is torch's default when deterministic."""


def main(options: Namespace) -> Result:
    """Each workload under each setting of the flags."""
    params = shipped_params()
    make_deterministic(params.train.threads)  # threads and TF32 are the same in every arm
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    gpu = device.type == "cuda"
    plan = QUICK if options.quick else FULL
    plan = plan._replace(rounds=options.rounds or plan.rounds)
    rows = samples(device)
    workloads: dict[str, Callable[[], Steps]] = {"reference step": lambda: plain_steps(params, rows)}
    if gpu:
        workloads |= {"convolution": convolution, "embedding": embedding, "index_add": index_add}
    arms = [
        Arm(f"{name}: {flag}", _flagged(steps(), *values), f"{name}: off")
        for name, steps in workloads.items()
        for flag, values in FLAGS.items()
    ]
    name = "gpu" if gpu else "cpu"
    settings = {"threads": params.train.threads, "tf32": False, **plan._asdict()}
    with measuring(
        "determinism", options.command, settings, "ms per step", device=name, threads=params.train.threads
    ) as result:
        result.add(arms, interleave(arms, plan, synchronize=torch.cuda.synchronize if gpu else lambda: None), scale=1e3)
    return result


def convolution() -> Steps:
    """3×3 convolution, 64 channels, 56×56, batch 32: forward and backward."""
    layer = torch.nn.Conv2d(64, 64, 3, padding=1).cuda()
    x = torch.randn(32, 64, 56, 56, device="cuda", requires_grad=True)
    while True:
        layer(x).square().mean().backward()
        yield


def embedding() -> Steps:
    """Backward of an embedding with many collisions: 100,000 look-ups in 1,000 rows of 64."""
    table = torch.nn.Embedding(1000, 64).cuda()
    ids = torch.randint(0, 1000, (100_000,), device="cuda")
    while True:
        table(ids).sum().backward()
        yield


def index_add() -> Steps:
    """100,000 rows of 64 added into 1,000."""
    ids = torch.randint(0, 1000, (100_000,), device="cuda")
    rows, target = torch.randn(100_000, 64, device="cuda"), torch.zeros(1000, 64, device="cuda")
    while True:
        target.index_add_(0, ids, rows)
        yield


def _flagged(steps: Steps, deterministic: bool, fill: bool) -> Steps:
    while True:
        torch.use_deterministic_algorithms(deterministic)
        torch.utils.deterministic.fill_uninitialized_memory = fill
        torch.backends.cudnn.deterministic = deterministic
        yield next(steps)
