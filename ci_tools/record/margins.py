"""The margin of every training example, averaged over the run: mislabelled examples are learned last, if ever.

N = training examples, B = examples of one step on this rank.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ci_tools.record import ranks
from ci_tools.repro.order import SeededBatches, epoch_order


class Margins:
    """Sums per example on the device; area under the margin (Pleiss et al. 2020) is their mean over the epochs."""

    def __init__(self, sum_N: Tensor, *, carries: bool) -> None:
        """`carries`: whether this rank goes on from the sums so far; exactly one may."""
        self.sum_N = sum_N if carries else torch.zeros_like(sum_N)

    def add(self, ids_B: NDArray[np.int64], margin_B: Tensor) -> None:
        """Add one step's margins; no id occurs twice in a step."""
        index = torch.from_numpy(ids_B).to(self.sum_N.device, non_blocking=True)
        self.sum_N.index_add_(0, index, margin_B.detach().to(self.sum_N.dtype))

    def gather(self) -> None:
        """Move the sums of all ranks to rank 0, and start the others from 0, so that none is counted twice."""
        ranks.sum_to_first_(self.sum_N)


def visits(sampler: SeededBatches, steps: int) -> NDArray[np.int64]:
    """How often each example was in a batch of the first `steps` steps, int64 [N]."""
    count_N = np.zeros(sampler.samples, dtype=np.int64)
    for epoch in range(-(-steps // len(sampler))):
        batches = min(len(sampler), steps - epoch * len(sampler))
        count_N[epoch_order(sampler.seed, epoch, sampler.samples)[: batches * sampler.batch_size]] += 1
    return count_N
