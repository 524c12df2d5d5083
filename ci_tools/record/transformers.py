"""Records a run of Hugging Face's Trainer: `record(trainer, run)` before `trainer.train()`.

    with Recorder("runs/seed-1", params=params, seed=1) as run:
        trainer = Trainer(model=build(), args=TrainingArguments(max_steps=500), train_dataset=rows)
        record(trainer, run)
        trainer.train()
        run.finish(metrics)

A callback alone would not do: this Trainer tells its callbacks neither the loss of a step nor its gradients before
clipping, and draws the order of the samples itself. Transformers is imported when `record` is called.
"""

from typing import Any

import torch

from ci_tools.errors import ConfigError
from ci_tools.record.hosted import HostedRun, SampleOrder
from ci_tools.record.recorder import Recorder
from ci_tools.repro.order import SeededBatches

_PREFIX = "eval_"
_NO_METRICS = ("runtime", "samples_per_second", "steps_per_second", "jit_compilation_time")
"""Times, which differ between equal runs."""


def record(trainer: Any, run: Recorder, *, best: str = "") -> None:
    """Let `trainer` write the record of `run`, and train in the run's order.

    Args:
        trainer: a Trainer of one process that has not trained yet.
        run: inside its `with`; call `run.finish` after `train`.
        best: evaluated metric, without `eval_` (higher is better), by which the released checkpoint is chosen.

    Raises:
        ConfigError: several devices train, or in fp16, or the training data is a stream.
        DataError: the training data does not fill one batch.
    """
    from transformers import TrainerCallback

    args = trainer.args
    if args.world_size > 1 or args.n_gpu > 1:
        rule, fix = "a framework's loop is recorded on one", "show it one: CUDA_VISIBLE_DEVICES=0"
        raise ConfigError("several devices train", where=run.path, rule=rule, fix=fix)
    if args.fp16:
        rule = "this Trainer shows its gradients only while they are scaled"
        raise ConfigError("fp16 cannot be recorded", where=run.path, rule=rule, fix="TrainingArguments(bf16=True)")
    try:
        samples = len(trainer.train_dataset)
    except TypeError:
        rule, fix = "a run resumes only where each example has a number", "hand the Trainer a map-style data set"
        raise ConfigError("the training data has no length", where=run.path, rule=rule, fix=fix) from None
    parts = args.gradient_accumulation_steps
    batches = SeededBatches(samples, args.train_batch_size * parts, run.seed)
    hooks = type("Recording", (_Hooks, TrainerCallback), {})(trainer, run, batches, best)
    compute = trainer.training_step

    def training_step(*arguments: Any, **options: Any) -> torch.Tensor:
        loss: torch.Tensor = compute(*arguments, **options)
        hooks.on_part(loss)
        return loss

    trainer.training_step = training_step
    trainer._get_train_sampler = lambda dataset=None: SampleOrder(batches)
    trainer.add_callback(hooks)


class _Hooks:
    """What the callback does; `TrainerCallback` stands behind it and does nothing for all other events."""

    def __init__(self, trainer: Any, run: Recorder, batches: SeededBatches, best: str) -> None:
        self._trainer, self._run, self._batches, self._best = trainer, run, batches, best

    def on_train_begin(self, args: Any, state: Any, control: Any, **of: Any) -> None:
        """Model, optimizer and schedule are in place, no batch was fetched yet."""
        if state.global_step:
            fix = "call trainer.train() without resume_from_checkpoint: the record resumes by itself"
            raise ConfigError("the Trainer resumed from a checkpoint of its own", where=self._run.path, fix=fix)
        self._parts = args.gradient_accumulation_steps
        drawn = getattr(of["train_dataloader"], "batch_sampler", None)
        order = getattr(getattr(drawn, "sampler", None), "batches", None)
        if order is not self._batches or getattr(drawn, "batch_size", 0) * self._parts != self._batches.batch_size:
            raise ConfigError(
                "the training loader takes its batches from elsewhere",
                where=self._run.path,
                rule="the record says which examples each step saw",
                fix="leave get_train_dataloader and the batch size as they were when `record` was called",
            )
        self._hosted = HostedRun(self._run, self._batches, parts=self._parts, total=state.max_steps)
        progress = _Progress(self._trainer)
        self._hosted.begin(of["model"], of["optimizer"], schedule=of["lr_scheduler"], trainer=progress)

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **of: Any) -> None:
        """The loader starts another pass."""
        self._hosted.seek()

    def on_step_begin(self, args: Any, state: Any, control: Any, **of: Any) -> None:
        """The batches of a step were fetched."""
        self._hosted.step()
        self._done = 0

    def on_part(self, loss: torch.Tensor) -> None:
        """The gradients of a part were added; of the last, before clipping."""
        self._hosted.backward(loss)
        self._done += 1
        if self._done == self._parts:
            self._hosted.gradients(self._trainer.args.max_grad_norm or 0.0)

    def on_step_end(self, args: Any, state: Any, control: Any, **of: Any) -> None:
        """The Trainer counts its epochs from where it resumed."""
        state.epoch = state.global_step / len(self._batches)

    def on_evaluate(self, args: Any, state: Any, control: Any, **of: Any) -> None:
        """Metrics of the evaluation data."""
        told = {name.removeprefix(_PREFIX): value for name, value in of["metrics"].items() if name.startswith(_PREFIX)}
        figures = {name: float(value) for name, value in told.items() if not name.endswith(_NO_METRICS)}
        self._hosted.evaluated(figures, self._best)

    def on_train_end(self, args: Any, state: Any, control: Any, **of: Any) -> None:
        """The loop was left."""
        self._hosted.end()


class _Progress:
    """Where the Trainer stands: its counters and log, and the counters of callbacks that keep any."""

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer

    def state_dict(self) -> dict[str, Any]:
        """As the Trainer's own checkpoints hold it."""
        return {
            "state": dict(vars(self._trainer.state)),
            "callbacks": {k: v["attributes"] for k, v in self._exported()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of `state_dict`."""
        vars(self._trainer.state).update(state["state"])
        # The sum that the Trainer logs as a mean starts anew here.
        self._trainer._globalstep_last_logged = self._trainer.state.global_step
        for one in self._trainer.callback_handler.callbacks:
            vars(one).update(state["callbacks"].get(type(one).__name__, {}))

    def _exported(self) -> list[tuple[str, dict[str, Any]]]:
        found = self._trainer.callback_handler.callbacks
        return [(type(one).__name__, one.state()) for one in found if hasattr(one, "state")]
