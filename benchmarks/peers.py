"""Other ways to monitor the same step. Needs .venv-bench (requirements.txt)."""

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
import wandb
from greenlet import getcurrent, greenlet
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities import grad_norm

from benchmarks.harness import Steps
from benchmarks.reference import Hooks, build, shuffled_batches
from model.network import Batch, RiskNetwork
from model.params import Params


class WandbWatch(Hooks):
    """`wandb.watch(model, log="all")`, offline, with the loss logged at every step."""

    def __init__(self, model: RiskNetwork, folder: Path, log_freq: int) -> None:
        super().__init__(model)
        folder.mkdir(exist_ok=True)
        # The hooks of `watch` write to the process's one global run, so all arms share it.
        settings = wandb.Settings(silent=True, console="off")
        self._run = wandb.run or wandb.init(mode="offline", project="benchmark", dir=folder, settings=settings)
        self._run.watch(model, log="all", log_freq=log_freq)

    def after_step(self, loss: torch.Tensor) -> None:
        """The histograms that the hooks gathered travel with this call."""
        self._run.log({"loss": loss.item()})

    def close(self) -> None:
        """End the W&B run."""
        self._run.finish()


class Module(pl.LightningModule):
    """The reference step as Lightning wants it; with `norms`, every layer's gradient norm is logged."""

    def __init__(self, params: Params, device: torch.device, *, norms: bool) -> None:
        super().__init__()
        self.p, self.norms = params.train, norms
        self.model, self._made = build(params, device)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The reference optimizer."""
        return self._made

    def training_step(self, batch: Batch, _: int) -> torch.Tensor:
        """The reference loss."""
        loss = self.model.loss(batch, self.p.positive_weight)
        if self.norms:
            self.log("loss", loss)
        return loss

    def on_before_optimizer_step(self, _: torch.optim.Optimizer) -> None:
        """Lightning's documented way to log gradient norms; before clipping."""
        if self.norms:
            self.log_dict(grad_norm(self.model, norm_type=2))


class Pause(pl.Callback):
    """Hands control back after each step."""

    def __init__(self, pause: Callable[[], None]) -> None:
        self.pause = pause

    def on_train_batch_end(self, *_: Any) -> None:
        """The step is complete."""
        self.pause()


def lightning_steps(params: Params, rows: Batch, folder: Path, *, norms: bool) -> Steps:
    """The reference step inside a Lightning Trainer, one per `next`; `norms` logs to CSV at every step."""

    def fit(pause: Callable[[], None]) -> None:
        trainer = quiet_trainer(
            folder,
            rows.label_B.device,
            max_epochs=-1,
            logger=CSVLogger(folder) if norms else False,
            log_every_n_steps=1,
            gradient_clip_val=params.train.clip_norm or None,
            enable_checkpointing=False,
            callbacks=[Pause(pause)],
        )
        module = Module(params, rows.label_B.device, norms=norms)
        trainer.fit(module, shuffled_batches(rows, params.train.batch_size))

    return paused(fit)


def quiet_trainer(folder: Path, device: torch.device, **options: Any) -> pl.Trainer:
    """A Trainer on one device that prints nothing."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    return pl.Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=1,
        default_root_dir=folder,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )


def paused(run: Callable[[Callable[[], None]], None]) -> Steps:
    """Make a generator of a function that owns its loop and calls `pause()` once per step.

    A greenlet, not a thread: the loop stays on the thread, and so on the OpenMP pool, of the other arms.
    """
    child = greenlet(run)
    child.switch(lambda: child.parent.switch())
    try:
        while not child.dead:
            yield
            child.parent = getcurrent()
            child.switch()
    finally:
        if not child.dead:
            child.throw()
