"""Batches in seeded order, in memory or from a `DataLoader`."""

from collections.abc import Iterator
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch

from ci_tools.repro.order import SeededBatches, sample_seeds

B = TypeVar("B", bound=tuple[torch.Tensor, ...])
Batch_co = TypeVar("Batch_co", covariant=True)


class Loader(Protocol[Batch_co]):
    """What `Recorder.steps` iterates: batches in the order of a `SeededBatches`."""

    @property
    def batch_sampler(self) -> Any:
        """The `SeededBatches` that decides the order."""

    def __iter__(self) -> Iterator[Batch_co]: ...


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


def start_epoch(loader: Loader[Any], seed: int, epoch: int) -> Iterator[Any]:
    """Start an epoch without touching the run's generator.

    A `DataLoader` draws its workers' base seed as it starts; that draw, too, must depend on nothing but seed and epoch.
    """
    generator: torch.Generator = torch.default_generator
    state = generator.get_state()
    generator.manual_seed(int(sample_seeds(seed, epoch, np.zeros(1, dtype=np.int64))[0] >> np.uint64(1)))
    iterator = iter(loader)
    generator.set_state(state)
    return iterator
