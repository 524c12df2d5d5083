"""Batches in seeded order, in memory or from a `DataLoader`, step by step or epoch by epoch."""

from collections.abc import Generator, Iterator
from contextlib import closing
from itertools import chain
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, RandomSampler, SequentialSampler

from ci_tools.errors import DataError
from ci_tools.repro.order import SeededBatches, sample_seeds

B = TypeVar("B", bound=tuple[torch.Tensor, ...])
Batch_co = TypeVar("Batch_co", covariant=True)

_KEPT = ("num_workers", "collate_fn", "pin_memory", "timeout", "worker_init_fn", "multiprocessing_context",
         "prefetch_factor", "persistent_workers")  # fmt: skip
"""What a `DataLoader` keeps that is made again with another order."""


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


def seeded(loader: Any, seed: int, rank: int = 0, world: int = 1) -> Loader[Any]:
    """The same batches in seeded order; a loader whose `batch_sampler` is a `SeededBatches` as it is.

    A `DataLoader` that shuffles, or goes through its samples in order, is made again with the same workers and
    collation. Its batch size is that of one process; the last, incomplete batch of an epoch is dropped.

    Raises:
        DataError: there are no batches to put in another order, or the loader draws its samples in a way of its own.
    """
    if isinstance(getattr(loader, "batch_sampler", None), SeededBatches):
        ordered: Loader[Any] = loader
        return ordered
    where, fix = "the loader", "give it `batch_sampler=SeededBatches(samples, batch_size, seed)`"
    if not isinstance(loader, DataLoader):
        raise DataError(f"is a {type(loader).__name__}", where=where, rule="its order must follow the seed", fix=fix)
    if isinstance(loader.dataset, IterableDataset) or loader.batch_size is None:
        rule = "a run resumes only where each example has a number"
        raise DataError("has no batches of numbered examples", where=where, rule=rule, fix="use a map-style data set")
    if type(loader.sampler) not in (RandomSampler, SequentialSampler):
        rule = "it would be replaced by the seeded order"
        raise DataError(f"draws by a {type(loader.sampler).__name__}", where=where, rule=rule, fix=fix)
    samples: Any = loader.dataset
    order: Any = SeededBatches(len(samples), loader.batch_size * world, seed, rank=rank, world=world)
    return DataLoader(samples, batch_sampler=order, **{name: getattr(loader, name) for name in _KEPT})


def by_epochs(steps: Generator[tuple[int, Any]], per_epoch: int) -> Iterator[tuple[int, Iterator[Any]]]:
    """Cut (step, batch) into (epoch, its batches).

    An epoch that was left early, by a stop of the process or by `break`, goes on with the rest of its batches.

    The last step of an epoch is completed after what follows its batches: what is measured there belongs to it, and its
    checkpoint holds what a schedule did there.
    """

    def rest_of_epoch(first: tuple[int, Any]) -> Iterator[Any]:
        for step, batch in chain([first], steps):
            yield batch
            if (step + 1) % per_epoch == 0:
                return

    with closing(steps):  # at once, even while somebody holds the batches of an epoch
        for step, batch in steps:
            yield step // per_epoch, rest_of_epoch((step, batch))
