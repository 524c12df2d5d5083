"""Gradient statistics of every layer at every step, without stopping the device once.

L = layers, R = rows of the ring. One row: loss, clip coefficient, L norms, L absolute maxima.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

RING_ROWS = 64
LOSS, CLIP, NORMS = 0, 1, 2


class GradientMonitor:
    """Writes one row per step into a ring on the device; a full ring travels to the host asynchronously.

    `observe` and `clip` only enqueue device work on fixed addresses (no `.item()`, no hooks, no loop over layers in
    Python beyond collecting the gradients), so they may be captured in a CUDA graph.
    """

    def __init__(self, parameters: list[torch.nn.Parameter]) -> None:
        self.parameters = parameters
        self.layers = len(parameters)
        device = parameters[0].device
        self._cuda = device.type == "cuda"
        self._row = torch.zeros(NORMS + 2 * self.layers, device=device)
        self._ring = torch.zeros(RING_ROWS, len(self._row), device=device)
        self._host = torch.zeros(self._ring.shape, pin_memory=self._cuda)
        self._copied = torch.cuda.Event() if self._cuda else None
        self._no_gradient = torch.zeros(1, device=device)
        self._loss = torch.zeros((), device=device)
        self._one = torch.ones((), device=device)
        self._filled = self._travelling = 0

    def gradients(self) -> list[Tensor]:
        """Current gradient of each layer; a single zero where a layer took no part in the step."""
        return [self._no_gradient if p.grad is None else p.grad for p in self.parameters]

    def observe(self, loss: Tensor, max_norm: float = 0.0, *, clips: bool = True) -> None:
        """Measure loss and gradients; then, if `max_norm` > 0, scale the gradients down to that total L2 norm.

        The statistics are those before clipping; the clip coefficient tells the norm after it. Without `clips` the
        gradients stay as they are, for somebody else to clip.
        """
        gradients = self.gradients()
        plain = [g.coalesce().values() if g.is_sparse else g for g in gradients]
        plain = [g.float() if g.dtype == torch.float64 else g for g in plain]
        norms = torch._foreach_norm(plain, 2, dtype=torch.float32)
        # The multi-tensor infinity norm is fused on CUDA only; on the CPU abs and max are five times faster.
        if self._cuda:
            largest = torch._foreach_norm(plain, float("inf"), dtype=torch.float32)
        else:
            largest = torch._foreach_max(torch._foreach_abs(plain))
            if any(m.dtype != torch.float32 for m in largest):
                largest = tuple(m.float() for m in largest)
        clip = self._one
        if max_norm > 0:
            total = torch.linalg.vector_norm(torch.stack(norms))
            clip = (max_norm / (total + 1e-6)).clamp(max=1.0)
            if clips:
                torch._foreach_mul_([g for g in gradients if g is not self._no_gradient], clip)
        torch.stack([loss.detach().to(torch.float32), clip, *norms, *largest], out=self._row)

    def commit(self) -> bool:
        """Move the row into the ring; true when the ring is full and `collect` must follow before the next commit."""
        self._ring[self._filled].copy_(self._row, non_blocking=True)
        self._filled += 1
        return self._filled == RING_ROWS

    def collect(self, *, wait: bool) -> npt.NDArray[np.float32]:
        """Send off what the ring holds and return rows [k, 2 + 2L] that have arrived.

        Args:
            wait: also return what was just sent; stops until the device is done. Otherwise only the rows sent by
                the call before are returned, which arrived long ago.
        """
        arrived = self._arrived()
        if self._filled:
            self._host[: self._filled].copy_(self._ring[: self._filled], non_blocking=True)
            if self._copied is not None:
                self._copied.record()
            self._travelling, self._filled = self._filled, 0
        if wait or not self._cuda:
            arrived = np.concatenate([arrived, self._arrived()])
        return arrived

    def losses(self) -> Tensor:
        """Losses in the ring that were not collected yet, on the device; a view, so that ranks may average them."""
        return self._ring[: self._filled, LOSS]

    def drop(self) -> None:
        """Forget rows that were not collected; for a return to a checkpoint."""
        self._arrived()
        self._filled = 0

    def _arrived(self) -> npt.NDArray[np.float32]:
        if self._travelling and self._copied is not None:
            self._copied.synchronize()
        rows = self._host[: self._travelling].numpy().copy()
        self._travelling = 0
        return rows
