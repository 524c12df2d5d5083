"""Ten failure modes, three severities each, planted as small changes of an experiment.

Where a mode has several mechanisms, the seed chooses one, so that no gate is measured on a single trick.
"""

import itertools
import json
import shutil
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.faults.loop import Experiment, Fault, Rows
from ci_tools.repro import manifest

SEVERITIES = ("mild", "medium", "strong")
Mechanism = Callable[[Experiment, int], None]
"""Changes an experiment, at a severity of 0, 1 or 2."""


def plant(mode: str, severity: str, task: str, seed: int) -> Fault | None:
    """The fault of one cell; None where this mode cannot exist in the task."""
    mechanisms = [chosen for chosen in MODES[mode] if task not in EXCEPTIONS.get(chosen, ())]
    if not mechanisms:
        return None
    chosen = mechanisms[seed % len(mechanisms)]
    level = SEVERITIES.index(severity)
    return Fault(mode, severity, chosen.__name__, lambda experiment: chosen(experiment, level))


# -- divergence -----------------------------------------------------------------------------------------------------


def learning_rate_too_high(e: Experiment, level: int) -> None:
    """So much too high that the loss leaves the null predictor's behind for good."""
    e.lr *= DIVERGES[e.task][level]


def sign_flipped(e: Experiment, level: int) -> None:
    """From some step on the gradients point uphill."""
    start = e.steps * (6, 4, 2)[level] // 10

    def ascend(model: nn.Module, step: int) -> None:
        if step >= start:
            for gradient in gradients(model):
                gradient.neg_()

    e.on_gradients = ascend


def growing_weights(e: Experiment, level: int) -> None:
    """Weight decay has the wrong sign from a third of the run on: 4, 8 or 16 % more weight in each step."""
    factor, start = (1.04, 1.08, 1.16)[level], e.steps // 3

    def grow(model: nn.Module, step: int) -> None:
        if step >= start:
            with torch.no_grad():
                for p in model.parameters():
                    p.mul_(factor)

    e.on_update = grow


# -- vanishing gradients --------------------------------------------------------------------------------------------


def saturating_stack(e: Experiment, level: int) -> None:
    """Sigmoid layers between body and head; more of them under Adam, which makes up for small gradients."""
    depth = ((7, 9, 12) if e.adam else (4, 6, 9))[level]

    def stack(width: int) -> nn.Module:
        layers = [nn.Linear(width, width) for _ in range(depth)]
        return nn.Sequential(*(part for layer in layers for part in (layer, nn.Sigmoid())))

    e.bridge = stack


def small_initialisation(e: Experiment, level: int) -> None:
    """Tanh layers between body and head, with weights so small that each hands on a tenth of its signal or less."""
    gain, depth = (0.1, 0.05, 0.02)[level], 4

    def stack(width: int) -> nn.Module:
        layers = [nn.Linear(width, width) for _ in range(depth)]
        for layer in layers:
            nn.init.normal_(layer.weight, std=gain / width**0.5)
            nn.init.zeros_(layer.bias)
        return nn.Sequential(*(part for layer in layers for part in (layer, nn.Tanh())))

    e.bridge = stack


# -- overfitting ----------------------------------------------------------------------------------------------------


def few_examples(e: Experiment, level: int) -> None:
    """Training on a handful of examples, for twice as long and with a higher learning rate."""
    kept = KEPT.get(e.task, (64, 48, 32))[level]
    e.train = Rows(e.train.x[:kept], e.train.y[:kept])
    e.steps *= 2
    if not e.adam:
        e.lr *= 4 if e.task == "linear" else 2


# -- slow convergence -----------------------------------------------------------------------------------------------


def learning_rate_too_low(e: Experiment, level: int) -> None:
    """A tenth, a thirtieth, a hundredth."""
    e.lr /= (10, 30, 100)[level]


def decays_too_early(e: Experiment, level: int) -> None:
    """The learning rate is all but gone after a few steps."""
    until = (0.08, 0.05, 0.03)[level]
    e.schedule = lambda done: 1.0 if done < until else 0.01


# -- gradient noise -------------------------------------------------------------------------------------------------


