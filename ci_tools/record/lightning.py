"""Records a run of Lightning's Trainer: `Trainer(callbacks=[recording(run, batches)])`.

    with Recorder("runs/seed-1", params=params, seed=1) as run:
        batches = SeededBatches(len(rows), batch_size=32, seed=1)
        trainer = Trainer(max_steps=500, callbacks=[recording(run, batches)])
        trainer.fit(Module(), DataLoader(rows, batch_sampler=batches))
        run.finish(metrics)

Lightning is imported when `recording` is called.
"""

import importlib
import signal
import sys
import threading
from typing import Any

import torch

from ci_tools.errors import ConfigError
from ci_tools.record.hosted import HostedRun
from ci_tools.record.recorder import Recorder
from ci_tools.repro.order import SeededBatches


def recording(run: Recorder, batches: SeededBatches, *, prefix: str = "val_", best: str = "") -> Any:
    """A Lightning callback that writes the record of `run`.

    Args:
        run: inside its `with`; call `run.finish` after `fit`.
        batches: whole batches, one per optimizer step. The training loader takes its order from the same object: as
            `batch_sampler=batches`, or with `accumulate_grad_batches` as `sampler=SampleOrder(batches)`.
        prefix: logged metrics of this prefix are recorded after each validation, without it.
        best: name of one of these (higher is better) by which the released checkpoint is chosen.
    """
    # Who imports it by its older name may have no other.
    older = "pytorch_lightning" in sys.modules and "lightning" not in sys.modules
    callback = importlib.import_module("pytorch_lightning" if older else "lightning.pytorch").Callback
    return type("Recording", (_Hooks, callback), {})(run, batches, prefix, best)


class _Hooks:
    """What the callback does; Lightning's `Callback` stands behind it and does nothing for all other hooks."""

    def __init__(self, run: Recorder, batches: SeededBatches, prefix: str, best: str) -> None:
        self._run, self._batches, self._prefix, self._best = run, batches, prefix, best

    def on_fit_start(self, trainer: Any, module: Any) -> None:
        """Model and optimizer are in place, no batch was fetched yet."""
        if not module.automatic_optimization or len(trainer.optimizers) != 1:
            rule, fix = "to be recorded, Lightning must step one optimizer by itself", "take a loop of your own"
            raise ConfigError(f"{type(module).__name__} steps otherwise", where=self._run.path, rule=rule, fix=fix)
        if trainer.world_size != 1:
            raise ConfigError(f"{trainer.world_size} processes train", where=self._run.path, fix="Trainer(devices=1)")
        planned = [trainer.max_steps, trainer.max_epochs * len(self._batches)]
        total = min((steps for steps in planned if steps >= 0), default=0)
        if not total:
            raise ConfigError("training has no end", where=self._run.path, fix="Trainer(max_steps=…)")
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        self._scale = scaler.get_scale if scaler is not None else lambda: 1.0
        self._hosted = HostedRun(self._run, self._batches, parts=trainer.accumulate_grad_batches, total=total)
        stateful = {"trainer": _Progress(trainer)} | ({"scaler": scaler} if scaler is not None else {})
        self._hosted.begin(module, trainer.optimizers[0], **stateful)
        self._on_term = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: Any, module: Any) -> None:
        """The training loader is known."""
        loader, parts = trainer.train_dataloader, self._hosted.parts
        order = [getattr(loader, "batch_sampler", None), getattr(getattr(loader, "sampler", None), "batches", None)]
        if self._batches not in order or trainer.num_training_batches != len(self._batches) * parts:
            raise ConfigError(
                "the training loader takes its batches from elsewhere",
                where=self._run.path,
                rule=f"an epoch is {len(self._batches)} batches of {self._batches.batch_size}, each in {parts} parts",
                fix="DataLoader(…, batch_sampler=batches), or sampler=SampleOrder(batches) to accumulate gradients",
            )
        if threading.current_thread() is threading.main_thread():
            # Lightning would end the process before the step is complete and saved.
            signal.signal(signal.SIGTERM, self._on_term)

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        """The loader starts another pass."""
        self._hosted.seek()

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        """A part begins, perhaps the first of a step."""
        if batch_idx % self._hosted.parts == 0:
            self._hosted.step()

    def on_before_backward(self, trainer: Any, module: Any, loss: torch.Tensor) -> None:
        """The loss of a part, times its share, times the loss scale of fp16."""
        self._part_loss = loss.detach() / self._scale()

    def on_after_backward(self, trainer: Any, module: Any) -> None:
        """The gradients of a part were added."""
        self._hosted.backward(self._part_loss)

    def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: Any) -> None:
        """All gradients are there, unscaled, before clipping."""
        by_norm = trainer.gradient_clip_algorithm in (None, "norm")
        self._hosted.gradients((trainer.gradient_clip_val or 0.0) if by_norm else 0.0)

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        """What the module logged in validation."""
        logged = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith(self._prefix)}
        if not trainer.sanity_checking:
            figures = {name.removeprefix(self._prefix): value for name, value in logged.items()}
            self._hosted.evaluated(figures, self._best)

    def on_train_end(self, trainer: Any, module: Any) -> None:
        """The loop was left."""
        self._hosted.end()


class _Progress:
    """Where Lightning stands: loops, schedules, other callbacks."""

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer

    def state_dict(self) -> dict[str, Any]:
        """As Lightning's own checkpoints hold it."""
        loops = self._trainer.fit_loop.state_dict()
        batches = loops["epoch_loop.batch_progress"]
        for progress in (batches["total"], batches["current"]):
            progress["ready"] = progress["started"]  # the batch that was just fetched is fetched again
        batches["is_last_batch"] = False
        return {
            "loops": loops,
            "schedules": [one.scheduler.state_dict() for one in self._trainer.lr_scheduler_configs],
            "callbacks": {one.state_key: one.state_dict() for one in self._trainer.callbacks},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of `state_dict`."""
        if state["loops"]["epoch_loop.batch_progress"]["total"]["started"]:
            self._trainer.fit_loop.load_state_dict(state["loops"])
        for one, schedule in zip(self._trainer.lr_scheduler_configs, state["schedules"], strict=True):
            one.scheduler.load_state_dict(schedule)
        for one in self._trainer.callbacks:
            one.load_state_dict(state["callbacks"].get(one.state_key, {}))
