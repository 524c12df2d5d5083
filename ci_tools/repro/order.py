"""Data order as a pure function of (seed, epoch, sample id), whatever the worker count and wherever a run resumes."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from ci_tools.errors import DataError

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]


def mix(x: U64) -> U64:
    """splitmix64 of each element (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators")."""
    with np.errstate(over="ignore"):
        x = x + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def sample_seeds(seed: int, epoch: int, ids: I64) -> U64:
    """One 64-bit seed per sample, for augmentation that does not depend on workers or resuming."""
    key = mix(mix(np.array([seed], dtype=np.uint64)) + np.uint64(epoch))
    return mix(ids.astype(np.uint64) ^ key)


def epoch_order(seed: int, epoch: int, samples: int) -> I64:
    """The ids 0..samples-1 in the order of one epoch; int64 [samples]."""
    # Distinct ids never get equal keys, since mixing is a bijection: any sort gives this order.
    return np.argsort(sample_seeds(seed, epoch, np.arange(samples))).astype(np.int64)


def batch_digests(ids: I64) -> U64:
    """A u64 per row of ids [batches, batch size]: a sum of mixed ids weighted by odd position factors.

    Two rows with other ids, or the same ids in another order, differ except with probability about 2**-63.
    """
    with np.errstate(over="ignore"):
        odd = np.arange(ids.shape[1], dtype=np.uint64) * np.uint64(2) + np.uint64(1)
        return mix((mix(ids.astype(np.uint64)) * mix(odd)).sum(axis=1, dtype=np.uint64))


class SeededBatches:
    """A batch sampler for `torch.utils.data.DataLoader(batch_sampler=…)` and for `SeededLoader`.

    The last, incomplete batch of an epoch is dropped, so that all steps weigh the same. Under DDP each of `world`
    ranks gets its own equal part of every batch; the digest is that of the whole batch.

    Raises:
        DataError: fewer samples than one batch, or a batch that does not divide among the ranks.
    """

    def __init__(self, samples: int, batch_size: int, seed: int, *, rank: int = 0, world: int = 1) -> None:
        if samples < batch_size:
            raise DataError(
                f"{samples} training samples do not fill one batch of {batch_size}", fix="lower train.batch_size"
            )
        if batch_size % world:
            raise DataError(
                f"a batch of {batch_size} does not divide among {world} ranks", fix="use a multiple of the ranks"
            )
        self.samples, self.batch_size, self.seed, self.rank, self.world = samples, batch_size, seed, rank, world
        self._epoch = self._cursor = 0
        self._cached_epoch = -1
        self._ids = np.empty((0, batch_size), dtype=np.int64)
        self._digests = np.empty(0, dtype=np.uint64)

    def __len__(self) -> int:
        return self.samples // self.batch_size

    def seek(self, epoch: int, cursor: int) -> None:
        """Make the next iteration start at batch `cursor` of `epoch`."""
        self._epoch, self._cursor = epoch, cursor

    def __iter__(self) -> Iterator[I64]:
        for cursor in range(self._cursor, len(self)):
            yield self.ids(self._epoch, cursor)

    def ids(self, epoch: int, cursor: int) -> I64:
        """Ids of this rank's part of one batch; int64 [batch_size / world]."""
        part = self.batch_size // self.world
        ids: I64 = self._epoch_ids(epoch)[cursor, self.rank * part : (self.rank + 1) * part]
        return ids

    def digest(self, epoch: int, cursor: int) -> int:
        """Digest of one whole batch."""
        self._epoch_ids(epoch)
        return int(self._digests[cursor])

    def _epoch_ids(self, epoch: int) -> I64:
        if epoch != self._cached_epoch:
            order = epoch_order(self.seed, epoch, self.samples)
            self._ids = order[: len(self) * self.batch_size].reshape(len(self), self.batch_size)
            self._digests = batch_digests(self._ids)
            self._cached_epoch = epoch
        return self._ids
