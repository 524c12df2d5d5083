"""What docs/adopt.md says of a loop is so."""

import re
from argparse import Namespace
from pathlib import Path

import torch
from torch.nn.functional import mse_loss
from torch.utils.data import DataLoader, TensorDataset

from ci_tools.record import Recorder, open_record

GUIDE = (Path(__file__).parents[2] / "docs/adopt.md").read_text()


def test_schedule_of_the_guide_ends_with_the_last_step(tmp_path):
    (block,) = re.findall(r"^    optimizer = .*\n(?:    .*\n)+", GUIDE, re.MULTILINE)
    args = Namespace(epochs=3, batch_size=8, lr=0.1)
    train_set = TensorDataset(torch.ones(29, 2), torch.ones(29, 1))
    with Recorder(tmp_path / "seed-1", params=vars(args), seed=1) as run:
        model = torch.nn.Linear(2, 1)
        names = {"torch": torch, "model": model, "args": args, "train_set": train_set, "run": run}
        exec(re.sub(r"^    ", "", block, flags=re.MULTILINE), names)
        for _, batches in run.epochs(DataLoader(train_set, batch_size=8), args.epochs):
            for x, y in batches:
                assert len(x) == 8, "no incomplete batch"
                loss = mse_loss(model(x), y)
                names["optimizer"].zero_grad()
                loss.backward()
                run.record(loss)
                names["optimizer"].step()
                names["schedule"].step()
        run.finish({"loss": loss.item()})
    steps = open_record(tmp_path / "seed-1").trace.num_rows
    assert steps == names["schedule"].last_epoch == names["schedule"].total_steps == 9