def noisy_gradients(e: Experiment, level: int) -> None:
    """Gaussian noise on the gradients, as independent in the parts of a batch as that of the examples."""
    factor, spread = NOISE.get(e.task, 8.0) * (1.0, 1.6, 2.5)[level], 0.0
    generator = torch.Generator().manual_seed(int(e.rng.integers(2**31)))

    def add(model: nn.Module, share: float) -> None:
        nonlocal spread
        found = gradients(model)
        if not spread:  # so far the gradients are those of the first step's examples
            weights = sum(g.numel() for g in found)
            spread = factor * float(torch.cat([g.flatten() for g in found]).norm()) / share / weights**0.5
        for gradient in found:
            gradient.add_(torch.randn(gradient.shape, generator=generator), alpha=spread * share**0.5)

    e.on_part = add


# -- stragglers -----------------------------------------------------------------------------------------------------

SLOW = (1.7, 2.5, 4.0)
"""Mean time of a step once it is slow, over that of a healthy one."""


class Delay:
    """Sleeps in some calls, in proportion to the time from call to call that it saw in the first third of the run."""

    def __init__(self, steps: int, extra: Callable[[int], float]) -> None:
        self._steps, self._extra = steps, extra
        self._times: list[float] = []
        self._calls = 0

    def __call__(self) -> None:
        """One step; `extra` tells the delay from its number, in healthy steps."""
        if self._calls < self._steps // 3:
            self._times.append(time.perf_counter())
        else:
            healthy = statistics.median(b - a for a, b in itertools.pairwise(self._times))
            time.sleep(healthy * self._extra(self._calls))
        self._calls += 1


