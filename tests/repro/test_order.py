from typing import NamedTuple

import numpy as np
import pytest
import torch

from ci_tools.errors import DataError
from ci_tools.record import SeededLoader
from ci_tools.repro.order import SeededBatches, batch_digests, epoch_order, sample_seeds


class Ids(NamedTuple):
    ids: torch.Tensor


def reference_splitmix64(x):
    mask = (1 << 64) - 1
    x = (x + 0x9E3779B97F4A7C15) & mask
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
    return x ^ (x >> 31)


def test_mixing_agrees_with_plain_integers():
    key = reference_splitmix64((reference_splitmix64(7) + 2) & ((1 << 64) - 1))
    expected = [reference_splitmix64(i ^ key) for i in range(50)]
    assert sample_seeds(7, 2, np.arange(50)).tolist() == expected


def test_every_epoch_is_another_permutation():
    orders = [epoch_order(1, epoch, 1000) for epoch in range(3)]
    assert all(sorted(order.tolist()) == list(range(1000)) for order in orders)
    assert not np.array_equal(orders[0], orders[1])
    assert not np.array_equal(orders[0], epoch_order(2, 0, 1000))


def test_order_shows_no_trend():
    positions = np.argsort(epoch_order(3, 0, 20_000))
    assert abs(np.corrcoef(np.arange(20_000), positions)[0, 1]) < 0.03


def test_seeking_continues_an_epoch_where_it_stopped():
    whole, part = SeededBatches(100, 10, 5), SeededBatches(100, 10, 5)
    whole.seek(3, 0)
    part.seek(3, 6)
    assert [b.tolist() for b in whole][6:] == [b.tolist() for b in part]


def test_ranks_share_each_batch_without_overlap():
    whole = SeededBatches(64, 16, 1)
    ranks = [SeededBatches(64, 16, 1, rank=r, world=4) for r in range(4)]
    for batch, *parts in zip(whole, *ranks, strict=True):
        assert np.concatenate(parts).tolist() == batch.tolist()
    assert ranks[2].digest(0, 1) == whole.digest(0, 1)


def test_digest_sees_other_ids_and_another_order():
    base = np.array([[1, 2, 3, 4]])
    for other in ([[1, 2, 3, 5]], [[2, 1, 3, 4]], [[1, 2, 4, 3]]):
        assert batch_digests(base)[0] != batch_digests(np.array(other))[0]
    assert batch_digests(base)[0] == batch_digests(base.copy())[0]


def test_order_is_the_same_with_and_without_workers():
    class Rows(torch.utils.data.Dataset):
        def __getitem__(self, i):
            return i

    def read(workers):
        sampler = SeededBatches(40, 8, 9)
        sampler.seek(1, 2)
        loader = torch.utils.data.DataLoader(Rows(), batch_sampler=sampler, num_workers=workers)
        return [batch.tolist() for batch in loader]

    sampler = SeededBatches(40, 8, 9)
    sampler.seek(1, 2)
    in_memory = [batch.ids.tolist() for batch in SeededLoader(Ids(torch.arange(40)), sampler)]
    assert read(0) == read(2) == in_memory


@pytest.mark.parametrize(
    ("arguments", "words"),
    [((5, 10, 0), "do not fill one batch"), ((100, 10, 0, 0, 3), "does not divide among 3 ranks")],
)
def test_impossible_batches_are_refused(arguments, words):
    samples, batch_size, seed, *ranks = arguments
    with pytest.raises(DataError, match=words):
        SeededBatches(samples, batch_size, seed, **dict(zip(("rank", "world"), ranks, strict=False)))
