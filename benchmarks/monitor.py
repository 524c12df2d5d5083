"""Step time of the reference model: bare, under the recorder, and under other monitors."""

import tempfile
from argparse import Namespace
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from benchmarks.harness import Arm, Result, Rounds, Steps, interleave, measuring, summary
from benchmarks.reference import (
    Hooks,
    ItemLoop,
    build,
    plain_steps,
    recorded_steps,
    samples,
    shipped_params,
    shuffled_batches,
)
from ci_tools.record.monitor import GradientMonitor
from ci_tools.repro.determinism import make_deterministic
from model.network import Batch, RiskNetwork
from model.params import Params

# 100 steps per arm and round: exactly one probe, and one log of a watcher that logs every 100 steps.
FULL = Rounds(rounds=26, turns=10, block=10, warmup=100), Rounds(rounds=8, turns=10, block=10, warmup=100)
QUICK = Rounds(rounds=3, turns=10, block=10, warmup=20), Rounds(rounds=1, turns=10, block=10, warmup=20)

ITEMS = ".item() per layer, CSV"
CALLS = Rounds(rounds=30, turns=5, block=64, warmup=64)


def main(options: Namespace) -> Result:
    """Bare, recorder and `.item()` loop first; then the peers, whose helper processes would disturb those."""
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
        result.facts["µs per step of the monitoring calls alone, clipping included"] = _calls_alone(
            params, rows, Path(folder), synchronize
        )
    return result


def _bare(params: Params, rows: Batch) -> Arm:
    return Arm("bare", plain_steps(params, rows), "bare")


def _recorder(params: Params, rows: Batch, folder: Path) -> list[Arm]:
    return [
        _bare(params, rows),
        Arm("switchback", recorded_steps(params, rows, folder / "probes", probes=True)),
        Arm("switchback without probes", recorded_steps(params, rows, folder / "no-probes", probes=False)),
        Arm(ITEMS, plain_steps(params, rows, partial(ItemLoop, path=folder / "items.csv"))),
    ]


def _repeat(call: Callable[[], None]) -> Steps:
    while True:
        call()
        yield


def _calls_alone(params: Params, rows: Batch, folder: Path, synchronize: Callable[[], None]) -> dict[str, float]:
    """What remains when the step itself, whose noise hides a few tenths of a percent, is left out."""
    model, _ = build(params, rows.label_B.device)
    batch = next(shuffled_batches(rows, params.train.batch_size))
    loss = model.loss(batch)
    loss.backward()
    loss, weights, limit = loss.detach(), list(model.parameters()), params.train.clip_norm
    monitor, items = GradientMonitor(weights), ItemLoop(model, folder / "calls.csv")

    def clip() -> None:
        torch.nn.utils.clip_grad_norm_(weights, limit)

    def ours() -> None:
        monitor.observe(loss, limit)
        if monitor.commit():
            monitor.collect(wait=False)

    def per_layer() -> None:
        items.after_backward(loss)
        clip()

    calls = {"bare": clip, "switchback": ours, ITEMS: per_layer}
    arms = [Arm(name, _repeat(call)) for name, call in calls.items()]
    seconds = interleave(arms, CALLS, synchronize=synchronize)
    items.close()
    return {name: summary(values)["median"] * 1e6 for name, values in seconds.items()}


def _peers(params: Params, rows: Batch, folder: Path, result: Result) -> list[Arm]:
    def plain(hooks: Callable[[RiskNetwork], Hooks]) -> Steps:
        return plain_steps(params, rows, hooks)

    arms = [_bare(params, rows)]
    try:
        from benchmarks.peers import WandbWatch, lightning_steps
    except ModuleNotFoundError as error:
        result.facts["peers left out"] = f"{error.name} is not installed here"
        return arms
    watch = partial(WandbWatch, folder=folder / "wandb")
    return [
        *arms,
        Arm("wandb.watch all, every step", plain(partial(watch, log_freq=1))),
        Arm("wandb.watch all, every 100", plain(partial(watch, log_freq=100))),
        Arm("lightning", lightning_steps(params, rows, folder / "lightning", norms=False)),
        Arm("lightning, gradient norms", lightning_steps(params, rows, folder / "norms", norms=True), "lightning"),
    ]
