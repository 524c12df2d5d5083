"""The reference training step on synthetic rows of the reference shapes, bare and recorded."""

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness import ROOT, Steps
from ci_tools.config import load
from ci_tools.record import Recorder, SeededBatches, SeededLoader
from model.network import Batch, RiskNetwork
from model.optim import build_optimizer
from model.params import Params

CATEGORIES = (10, 4, 8, 5, 4)
"""Categories of the simulated source's five categorical columns."""
NUMERIC = 25
ROWS = 200_000
SEED = 1
FOREVER = 10**9


def shipped_params() -> Params:
    """The repository's params.yaml."""
    return load(ROOT / "params.yaml", Params)


def schema() -> dict[str, Any]:
    """What RiskNetwork reads of a schema.json: every other numeric column on a log scale."""
    numeric = [{"mean": 0.0, "scale": 1.0, "transform": ("log", "identity")[i % 2]} for i in range(NUMERIC)]
    return {"numeric": numeric, "categorical": [{"categories": list(range(n))} for n in CATEGORIES]}


def samples(device: torch.device, rows: int = ROWS) -> Batch:
    """Random rows with a label that can be learned, so that gradients look like gradients."""
    generator = torch.Generator().manual_seed(SEED)
    numeric_BF = torch.randn(rows, NUMERIC, generator=generator)
    columns = [torch.randint(0, n + 1, (rows,), generator=generator) for n in CATEGORIES]
    label_B = (numeric_BF[:, :3].sum(1) + torch.randn(rows, generator=generator) > 2.5).float()
    return Batch(numeric_BF.to(device), torch.stack(columns, 1).to(device), label_B.to(device))


def build(params: Params, device: torch.device) -> tuple[RiskNetwork, torch.optim.Optimizer]:
    """Equal weights at every call."""
    torch.manual_seed(SEED)
    model = RiskNetwork(params.network, schema()).to(device)
    return model, build_optimizer(model, params.train)


def shuffled_batches(rows: Batch, batch_size: int) -> Iterator[Batch]:
    """Endless batches in the order that a plain loop would draw."""
    while True:
        order = torch.randperm(len(rows.label_B)).to(rows.label_B.device)
        for index in order[: len(order) // batch_size * batch_size].split(batch_size):
            yield Batch(*(column.index_select(0, index) for column in rows))


class Hooks:
    """What a monitored arm adds to the bare step: here, nothing."""

    def __init__(self, model: RiskNetwork) -> None:
        self.model = model

    def after_backward(self, loss: torch.Tensor) -> None:
        """Gradients are there, not yet clipped."""

    def after_step(self, loss: torch.Tensor) -> None:
        """The optimizer has stepped."""

    def close(self) -> None:
        """The arm ends."""


class ItemLoop(Hooks):
    """Norm and absolute maximum of each parameter's gradient by `.item()`, one CSV row per step."""

    def __init__(self, model: RiskNetwork, path: Path) -> None:
        super().__init__(model)
        self._file = path.open("w", newline="")
        self._writer = csv.writer(self._file)

    def after_backward(self, loss: torch.Tensor) -> None:
        """Read every layer."""
        row = [loss.item()]
        for parameter in self.model.parameters():
            if parameter.grad is not None:
                row += [parameter.grad.norm().item(), parameter.grad.abs().max().item()]
        self._writer.writerow(row)

    def close(self) -> None:
        """Close the CSV."""
        self._file.close()


def plain_steps(params: Params, rows: Batch, hooks: Callable[[RiskNetwork], Hooks] = Hooks) -> Steps:
    """The bare loop, one optimizer step per `next`; `hooks` is what an arm adds to it."""
    p = params.train
    model, optimizer = build(params, rows.label_B.device)
    hook = hooks(model)
    try:
        for batch in shuffled_batches(rows, p.batch_size):
            loss = model.loss(batch, p.positive_weight)
            loss.backward()
            hook.after_backward(loss)
            if p.clip_norm:
                torch.nn.utils.clip_grad_norm_(model.parameters(), p.clip_norm)
            optimizer.step()
            hook.after_step(loss)
            optimizer.zero_grad(set_to_none=True)
            yield
    finally:
        hook.close()


def recorded_steps(params: Params, rows: Batch, folder: Path, *, probes: bool) -> Steps:
    """The same step under the recorder, as model/train.py drives it; no checkpoints, no evaluations."""
    p = params.train
    device = rows.label_B.device
    with Recorder(
        folder,
        params=params,
        seed=SEED,
        threads=p.threads,
        evaluate_every=FOREVER,
        checkpoint_every=FOREVER,
        probe_every=p.probe_every if probes else FOREVER,
    ) as run:
        model, optimizer = build(params, device)
        run.watch(model, optimizer)
        loader = SeededLoader(rows, SeededBatches(len(rows.label_B), p.batch_size, SEED))
        for _, batch in run.steps(loader, total=FOREVER):
            loss = torch.zeros((), device=device)
            for part, share in run.micro_batches(batch):
                part_loss = model.loss(part, p.positive_weight) * share
                part_loss.backward()
                loss = loss + part_loss.detach()
            run.record(loss, clip_norm=p.clip_norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            yield
