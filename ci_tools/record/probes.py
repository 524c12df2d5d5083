"""Gradient probes: what is too dear for every step and enough to know every hundredth.

L = layers, P = all watched weights laid end to end.
"""

from typing import Any

import torch
from torch import Tensor

from ci_tools.record.schema import HISTOGRAM_BINS, HISTOGRAM_LOWEST_EXPONENT

_EPSILON = 1e-30


class Probe:
    """One probe, taken around an optimizer step: `halves` during, `gradients` before and `updates` after it."""

    def __init__(self, parameters: list[torch.nn.Parameter], previous: Tensor | None) -> None:
        self.parameters, self.previous = parameters, previous
        self.sizes = [p.numel() for p in parameters]
        self.row: dict[str, Any] = {}
        self._first: Tensor | None = None
        self._first_share = 0.0
        self._before: list[Tensor] = []

    def first_half(self, gradients: list[Tensor], share: float) -> None:
        """Keep the gradient of the first `share` (0..1) of the batch, summed with the weights of the whole batch."""
        self._first, self._first_share = _flat(gradients, self.sizes), share

    def gradients(self, gradients: list[Tensor], batch_size: int) -> Tensor:
        """Statistics of the step's gradients, before clipping; returns them flat [P] for the next probe."""
        flat = _flat(gradients, self.sizes)
        layer_of = torch.repeat_interleave(
            torch.arange(len(self.sizes), device=flat.device), torch.tensor(self.sizes, device=flat.device)
        )
        self.row["histogram"] = _histogram(flat, layer_of, len(self.sizes))
        self.row["dead_share"] = torch.stack([_dead_share(g) for g in gradients]).tolist()
        self.row["cosine_previous"] = self._cosines(flat, self.previous)
        self._halves(flat, batch_size)
        self._before = [p.detach().to(torch.float32, copy=True) for p in self.parameters]
        return flat

    def updates(self) -> dict[str, Any]:
        """Finish after the optimizer step: RMS of the update over RMS of the weights, per layer."""
        after = [p.detach().float() for p in self.parameters]
        moved = torch.stack(torch._foreach_norm(torch._foreach_sub(after, self._before), 2, dtype=torch.float32))
        weights = torch.stack(torch._foreach_norm(self._before, 2, dtype=torch.float32))
        self.row["update_ratio"] = (moved / (weights + _EPSILON)).tolist()
        return self.row

    def _halves(self, flat: Tensor, batch_size: int) -> None:
        """Gradient noise scale B_simple = tr(Σ)/|G|² from two part-batch gradients (McCandlish et al. 2018, eq. 2.9).

        With means g_a, g_b over n_a, n_b samples: E[g_a·g_b] = |G|² and E|g_a − g_b|² = tr(Σ)(1/n_a + 1/n_b).
        """
        nan = float("nan")
        self.row |= {"noise_scale": nan, "gradient_square": nan, "gradient_variance": nan}
        self.row["half_cosine"] = [nan] * len(self.sizes)
        if self._first is None:
            return
        share = self._first_share
        a, b = self._first / share, (flat - self._first) / (1 - share)
        square = float(torch.dot(a, b))
        variance = float((a - b).square().sum()) / (1 / (share * batch_size) + 1 / ((1 - share) * batch_size))
        self.row["gradient_square"], self.row["gradient_variance"] = square, variance
        self.row["noise_scale"] = variance / square if square > 0 else float("inf")
        self.row["half_cosine"] = self._cosines(a, b)

    def _cosines(self, a: Tensor, b: Tensor | None) -> list[float]:
        if b is None:
            return [float("nan")] * len(self.sizes)
        parts = zip(a.split(self.sizes), b.split(self.sizes), strict=True)
        dots, norms = [], []
        for x, y in parts:
            dots.append(torch.dot(x, y))
            norms.append(torch.linalg.vector_norm(x) * torch.linalg.vector_norm(y))
        cosines: list[float] = (torch.stack(dots) / (torch.stack(norms) + _EPSILON)).tolist()
        return cosines


def _flat(gradients: list[Tensor], sizes: list[int]) -> Tensor:
    full = [
        g.to_dense() if g.is_sparse else (g if g.numel() == n else g.new_zeros(n))
        for g, n in zip(gradients, sizes, strict=True)
    ]
    return torch.cat([g.detach().reshape(-1).float() for g in full])


def _histogram(flat: Tensor, layer_of: Tensor, layers: int) -> list[list[int]]:
    """Counts of floor(log2 |g|), clamped into 32 bins, per layer [L][32]."""
    # The exponent field of an IEEE float32 is floor(log2 |g|) + 127; it is 0 for zero and 255 for inf and NaN, which
    # the clamp sends to the outer bins.
    exponent = (flat.view(torch.int32) >> 23) & 0xFF
    bin_ = (exponent - (127 + HISTOGRAM_LOWEST_EXPONENT)).clamp_(0, HISTOGRAM_BINS - 1)
    # torch.bincount has no deterministic CUDA kernel; the probe is rare, so the host counts.
    counts = torch.bincount((layer_of * HISTOGRAM_BINS + bin_).cpu(), minlength=layers * HISTOGRAM_BINS)
    table: list[list[int]] = counts.reshape(layers, HISTOGRAM_BINS).tolist()
    return table


def _dead_share(gradient: Tensor) -> Tensor:
    """Share of output units (rows of a weight matrix) whose whole gradient is exactly zero in this batch.

    Behind a ReLU such a unit was silent for every sample; in an embedding the row was not looked up.
    """
    if gradient.is_sparse:
        gradient = gradient.to_dense()
    if gradient.dim() < 2:
        return (gradient == 0).float().mean()
    return (gradient.flatten(1).abs().amax(dim=1) == 0).float().mean()
