"""One small training run: everything that decides it in one object, and the loop that records it.

N = examples, B = batch, C = outputs (classes, or values to predict), V = validation examples.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ci_tools.record import Recorder, SeededBatches, SeededLoader

Loss = Callable[[Tensor, Tensor], Tensor]
"""Outputs [B, C] and targets to one loss per example [B]."""

SHADOW_EVERY, PROBE_EVERY, EVALUATIONS, CHECKPOINTS = 30, 5, 12, 3


class Rows(NamedTuple):
    """Examples: inputs [N, …], and targets: classes int64 [N] or values float32 [N, C]."""

    x: Tensor
    y: Tensor


def cross_entropy(output_BC: Tensor, class_B: Tensor) -> Tensor:
    """Nats per example [B]."""
    return F.cross_entropy(output_BC, class_B, reduction="none")


def squared_error(output_BC: Tensor, target_BC: Tensor) -> Tensor:
    """Mean over the outputs, per example [B]."""
    return (output_BC - target_BC).square().mean(dim=1)


def nothing(*_: Any) -> None:
    """What a hook does by default."""


@dataclass(kw_only=True)
class Experiment:
    """One run before it starts; a fault or a look-alike changes these fields."""

    task: str
    seed: int
    train: Rows
    validation: Rows
    classes: int = 0
    """0: the targets are values."""
    body: Callable[[], nn.Module]
    """Makes the part from inputs to features [B, width]."""
    bridge: Callable[[int], nn.Module] = nn.Identity
    """Makes the part between body and head, from [B, width] to [B, width]."""
    width: int
    loss: Loss = cross_entropy
    lr: float
    adam: bool = False
    """Else SGD with momentum 0.9."""
    clip_norm: float = 0.0
    steps: int = 150
    batch_size: int = 32
    precision: str = "float32"
    """What the run declares."""
    schedule: Callable[[float], float] = lambda _: 1.0
    """From the share of the run that is done to a factor on the learning rate."""
    skip_bad_steps: bool = False
    """As a gradient scaler does."""

    on_model: Callable[[nn.Module], None] = nothing
    """The model is built, and not yet watched."""
    on_fetch: Callable[[], None] = nothing
    """A step waits for its batch."""
    on_step: Callable[[], None] = nothing
    """A step has its batch."""
    on_part: Callable[[nn.Module, float], None] = nothing
    """The gradients of a part were added; the part is this share of the batch."""
    on_gradients: Callable[[nn.Module, int], None] = nothing
    """The gradients of this step are complete."""
    on_update: Callable[[nn.Module, int], None] = nothing
    """The optimizer has made this step."""
    on_evaluation: Callable[[int, Tensor], Tensor] = lambda _, loss_V: loss_V
    """After so many steps the validation losses are these."""
    on_record: Callable[[Path], None] = nothing
    """The run is over and its record was read."""

    rng: np.random.Generator = field(init=False)
    """For faults; a stream that the data do not use."""

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng([self.seed, 1])

    @property
    def null_loss(self) -> float:
        """Loss of the best constant answer on the training targets."""
        y = self.train.y
        if self.classes:
            share_C = torch.bincount(y, minlength=self.classes) / len(y)
            return float(-(share_C * share_C.clamp(min=1e-12).log()).sum())
        return float(squared_error(y.mean(dim=0), y).mean())

    @property
    def every(self) -> int:
        """Steps from one evaluation to the next."""
        return max(1, self.steps // EVALUATIONS)


@dataclass(frozen=True)
class Fault:
    """A change that a run suffers: a planted fault, or a benign look-alike of one."""

    name: str
    severity: str
    """mild, medium or strong; empty for look-alikes."""
    how: str
    """What exactly is changed."""
    apply: Callable[[Experiment], None]


def train(e: Experiment, record: Path) -> None:
    """Train and record.

    Raises:
        TrainingFailed: the run diverged; the record stands all the same.
    """
    with Recorder(
        record,
        params={"task": e.task, "lr": e.lr, "steps": e.steps},
        seed=e.seed,
        evaluate_every=e.every,
        checkpoint_every=e.steps // CHECKPOINTS,
        probe_every=PROBE_EVERY,
        shadow_every=SHADOW_EVERY,
        precision=e.precision,
        null_loss=e.null_loss,
    ) as run:
        model = build(e)
        e.on_model(model)
        weights = [p for p in model.parameters() if p.requires_grad]
        momentum = {} if e.adam else {"momentum": 0.9}
        optimizer = (torch.optim.Adam if e.adam else torch.optim.SGD)(weights, e.lr, foreach=True, **momentum)
        run.watch(model, optimizer)
        for step, batch in run.steps(_Loader(e), total=e.steps):
            e.on_step()
            optimizer.param_groups[0]["lr"] = e.lr * e.schedule(step / e.steps)
            loss, margins = torch.zeros(()), []
            for part, share in run.micro_batches(batch):
                output_BC = model(part.x)
                part_loss = e.loss(output_BC, part.y).mean() * share
                part_loss.backward()
                e.on_part(model, share)
                loss = loss + part_loss.detach()
                margins.append(margin(output_BC.detach(), part.y))
            e.on_gradients(model, step)
            run.record(loss, clip_norm=e.clip_norm)
            run.margins(torch.cat(margins))
            if run.due("shadow"):
                run.shadow(lambda copy, rows: e.loss(copy(rows.x), rows.y).mean(), batch)
            if not (e.skip_bad_steps and has_bad_gradient(model)):
                optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            e.on_update(model, step)
            if run.due("evaluate"):
                loss_V = e.on_evaluation(step + 1, validate(model, e))
                run.evaluated("validation", {"loss": float(loss_V.mean())}, losses=loss_V)
        run.finish({})


@torch.no_grad()
def validate(model: nn.Module, e: Experiment) -> Tensor:
    """Loss of each validation example [V], without dropout."""
    model.eval()
    loss_V = e.loss(model(e.validation.x), e.validation.y)
    model.train()
    return loss_V


def build(e: Experiment) -> nn.Module:
    """Body, bridge and head, registered in the order of depth."""
    outputs = e.classes or e.train.y.shape[1]
    parts = {"body": e.body(), "bridge": e.bridge(e.width), "head": nn.Linear(e.width, outputs)}
    return nn.Sequential(OrderedDict(parts))


def margin(output_BC: Tensor, target: Tensor) -> Tensor:
    """Per example [B]: score of its class minus the best other; for values minus the mean absolute error."""
    if target.dim() > 1:
        return -(output_BC - target).abs().mean(dim=1)
    own_B = output_BC.gather(1, target[:, None]).squeeze(1)
    return own_B - output_BC.scatter(1, target[:, None], -math.inf).amax(dim=1)


def has_bad_gradient(model: nn.Module) -> bool:
    """Whether a gradient holds a NaN or an infinity."""
    return any(p.grad is not None and not bool(p.grad.isfinite().all()) for p in model.parameters())


class _Loader(SeededLoader[Rows]):
    """Batches in seeded order, each after the experiment's `on_fetch`."""

    def __init__(self, e: Experiment) -> None:
        super().__init__(e.train, SeededBatches(len(e.train.x), min(e.batch_size, len(e.train.x)), e.seed))
        self._on_fetch = e.on_fetch

    def __iter__(self) -> Iterator[Rows]:
        for batch in super().__iter__():
            self._on_fetch()
            yield batch
