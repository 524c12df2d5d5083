"""The whole training run as a Lightning user would write it: checkpoints, best by validation, loss to CSV."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader

from benchmarks.peers import quiet_trainer
from benchmarks.train import SEED, Figures, measure, test_figures
from ci_tools.repro.determinism import seed_everything
from model.data import load_schema, load_split
from model.network import Batch, RiskNetwork
from model.optim import Schedule, build_optimizer
from model.params import Params
from model.train import pick_device, to_batch


class Batches:
    """Rows in a given order; one epoch is the whole run."""

    def __init__(self, samples: Batch, order: list[torch.Tensor]) -> None:
        self.samples, self.order = samples, order

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[Batch]:
        for ids in self.order:
            index = ids.to(self.samples.label_B.device)
            yield Batch(*(column.index_select(0, index) for column in self.samples))


class Module(pl.LightningModule):
    """Reference model, optimizer, schedule and validation metrics."""

    def __init__(self, params: Params, schema: dict[str, Any]) -> None:
        super().__init__()
        self.params = params
        self.model = RiskNetwork(params.network, schema)
        self.scores: list[torch.Tensor] = []
        self.labels: list[torch.Tensor] = []

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The reference optimizer."""
        optimizer = build_optimizer(self.model, self.params.train)
        self.schedule = Schedule(optimizer, self.params.train)
        return optimizer

    def on_train_batch_start(self, batch: Batch, step: int) -> None:
        """Set the step's learning rate."""
        self.schedule.apply(step)

    def training_step(self, batch: Batch, _: int) -> torch.Tensor:
        """The reference loss."""
        loss = self.model.loss(batch, self.params.train.positive_weight)
        self.log("loss", loss)
        return loss

    def validation_step(self, batch: Batch, _: int) -> None:
        """Collect scores."""
        self.scores.append(self.model(batch.numeric_BF, batch.categorical_BC).sigmoid())
        self.labels.append(batch.label_B)

    def on_validation_epoch_end(self) -> None:
        """The same metrics as model/train.py."""
        label, scores = (torch.cat(parts).cpu().numpy() for parts in (self.labels, self.scores))
        self.log_dict(measure(self.params, label, scores.astype(np.float32)))
        self.scores.clear()
        self.labels.clear()


def run(params: Params, folder: Path, order: list[torch.Tensor]) -> Figures:
    """One run; metrics of the test split under the best weights."""
    p, data = params.train, folder / "data"
    device, schema = pick_device(p), load_schema(data)
    rows, validation = load_split(data, "train"), load_split(data, "validation")
    seed_everything(SEED)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        best = ModelCheckpoint(scratch, "best", monitor="average_precision", mode="max")
        regular = ModelCheckpoint(scratch, "{step}", every_n_train_steps=p.checkpoint_every, save_top_k=-1)
        trainer = quiet_trainer(
            Path(scratch),
            device,
            max_steps=p.steps,
            gradient_clip_val=p.clip_norm or None,
            val_check_interval=p.evaluate_every,
            num_sanity_val_steps=0,
            callbacks=[best, regular],
            logger=CSVLogger(scratch),
            log_every_n_steps=1,
        )
        module = Module(params, schema)
        columns = (column.split(8192) for column in to_batch(validation, device))
        parts = [Batch(*part) for part in zip(*columns, strict=True)]
        trainer.fit(module, Batches(to_batch(rows, device), order), DataLoader(parts, batch_size=None))
        module.load_state_dict(torch.load(best.best_model_path, weights_only=True)["state_dict"])
        return test_figures(params, module.model.to(device), data, device)
