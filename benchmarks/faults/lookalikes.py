"""Benign things that look like faults; no gate may fire on them."""

import math
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.faults.loop import Experiment, Fault, Rows
from benchmarks.faults.plants import gradients, round_activations

Change = Callable[[Experiment], None]


def look_alike(name: str, task: str) -> Fault | None:
    """The change of one cell; None where it cannot be made in the task."""
    change = KINDS[name]
    return None if task in EXCEPTIONS.get(change, ()) else Fault(name, "", name, change)


# -- schedules ------------------------------------------------------------------------------------------------------


def warm_restarts(e: Experiment) -> None:
    """Three cosine cycles of the learning rate (Loshchilov and Hutter 2017)."""
    e.schedule = lambda done: 0.05 + 0.95 * (1 + math.cos(math.pi * (3 * done % 1))) / 2


def warm_up(e: Experiment) -> None:
    """The learning rate rises through the first fifth of the run, and falls to zero by its end."""
    e.schedule = lambda done: min(5 * done + 0.02, 1.25 * (1 - done) + 0.001, 1.0)


def long_after_convergence(e: Experiment) -> None:
    """Three times as many steps, most of them at a small learning rate, long after the loss came to rest."""
    e.steps *= 3
    e.schedule = lambda done: 1.0 if done < 1 / 3 else 0.05


def larger_batch(e: Experiment) -> None:
    """Twice the batch and the learning rate for the same examples, thus half as many steps."""
    e.batch_size, e.steps = 2 * e.batch_size, e.steps // 2
    e.lr *= 1.4 if e.adam else 2.0


def late_training(e: Experiment) -> None:
    """The run starts from weights that were trained before, by another optimizer and in another order."""
    e.on_model = partial(_pretrain, e=e)


def _pretrain(model: nn.Module, e: Experiment) -> None:
    generator = torch.Generator().manual_seed(e.seed)
    optimizer = torch.optim.Adam(model.parameters(), 0.003)
    for _ in range(e.steps):
        rows = torch.randint(len(e.train.x), (e.batch_size,), generator=generator)
        e.loss(model(e.train.x[rows]), e.train.y[rows]).mean().backward()
        optimizer.step()
        optimizer.zero_grad()


# -- layers ---------------------------------------------------------------------------------------------------------


def frozen_layers(e: Experiment) -> None:
    """The first layer gets no gradient, as where a pretrained one is kept."""

    def freeze(model: nn.Module) -> None:
        first = next(m for m in model.modules() if not list(m.children()) and list(m.parameters()))
        first.register_forward_hook(lambda _module, _inputs, output: output.detach())

    e.on_model = freeze


def sparse_inputs(e: Experiment) -> None:
    """Five hundred tokens instead of sixteen, each class's spelling of a token chosen at random: most are rare."""
    for rows in (e.train, e.validation):
        rows.x.add_(16 * torch.from_numpy(e.rng.zipf(1.5, rows.x.shape)).clamp(max=32).sub_(1))
    narrow = e.body

    def wide() -> nn.Module:
        body = narrow()
        body.token = nn.Embedding(512, e.width)
        return body

    e.body = wide


def dropout(e: Experiment) -> None:
    """Three in ten features are dropped, so that the training loss stands above that on validation examples."""
    e.bridge = lambda _: nn.Dropout(0.3)


# -- evaluations ----------------------------------------------------------------------------------------------------


def bump_that_recovers(e: Experiment) -> None:
    """Validation losses rise by half in the middle of the run and come back, as in double descent."""

    def bump(step: int, loss_V: Tensor) -> Tensor:
        height = math.exp(-(((step / e.steps - 0.5) / 0.12) ** 2))
        return loss_V * (1 + 0.5 * height)

    e.on_evaluation = bump


def one_noisy_evaluation(e: Experiment) -> None:
    """One evaluation, the last but two, is far off."""
    at = e.every * (e.steps // e.every - 2)
    e.on_evaluation = lambda step, loss_V: loss_V * 1.6 if step == at else loss_V


# -- time -----------------------------------------------------------------------------------------------------------


def slow_evaluations(e: Experiment) -> None:
    """Evaluations and checkpoints take as long as many steps."""

    def wait(step: int, loss_V: Tensor) -> Tensor:
        time.sleep(0.03)
        return loss_V

    e.on_evaluation = wait


# -- precision ------------------------------------------------------------------------------------------------------


def declared_bf16(e: Experiment) -> None:
    """Activations in bf16, and the run says so."""
    e.precision = "bf16"
    e.on_model = partial(round_activations, kind=torch.bfloat16)


def scaler_warm_up(e: Experiment) -> None:
    """fp16, declared; in three of the first steps the loss scale is too high and the step is skipped."""
    e.precision, e.skip_bad_steps = "fp16", True
    e.on_model = partial(round_activations, kind=torch.float16)

    def overflow(model: nn.Module, step: int) -> None:
        if step in (0, 1, 3):
            for gradient in gradients(model):
                gradient.fill_(math.inf)

    e.on_gradients = overflow


# -- data -----------------------------------------------------------------------------------------------------------


def natural_duplicates(e: Experiment) -> None:
    """Before the split one example in fifty was a copy of another."""
    both = Rows(*(torch.cat(pair) for pair in zip(e.train, e.validation, strict=True)))
    n, end = len(both.x), len(e.train.x)
    copies, sources = torch.from_numpy(e.rng.choice(n, (2, n // 50), replace=False))
    for column in both:
        column[copies] = column[sources]
    e.train = Rows(*(column[:end] for column in both))
    e.validation = Rows(*(column[end:] for column in both))


def rare_class(e: Experiment) -> None:
    """Nine in ten examples of the last class are missing."""
    for name in ("train", "validation"):
        rows = getattr(e, name)
        kept = (rows.y != e.classes - 1) | (torch.from_numpy(e.rng.random(len(rows.y))) < 0.1)
        setattr(e, name, Rows(rows.x[kept], rows.y[kept]))


def hard_class(e: Experiment) -> None:
    """The examples of one class are much noisier than the others."""
    for rows in (e.train, e.validation):
        members = torch.nonzero(rows.y == 0).squeeze(1)
        drawn = torch.from_numpy(e.rng.standard_normal(rows.x[members].shape)).float()
        rows.x[members] += 0.3 * rows.x.std(dim=0) * drawn


KINDS: dict[str, Change] = {
    change.__name__: change
    for change in (
        warm_restarts, warm_up, long_after_convergence, larger_batch, late_training, frozen_layers, sparse_inputs,
        dropout, bump_that_recovers, one_noisy_evaluation, slow_evaluations, declared_bf16, scaler_warm_up,
        natural_duplicates, rare_class, hard_class,
    )
}  # fmt: skip

BY_PARAMS = {
    change.__name__
    for change in (
        warm_restarts, warm_up, long_after_convergence, larger_batch, late_training, dropout, declared_bf16,
        scaler_warm_up,
    )
}  # fmt: skip
"""Those that a project makes by its params; a calibration that was made with other params is not used on them."""

EXCEPTIONS: dict[Change, tuple[str, ...]] = {
    larger_batch: ("autoencoder",),
    frozen_layers: ("recurrent", "linear"),
    dropout: ("linear", "autoencoder"),
    sparse_inputs: ("tabular", "deep", "digits", "recurrent", "linear", "autoencoder"),
    rare_class: ("linear", "autoencoder"),
    hard_class: ("sequence", "linear", "autoencoder"),
}
"""Tasks that bear no doubled learning rate, have no layer to spare, no unit to drop, no tokens, no classes, or
no values to blur."""
