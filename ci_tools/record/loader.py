"""In-memory batches in seeded order."""

from collections.abc import Iterator
from typing import Generic, TypeVar

import torch

from ci_tools.repro.order import SeededBatches

B = TypeVar("B", bound=tuple[torch.Tensor, ...])


class SeededLoader(Generic[B]):
    """Yields batches of a named tuple of tensors, all [N, …] and on one device, in the order of `batch_sampler`.

    A `torch.utils.data.DataLoader(batch_sampler=SeededBatches(…))` may stand in its place.
    """

    def __init__(self, samples: B, batch_sampler: SeededBatches) -> None:
        self.samples, self.batch_sampler = samples, batch_sampler

    def __iter__(self) -> Iterator[B]:
        for ids in self.batch_sampler:
            index = torch.from_numpy(ids).to(self.samples[0].device)
            rows = [column.index_select(0, index) for column in self.samples]
            yield type(self.samples)(*rows)
