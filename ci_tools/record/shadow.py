"""A shadow step: the same gradient in float64, to see how much of the real one is rounding error.

Differences alone do not tell: a deep network amplifies any rounding. They are therefore set against what the weights'
own rounding, the smallest change that could not be avoided, does to the gradient (backward error analysis, Higham
2002, ch. 1).
"""

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ci_tools.record.schema import UNIT_ROUNDOFF


class Shadow(NamedTuple):
    """Per layer with a gradient, relative L2 differences [L] to the float64 gradient."""

    error: list[float]
    """Of the gradient as the run computes it; NaN or infinite where that is not finite."""
    sensitivity: list[float]
    """Of the float64 gradient after each weight moved by one unit roundoff of the run's precision, up or down."""


def measure(model: nn.Module, loss: Callable[[Any, Any], Tensor], batch: Any, precision: str) -> Shadow:
    """Compare gradients of copies of the model, without dropout; model and generators stay as they are."""
    devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
    with torch.random.fork_rng(devices=list(devices)):
        narrow = _gradients(copy.deepcopy(model).eval(), loss, batch)
        wide_model, wide_batch = copy.deepcopy(model).eval().double(), _widened(batch)
        wide = _gradients(wide_model, loss, wide_batch)
        _nudge(wide_model, UNIT_ROUNDOFF[precision])
        nudged = _gradients(wide_model, loss, wide_batch)
    return Shadow(_relative(narrow, wide), _relative(nudged, wide))


def _gradients(model: nn.Module, loss: Callable[[Any, Any], Tensor], batch: Any) -> list[Tensor]:
    model.zero_grad(set_to_none=True)
    loss(model, batch).backward()
    return [
        torch.zeros_like(p, dtype=torch.float64) if p.grad is None else p.grad.to_dense().double()
        for p in model.parameters()
        if p.requires_grad
    ]


def _widened(batch: Any) -> Any:
    columns = [column.double() if column.is_floating_point() else column for column in batch]
    return type(batch)(*columns) if hasattr(batch, "_fields") else type(batch)(columns)


def _nudge(model: nn.Module, unit: float) -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            sign = torch.randint(0, 2, p.shape, generator=generator).to(p.device) * 2 - 1
            p.mul_(1 + unit * sign)


def _relative(gradients: list[Tensor], reference: list[Tensor]) -> list[float]:
    differences = torch.stack([torch.linalg.vector_norm(a - b) for a, b in zip(gradients, reference, strict=True)])
    norms = torch.stack([torch.linalg.vector_norm(b) for b in reference])
    # A layer without a gradient has no error either; one that gets a gradient it should not have is all error.
    found: list[float] = torch.where(differences == 0, torch.zeros_like(norms), differences / norms).tolist()
    return found
