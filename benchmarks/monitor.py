"""Step time of the reference model: bare, under the recorder, and under other monitors."""

import tempfile
from argparse import Namespace
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch

from benchmarks.harness import Arm, Result, Rounds, interleave, measuring
from benchmarks.reference import plain_steps, recorded_steps, samples, shipped_params
from ci_tools.repro.determinism import make_deterministic
from model.network import Batch
from model.params import Params

# 100 steps per arm and round: exactly one probe, and one log of a watcher that logs every 100 steps.
FULL = Rounds(rounds=28, turns=10, block=10, warmup=100), Rounds(rounds=12, turns=10, block=10, warmup=100)
QUICK = Rounds(rounds=3, turns=10, block=10, warmup=20), Rounds(rounds=1, turns=10, block=10, warmup=20)


def main(options: Namespace) -> Result:
    """Recorder against bare first; then bare against peers, whose helper processes would disturb the former."""
    params = shipped_params()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    synchronize = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    make_deterministic(params.train.threads)
    near, far = QUICK if options.quick else FULL
    if options.rounds:
        near, far = near._replace(rounds=options.rounds), far._replace(rounds=options.rounds)
    settings = {
        "network": params.network.model_dump(),
        "batch_size": params.train.batch_size,
        "optimizer": params.train.optimizer,
        "clip_norm": params.train.clip_norm,
        "probe_every": params.train.probe_every,
        "deterministic": True,
        "recorder": near._asdict(),
        "peers": far._asdict(),
    }
    device_name = "gpu" if device.type == "cuda" else "cpu"
    rows = samples(device)
    with (
        tempfile.TemporaryDirectory() as folder,
        measuring(
            "monitor", options.command, settings, "ms per step", device=device_name, threads=params.train.threads
        ) as result,
    ):
        for arms, plan in (
            (_recorder(params, rows, Path(folder)), near),
            (_peers(params, rows, Path(folder), result), far),
        ):
            result.add(arms, interleave(arms, plan, synchronize=synchronize), scale=1e3)
            for arm in arms:
                arm.steps.close()
    return result


def _bare(params: Params, rows: Batch) -> Arm:
    return Arm("bare", plain_steps(params, rows), "bare")


def _recorder(params: Params, rows: Batch, folder: Path) -> list[Arm]:
    return [
        _bare(params, rows),
        Arm("switchback", recorded_steps(params, rows, folder / "probes", probes=True)),
        Arm("switchback without probes", recorded_steps(params, rows, folder / "no-probes", probes=False)),
    ]


def _peers(params: Params, rows: Batch, folder: Path, result: Result) -> list[Arm]:
    try:
        from benchmarks import peers
    except ModuleNotFoundError as error:
        result.facts["peers left out"] = f"{error.name} is not installed here"
        return []

    def plain(hooks: partial[peers.Hooks]) -> Iterator[None]:
        return plain_steps(params, rows, hooks)

    return [
        _bare(params, rows),
        Arm(".item() per layer, CSV", plain(partial(peers.ItemLoop, path=folder / "items.csv"))),
        Arm("wandb.watch all, every step", plain(partial(peers.WandbWatch, folder=folder / "wandb", log_freq=1))),
        Arm("wandb.watch all, every 100", plain(partial(peers.WandbWatch, folder=folder / "wandb", log_freq=100))),
        Arm("lightning", peers.lightning_steps(params, rows, folder / "lightning", norms=False)),
        Arm(
            "lightning, gradient norms", peers.lightning_steps(params, rows, folder / "norms", norms=True), "lightning"
        ),
    ]
