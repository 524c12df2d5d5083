"""Seven small tasks that really learn: data, network and optimizer, each a function of the seed; and one run of them.

N = training examples, F = features (inputs laid flat).
"""

import functools
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.faults import networks
from benchmarks.faults.loop import Experiment, Fault, Rows, squared_error, train
from ci_tools.errors import TrainingFailed
from ci_tools.gates import training
from ci_tools.gates.training import Training
from ci_tools.record import open_record

TRAIN, VALIDATION = 1200, 960
"""Examples; of the digits there are fewer for validation."""


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What gates may see of one run, and what it reached."""

    training: Training
    label_N: NDArray[Any] | None
    """Classes as the run saw them; None where the targets are values."""
    train: tuple[NDArray[Any], NDArray[Any]]
    """Inputs [N, F] and labels [N] of the training split."""
    test: tuple[NDArray[Any], NDArray[Any]]
    """The same of the validation split."""
    record: Path
    explained: float
    """Share of the null loss that the last weights explain on validation examples; -inf where they explain nothing."""


def run(task: str, seed: int, fault: Fault | None, folder: Path) -> Observation:
    """One run of a task, with a fault or without; its record stays in `folder`."""
    experiment = TASKS[task](seed)
    if fault is not None:
        fault.apply(experiment)
    record = folder / f"{task}-{seed}"
    with suppress(TrainingFailed):  # its record says so
        train(experiment, record)
    seen = training.read(open_record(record))
    experiment.on_record(record)
    return Observation(
        training=seen,
        label_N=experiment.train.y.numpy() if experiment.classes else None,
        train=_table(experiment.train),
        test=_table(experiment.validation),
        record=record,
        explained=explained(seen),
    )


def explained(seen: Training) -> float:
    """(null − loss) / null at the last evaluation, on validation examples."""
    loss = float(seen.example_loss_EV[-1].mean()) if len(seen.example_loss_EV) else float("nan")
    finished = seen.status == "finished" and np.isfinite(loss)
    return 1 - loss / seen.null_loss if finished else float("-inf")


def _table(rows: Rows) -> tuple[NDArray[Any], NDArray[Any]]:
    label_N = rows.y if rows.y.dim() == 1 else rows.y.mean(dim=1)
    return rows.x.flatten(1).numpy(), label_N.numpy()


def _split(x: NDArray[Any], y: NDArray[Any]) -> dict[str, Rows]:
    """The first examples for training, the following for validation; float64 becomes float32."""
    tensors = [torch.from_numpy(a.astype(np.float32) if a.dtype == np.float64 else a) for a in (x, y)]
    end = TRAIN + VALIDATION
    return {
        "train": Rows(*(t[:TRAIN] for t in tensors)),
        "validation": Rows(*(t[TRAIN:end] for t in tensors)),
    }


def tabular(seed: int) -> Experiment:
    """Residual MLP on ten features, two classes divided by a curved surface."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((TRAIN + VALIDATION, 10))
    a = rng.uniform(0.5, 1.5, 3)
    y = a[0] * x[:, 0] - a[1] * x[:, 1] + a[2] * np.abs(x[:, 2]) > 0.8 * a[2]
    body = functools.partial(networks.residual, 10, 32, 2)
    return Experiment(
        task="tabular", seed=seed, **_split(x, y.astype(np.int64)), classes=2, body=body, width=32, lr=0.004, adam=True
    )


def deep(seed: int) -> Experiment:
    """Twelve plain tanh layers, ten clusters of five classes in eight dimensions."""
    rng = np.random.default_rng(seed)
    centre = rng.standard_normal((10, 8)) * 1.6
    cluster = rng.integers(0, 10, TRAIN + VALIDATION)
    x = centre[cluster] + rng.standard_normal((len(cluster), 8)) * 0.9
    body = functools.partial(networks.deep, 8, 32, 12)
    return Experiment(task="deep", seed=seed, **_split(x, cluster % 5), classes=5, body=body, width=32, lr=0.02)


def digits(seed: int) -> Experiment:
    """Convolutional network on scikit-learn's 8 × 8 digits."""
    image, label = _digits(seed)
    body = functools.partial(networks.convolutional, 32)
    x = image.reshape(-1, 1, 8, 8)
    return Experiment(task="digits", seed=seed, **_split(x, label), classes=10, body=body, width=32, lr=0.02)


def sequence(seed: int) -> Experiment:
    """Transformer on twelve tokens, of which each class uses some more often than others."""
    rng = np.random.default_rng(seed)
    share = rng.dirichlet(np.full(16, 0.6), 4)
    label = rng.integers(0, 4, TRAIN + VALIDATION)
    below = share.cumsum(axis=1)[label][:, None, :-1]
    token = (rng.random((len(label), 12, 1)) > below).sum(axis=2)
    body = functools.partial(networks.Transformer, 16, 12, 16, 2)
    return Experiment(
        task="sequence", seed=seed, **_split(token, label), classes=4, body=body, width=16, lr=0.003, adam=True
    )


def recurrent(seed: int) -> Experiment:
    """GRU on a noisy wave of one of three frequencies."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 3, TRAIN + VALIDATION)
    phase = rng.uniform(0, 1.5, (len(label), 1))
    wave = np.sin(np.array([0.3, 1.0, 2.0])[label][:, None] * np.arange(10) + phase)
    x = (wave + 0.5 * rng.standard_normal(wave.shape))[:, :, None]
    body = functools.partial(networks.Recurrent, 1, 24)
    return Experiment(
        task="recurrent", seed=seed, **_split(x, label), classes=3, body=body, width=24, lr=0.3, clip_norm=2.0
    )


def linear(seed: int) -> Experiment:
    """Linear regression on forty correlated features, with noise."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((TRAIN + VALIDATION, 40)) @ (np.eye(40) + 0.1 * rng.standard_normal((40, 40)))
    signal = x @ rng.standard_normal(40)
    y = signal / signal.std() + 0.4 * rng.standard_normal(len(x))
    return Experiment(
        task="linear", seed=seed, **_split(x, y[:, None]), body=nn.Identity, width=40, loss=squared_error, lr=0.003
    )


def autoencoder(seed: int) -> Experiment:
    """Sixteen numbers in the middle, to tell the 64 pixels of a digit."""
    image, _ = _digits(seed)
    body = functools.partial(networks.autoencoder, 64, 48, 16)
    return Experiment(
        task="autoencoder", seed=seed, **_split(image, image), body=body, width=48, loss=squared_error, lr=0.5
    )


def _digits(seed: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Images [1797, 64] with pixels in [-1, 1] and their classes, in an order drawn by the seed."""
    image, label = _all_digits()
    order = np.random.default_rng(seed).permutation(len(image))
    return image[order], label[order]


@functools.cache
def _all_digits() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    from sklearn.datasets import load_digits

    image, label = load_digits(return_X_y=True)
    return image / 8 - 1, label.astype(np.int64)


TASKS: dict[str, Callable[[int], Experiment]] = {
    task.__name__: task for task in (tabular, deep, digits, sequence, recurrent, linear, autoencoder)
}
