"""A stranger's loader in seeded order, and a loop over epochs that stops and resumes like one over steps."""

from typing import NamedTuple

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset, WeightedRandomSampler

from ci_tools.errors import DataError
from ci_tools.record import Recorder, SeededBatches, SeededLoader, open_record
from ci_tools.record.loader import seeded
from ci_tools.repro.compare import compare
from ci_tools.repro.order import epoch_order

SAMPLES, BATCH, EPOCHS, SEED = 70, 16, 3, 5  # 4 steps per epoch, and 6 samples that no epoch sees


class Stopped(Exception):
    """Stands for whatever ends a process."""


class Rows(NamedTuple):
    """The same in memory."""

    x: torch.Tensor
    y: torch.Tensor


def rows():
    x = torch.arange(float(SAMPLES))[:, None] / SAMPLES
    return TensorDataset(x, 2 * x)


def train(record, *, by_epochs=True, loader=None, stop_at=-1, breaks_after=EPOCHS):
    """A run of the same steps, epoch by epoch or step by step; what is measured belongs to whole epochs."""
    with Recorder(record, params={"lr": 0.1, "seed": SEED}, seed=SEED, checkpoint_every=3) as run:
        model = torch.nn.Linear(1, 1)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        run.watch(model, optimizer, schedule=schedule)

        def step(x, y):
            loss = (model(x) - y).square().mean()
            loss.backward()
            run.record(loss)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if run.step == stop_at:
                raise Stopped

        def measure():
            run.evaluated("validation", {"weight": model.weight.item()})
            schedule.step()

        seen = []
        if by_epochs:
            for epoch, batches in run.epochs(loader or DataLoader(rows(), BATCH, shuffle=True), EPOCHS):
                seen.append(epoch)
                for x, y in batches:
                    step(x, y)
                measure()
                if epoch + 1 == breaks_after:
                    break
        else:
            ordered = SeededLoader(Rows(*rows().tensors), SeededBatches(SAMPLES, BATCH, SEED))
            for number, (x, y) in run.steps(ordered, EPOCHS * 4):
                step(x, y)
                if number % 4 == 3:
                    measure()
        run.finish({})
    return seen


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    record = tmp_path_factory.mktemp("whole") / "run"
    assert train(record) == [0, 1, 2]
    return record


def test_epochs_and_steps_make_the_same_run(whole, tmp_path):
    train(tmp_path / "run", by_epochs=False)
    assert compare(whole, tmp_path / "run").identical


def test_what_is_measured_after_an_epoch_counts_its_steps(whole):
    assert open_record(whole).evals["step"].to_pylist() == [4, 8, 12]
    assert open_record(whole).trace["lr"].to_pylist() == [0.1] * 4 + [0.05] * 4 + [0.025] * 4


@pytest.mark.parametrize("stop_at", [0, 3, 5, 7, 11])
def test_resume_inside_or_at_the_end_of_an_epoch_is_bit_identical(whole, tmp_path, stop_at):
    with pytest.raises(Stopped):
        train(tmp_path / "run", stop_at=stop_at)
    train(tmp_path / "run")
    assert compare(whole, tmp_path / "run").identical


def test_run_that_left_early_is_finished_there(tmp_path):
    assert train(tmp_path / "run", breaks_after=2) == [0, 1]
    assert open_record(tmp_path / "run").meta.steps == 8


def test_seed_among_the_params_is_told_once(whole):
    meta = open_record(whole).meta
    assert (meta.seed, meta.params) == (SEED, {"lr": 0.1})


@pytest.mark.parametrize("shuffle", [True, False])
def test_loader_gives_the_documented_order_with_its_own_workers_and_collation(shuffle):
    loader = DataLoader(range(SAMPLES), BATCH, shuffle=shuffle, collate_fn=lambda ids: [10 * i for i in ids], timeout=0)
    batches = list(seeded(loader, SEED))
    assert [i // 10 for batch in batches for i in batch] == epoch_order(SEED, 0, SAMPLES)[: 4 * BATCH].tolist()


def test_ranks_share_a_batch(tmp_path):
    parts = [list(seeded(DataLoader(range(SAMPLES), BATCH), SEED, rank, 2)) for rank in (0, 1)]
    whole = list(seeded(DataLoader(range(SAMPLES), 2 * BATCH), SEED))
    assert [torch.cat(pair).tolist() for pair in zip(*parts, strict=True)] == [batch.tolist() for batch in whole]


def test_loader_in_seeded_order_stays_as_it_is():
    loader = DataLoader(range(SAMPLES), batch_sampler=SeededBatches(SAMPLES, BATCH, 1))
    assert seeded(loader, SEED) is loader


class Endless(IterableDataset):
    """Examples without numbers."""

    def __iter__(self):
        return iter(range(9))


@pytest.mark.parametrize(
    ("loader", "words"),
    [
        ([1, 2], "is a list"),
        (DataLoader(Endless(), 2), "no batches of numbered examples"),
        (DataLoader(range(9), batch_size=None), "no batches of numbered examples"),
        (DataLoader(range(9), 2, sampler=WeightedRandomSampler([1.0] * 9, 9)), "draws by a WeightedRandomSampler"),
    ],
)
def test_loader_that_cannot_follow_the_seed_is_refused(loader, words):
    with pytest.raises(DataError, match=words):
        seeded(loader, SEED)
