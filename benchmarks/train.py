"""Whole training runs: model/train.py against a bare PyTorch loop and a Lightning Trainer.

All three read the same arrays, take the same batches, evaluate at the same steps and score the test split with their
best weights. Each figure is one whole call, from reading the data to the test metrics, imports excluded.
"""

import copy
import tempfile
from argparse import Namespace
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.harness import Arm, Result, Rounds, Steps, interleave, measuring
from benchmarks.reference import shipped_params
from ci_tools.record import SeededBatches, open_record
from ci_tools.repro.determinism import make_deterministic, seed_everything
from model import metrics
from model.data import load_schema, load_split, prepare
from model.network import Batch, RiskNetwork
from model.optim import Schedule, build_optimizer
from model.params import Params
from model.train import pick_device, score, to_batch, train

FULL = Rounds(rounds=11, turns=1, block=1, warmup=1)
QUICK = Rounds(rounds=2, turns=1, block=1, warmup=1)
SEED = 1

Figures = dict[str, float]


def main(options: Namespace) -> Result:
    """Whole runs take turns."""
    plan = QUICK if options.quick else FULL
    plan = plan._replace(rounds=options.rounds or plan.rounds)
    params = small_params(transactions=60_000, steps=60) if options.quick else shipped_params()
    p = params.train
    make_deterministic(p.threads)
    device = "gpu" if pick_device(p).type == "cuda" else "cpu"
    settings = {
        "transactions": params.data.simulated.transactions,
        "network": params.network.model_dump(),
        "train": p.model_dump(mode="json"),
    }
    settings |= plan._asdict()
    with (
        tempfile.TemporaryDirectory() as scratch,
        measuring("train", options.command, settings, "s per run", device=device, threads=p.threads) as result,
    ):
        folder = Path(scratch)
        prepare(params.data, folder / "data")
        order = batch_order(params, folder / "data")
        quality: dict[str, Figures] = {}
        runs: dict[str, Callable[[], Figures]] = {
            "bare": partial(bare, params, folder / "data", order),
            "switchback": partial(recorded, params, folder),
            **_lightning(params, folder, order, result),
        }
        arms = [Arm(name, _repeat(name, run, quality)) for name, run in runs.items()]
        arms[0] = arms[0]._replace(against="bare")
        result.add(arms, interleave(arms, plan))
        result.facts["test average precision"] = {name: q["average_precision"] for name, q in quality.items()}
    return result


def small_params(transactions: int, steps: int) -> Params:
    """The shipped experiment on fewer rows and steps."""
    params = shipped_params()
    simulated = params.data.simulated.model_copy(update={"transactions": transactions})
    data = params.data.model_copy(update={"source": "simulated", "simulated": simulated})
    return params.model_copy(update={"data": data, "train": params.train.model_copy(update={"steps": steps})})


def batch_order(params: Params, data: Path) -> list[torch.Tensor]:
    """Sample ids per step as the recorder draws them; only the recorder's own arm pays for drawing them."""
    p = params.train
    sampler = SeededBatches(len(load_split(data, "train").label), p.batch_size, SEED)
    order: list[torch.Tensor] = []
    while len(order) < p.steps:
        sampler.seek(len(order) // len(sampler), 0)
        order += [torch.from_numpy(ids) for ids in sampler]
    return order[: p.steps]


def bare(params: Params, data: Path, order: list[torch.Tensor]) -> Figures:
    """The loop of model/train.py without a record: nothing survives a crash, nothing is known afterwards."""
    p = params.train
    device, schema = pick_device(p), load_schema(data)
    rows, validation = load_split(data, "train"), load_split(data, "validation")
    seed_everything(SEED)
    model = RiskNetwork(params.network, schema).to(device)
    optimizer = build_optimizer(model, p)
    schedule, samples = Schedule(optimizer, p), to_batch(rows, device)
    best, weights = -np.inf, model.state_dict()
    for step, ids in enumerate(order):
        index = ids.to(device)
        batch = Batch(*(column.index_select(0, index) for column in samples))
        schedule.apply(step)
        model.train()
        model.loss(batch, p.positive_weight).backward()
        if p.clip_norm:
            torch.nn.utils.clip_grad_norm_(model.parameters(), p.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if (step + 1) % p.evaluate_every == 0 or step + 1 == p.steps:
            value = measure(params, validation.label, score(model, validation, device))["average_precision"]
            if value > best:
                best, weights = value, copy.deepcopy(model.state_dict())
    model.load_state_dict(weights)
    return test_figures(params, model, data, device)


def recorded(params: Params, folder: Path) -> Figures:
    """model/train.py as it is: every step and layer recorded, probes, checkpoints, evaluations, final scores."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        record = Path(scratch, "record")
        train(params, SEED, folder / "data", record)
        return open_record(record).metrics


def test_figures(params: Params, model: RiskNetwork, data: Path, device: torch.device) -> Figures:
    """Metrics of the test split."""
    test = load_split(data, "test")
    return measure(params, test.label, score(model, test, device))


def measure(params: Params, label: np.ndarray, scores: np.ndarray) -> Figures:
    """Metrics with the experiment's settings."""
    e = params.evaluate
    return metrics.measure(label, scores, precision_floor=e.precision_floor, bins=e.calibration_bins)


def _lightning(
    params: Params, folder: Path, order: list[torch.Tensor], result: Result
) -> dict[str, Callable[[], Figures]]:
    try:
        from benchmarks.train_lightning import run
    except ModuleNotFoundError as error:
        result.facts["peers left out"] = f"{error.name} is not installed here"
        return {}
    return {"lightning": partial(run, params, folder, order)}


def _repeat(name: str, run: Callable[[], Figures], quality: dict[str, Figures]) -> Steps:
    while True:
        quality[name] = run()
        yield