def slow_half(e: Experiment, level: int) -> None:
    """Every step of the second half is slower, in the computation."""
    e.on_step = Delay(e.steps, lambda step: SLOW[level] - 1 if step >= e.steps // 2 else 0.0)


def slow_loader(e: Experiment, level: int) -> None:
    """Every fourth batch comes late, so that the mean step takes as long as in a slow half."""
    e.on_fetch = Delay(e.steps, lambda step: 4 * (SLOW[level] - 1) if step % 4 == 3 else 0.0)


# -- checkpoint corruption ------------------------------------------------------------------------------------------


def flipped_bit(e: Experiment, level: int) -> None:
    """One bit of a tensor, of the optimizer's state, or 64 of them."""
    name = ("model.safetensors", "state.safetensors", "model.safetensors")[level]
    count = (1, 1, 64)[level]

    def flip(record: Path) -> None:
        path = _checkpoint(record, e) / name
        data = bytearray(path.read_bytes())
        header = 8 + int.from_bytes(data[:8], "little")
        for at in e.rng.choice(np.arange(header, len(data)), count, replace=False):
            data[at] ^= 1 << int(e.rng.integers(8))
        path.write_bytes(data)

    e.on_record = flip


def rewritten_tensor(e: Experiment, level: int) -> None:
    """A tensor is changed, its file's digest with it; or the files of two checkpoints are mixed up."""

    def rewrite(record: Path) -> None:
        folder = _checkpoint(record, e)
        path = folder / "model.safetensors"
        if level == 2:
            checkpoints = manifest.list_checkpoints(record / "checkpoints")
            shutil.copy(checkpoints[checkpoints.index(folder) - 1] / path.name, path)
        else:
            data = bytearray(path.read_bytes())
            data[-1 - level] ^= 64
            path.write_bytes(data)
        if level > 0:
            content = json.loads((folder / manifest.MANIFEST).read_text(encoding="utf-8"))
            content["files"][path.name] = manifest.file_digest(path)
            (folder / manifest.MANIFEST).write_text(json.dumps(content), encoding="utf-8")

    e.on_record = rewrite


def torn_file(e: Experiment, level: int) -> None:
    """A file lost its last byte, its second half, or everything."""
    name = ("state.json", "state.safetensors", "model.safetensors")[level]

    def tear(record: Path) -> None:
        path = _checkpoint(record, e) / name
        data = path.read_bytes()
        path.write_bytes(data[: (len(data) - 1, len(data) // 2, 0)[level]])

    e.on_record = tear


def _checkpoint(record: Path, e: Experiment) -> Path:
    found = manifest.list_checkpoints(record / "checkpoints")
    return found[int(e.rng.integers(len(found)))]


# -- data leakage ---------------------------------------------------------------------------------------------------


def copied_rows(e: Experiment, level: int) -> None:
    """5, 10 or 20 % of the test rows stand in the training split, in place of others."""
    _leak(e, level, noise=0.0)


def nearly_copied_rows(e: Experiment, level: int) -> None:
    """The same, each value moved by a hundredth of the feature's spread."""
    _leak(e, level, noise=0.01)


def feature_that_tells(e: Experiment, level: int) -> None:
    """A feature is the target, with less and less noise."""
    noise = (0.2, 0.05, 0.0)[level]
    for rows in (e.train, e.validation):
        label_N = rows.y.float() if rows.y.dim() == 1 else rows.y[:, 0]
        spread_N = torch.from_numpy(e.rng.standard_normal(len(label_N))).float()
        rows.x.flatten(1)[:, 0] = (label_N - label_N.mean()) / label_N.std() + noise * spread_N


def _leak(e: Experiment, level: int, noise: float) -> None:
    count = len(e.validation.x) * (5, 10, 20)[level] // 100
    source = torch.from_numpy(e.rng.choice(len(e.validation.x), count, replace=False))
    target = torch.from_numpy(e.rng.choice(len(e.train.x), count, replace=False))
    x = e.validation.x[source]
    if noise:
        x = x + noise * e.train.x.std(dim=0) * torch.from_numpy(e.rng.standard_normal(x.shape)).float()
    e.train.x[target], e.train.y[target] = x, e.validation.y[source]


# -- numerical instability ------------------------------------------------------------------------------------------


class CancellingNorm(nn.Module):
    """Batch normalisation whose variance is E[x²] − E[x]², of values with a mean of many standard deviations."""

    def __init__(self, offset: float) -> None:
        super().__init__()
        self.offset = offset

    def forward(self, x_BD: Tensor) -> Tensor:
        """[B, D] to [B, D]."""
        shifted_BD = x_BD + self.offset * x_BD.detach().std(dim=0)
        mean_D = shifted_BD.mean(dim=0)
        variance_D = shifted_BD.square().mean(dim=0) - mean_D.square()
        return (shifted_BD - mean_D) / (variance_D.clamp(min=0) + 1e-5).sqrt()


def cancellation(e: Experiment, level: int) -> None:
    """Normalisation that subtracts two large, nearly equal numbers."""
    offset = (300.0, 600.0, 1200.0)[level]
    e.bridge = lambda _: CancellingNorm(offset)


def undeclared_half(e: Experiment, level: int) -> None:
    """Activations and their gradients are rounded to fp16 or bf16, or the weights too, while float32 is declared."""
    e.on_model = partial(round_activations, kind=(torch.float16, torch.bfloat16, torch.bfloat16)[level])
    if level == 2:
        e.on_update = lambda model, _: round_weights(model, torch.bfloat16)


def round_activations(model: nn.Module, kind: torch.dtype) -> None:
    """Round what every module without children answers, and its gradient; float64 is left alone, as by autocast."""

    def rounded(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(rounded, value))
        return value.to(kind).to(value.dtype) if value.dtype == torch.float32 else value

    for module in model.modules():
        if not list(module.children()):
            module.register_forward_hook(lambda _module, _inputs, output: rounded(output))


def round_weights(model: nn.Module, kind: torch.dtype) -> None:
    """Keep the weights in a narrower type, so that small updates are lost."""
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(p.to(kind))


def overflow(e: Experiment, level: int) -> None:
    """A loss that overflows: the naive log of a sum of exponentials at a low temperature; squares in half precision."""
    if e.classes:
        e.loss = partial(naive_cross_entropy, scale=(120.0, 250.0, 500.0)[level])
    else:
        e.loss = partial(half_squared_error, scale=(100.0, 200.0, 400.0)[level])


def naive_cross_entropy(output_BC: Tensor, class_B: Tensor, scale: float) -> Tensor:
    """Cross-entropy at temperature 1 / scale, without subtracting the largest exponent first."""
    z_BC = output_BC * scale
    return (z_BC.exp().sum(dim=1).log() - z_BC.gather(1, class_B[:, None]).squeeze(1)) / scale


def half_squared_error(output_BC: Tensor, target_BC: Tensor, scale: float) -> Tensor:
    """Mean squared error in fp16 of errors that were scaled up; float64 is left alone, as by autocast."""
    error_BC = (output_BC - target_BC) * scale
    kind = torch.float16 if error_BC.dtype == torch.float32 else error_BC.dtype
    return error_BC.to(kind).square().to(output_BC.dtype).mean(dim=1) / scale**2


# -- label noise ----------------------------------------------------------------------------------------------------


def random_labels(e: Experiment, level: int) -> None:
    """10, 20 or 40 % of the training examples get another class at random, or another example's target."""
    chosen = _some(e, level)
    y = e.train.y
    if e.classes:
        y[chosen] = (y[chosen] + torch.from_numpy(e.rng.integers(1, e.classes, len(chosen)))) % e.classes
    else:
        y[chosen] = y[chosen[torch.from_numpy(e.rng.permutation(len(chosen)))]]


def confused_labels(e: Experiment, level: int) -> None:
    """The same share of the examples is taken for the next class."""
    chosen = _some(e, level)
    e.train.y[chosen] = (e.train.y[chosen] + 1) % e.classes


def _some(e: Experiment, level: int) -> Tensor:
    n = len(e.train.y)
    return torch.from_numpy(e.rng.choice(n, n * (10, 20, 40)[level] // 100, replace=False))


# -------------------------------------------------------------------------------------------------------------------


def gradients(model: nn.Module) -> list[Tensor]:
    """Those that there are."""
    return [p.grad for p in model.parameters() if p.grad is not None]


DIVERGES = {
    "tabular": (100, 300, 1000),
    "deep": (20, 40, 100),
    "sequence": (300, 1000, 3000),
    "recurrent": (40, 100, 300),
    "linear": (40, 70, 300),
    "autoencoder": (12, 20, 100),
}
"""Factors on each task's learning rate, by trial. The digits' ReLU network dies instead, and stays at the null loss."""

NOISE = {"tabular": 2.5, "deep": 6.0, "sequence": 4.0, "recurrent": 10.0, "linear": 1.0, "autoencoder": 0.8}
"""Noise that costs each task something without a divergence, in norms of the first gradient, by trial."""

KEPT = {
    "linear": (48, 44, 40),
    "recurrent": (28, 22, 16),
    "sequence": (28, 22, 16),
    "digits": (48, 36, 24),
    "deep": (48, 36, 24),
}
"""Examples that are too few, by trial: forty features need as many; some tasks generalise from very little."""

MODES: dict[str, tuple[Mechanism, ...]] = {
    "divergence": (learning_rate_too_high, sign_flipped, growing_weights),
    "vanishing_gradients": (saturating_stack, small_initialisation),
    "overfitting": (few_examples,),
    "slow_convergence": (learning_rate_too_low, decays_too_early),
    "gradient_noise": (noisy_gradients,),
    "stragglers": (slow_half, slow_loader),
    "checkpoint_corruption": (flipped_bit, rewritten_tensor, torn_file),
    "data_leakage": (copied_rows, nearly_copied_rows, feature_that_tells),
    "numerical_instability": (cancellation, undeclared_half, overflow),
    "label_noise": (random_labels, confused_labels),
}

EXCEPTIONS: dict[Mechanism, tuple[str, ...]] = {
    learning_rate_too_high: ("digits",),
    saturating_stack: ("linear",),
    small_initialisation: ("linear", "tabular", "sequence"),
    few_examples: ("autoencoder",),
    nearly_copied_rows: ("sequence",),
    feature_that_tells: ("sequence", "autoencoder"),
    confused_labels: ("linear", "autoencoder"),
}
"""Tasks in which a mechanism cannot exist, has no effect or another one: one layer cannot vanish; Adam undoes a small
scale; the autoencoder's validation loss stalls but does not rise; a linear model diverges where few features are scaled
up, and an autoencoder loses what it must carry; tokens are not nearly equal; values have no class."""
