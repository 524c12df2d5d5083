"""A run whose loop belongs to a framework: the recorder's steps, taken one call at a time.

The framework fetches its own batches, in the order of `SeededBatches`; the recorder only follows which ones they are.
A step is one optimizer step. It may consist of several parts, whose gradients add up: gradient accumulation.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch.utils.data import Sampler

from ci_tools.errors import ConfigError, RecordError
from ci_tools.record.recorder import Recorder
from ci_tools.repro import determinism
from ci_tools.repro.order import SeededBatches
from ci_tools.repro.segment import current_segment


class SampleOrder(Sampler[int]):
    """The samples of seeded batches one by one: the `sampler` of a `DataLoader` that puts batches together itself.

    Law: with `batch_size=batches.batch_size // n`, n batches of that loader are one of `batches`.
    """

    def __init__(self, batches: SeededBatches) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches) * self.batches.batch_size

    def __iter__(self) -> Iterator[int]:
        for ids in self.batches:
            yield from ids.tolist()


class HostedRun:
    """The steps of a framework's loop, in the order begin, (step, backward…, gradients, perhaps evaluated)…, end.

    Args:
        run: inside its `with`.
        batches: whole batches, one per optimizer step; the framework's loader follows the same object.
        parts: equal parts of a batch that the framework computes one after another.
        total: optimizer steps of the whole run.
    """

    def __init__(self, run: Recorder, batches: SeededBatches, *, parts: int, total: int) -> None:
        self.run, self.batches, self.parts, self.total = run, batches, parts, total
        self._loss: torch.Tensor | None = None
        self._training = False

    def begin(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer, **stateful: Any) -> None:
        """Watch the model, and go to where an unfinished record stopped.

        Raises:
            ConfigError: several processes train, or a diagnosis wants to choose the batches.
        """
        if self.run.world > 1 or self.batches.world > 1:
            rule, fix = "a framework's loop is recorded in one", "train in one, or take a loop of your own"
            raise ConfigError("several processes train", where=self.run.path, rule=rule, fix=fix)
        segment = current_segment()
        if segment is not None and segment.change is not None:
            rule = "a diagnosis exchanges batches, and here the framework fetches them"
            fix = "take a loop of your own"
            raise ConfigError("this run cannot be diagnosed", where=self.run.path, rule=rule, fix=fix)
        self.run.watch(model, optimizer, **stateful)
        self._begun = self.run.step
        self._generators: dict[str, Any] | None = determinism.rng_state()
        # An order of its own: the framework's loader reads ahead.
        own = SeededBatches(self.batches.samples, self.batches.batch_size, self.batches.seed)
        self._steps = self.run.steps(_Pace(own, self.parts), self.total)
        self._training = True
        self.seek()

    def seek(self) -> None:
        """Let the loader's next pass start at the next step's batch; it is empty behind the last step."""
        epoch, cursor = divmod(self._begun, len(self.batches))
        self.batches.seek(epoch, cursor if self._begun < self.total else len(self.batches))

    def step(self) -> None:
        """The framework begins a step: the one before it ends, is saved when a checkpoint is due, and may be the last.

        Raises:
            SystemExit: the run was asked to stop; its state is saved.
            TrainingFailed: the run diverged.
            ConfigError: no further step was planned.
        """
        begun = next(self._steps, None)
        if begun is None:
            rule = f"{self.total} steps were planned when it began"
            fix = "leave the number of epochs and steps alone while it trains"
            raise ConfigError("the framework goes on", where=self.run.path, rule=rule, fix=fix)
        if self._generators is not None:
            # What a framework draws before its first step, it draws again where it resumes.
            determinism.set_rng_state(self._generators)
            self._generators = None
        self._begun, self._loss = begun[0] + 1, None
        self._parts = self.run.micro_batches(begun[1], self.parts)
        next(self._parts)

    def backward(self, loss: torch.Tensor) -> None:
        """The gradients of a part were added; `loss` is its scalar share of the step's loss."""
        self._loss = loss.detach() if self._loss is None else self._loss + loss.detach()
        next(self._parts, None)

    def gradients(self, clip_norm: float) -> None:
        """The step's gradients are complete, unscaled and not yet clipped to `clip_norm` (0: never) by the framework.

        Raises:
            RecordError: no loss was computed in this step.
        """
        if self._loss is None:
            fix = "return one from each training step"
            raise RecordError(f"step {self.run.step} has no loss", where=self.run.path, fix=fix)
        self.run.record(self._loss, clip_norm=clip_norm, clips=False)

    def evaluated(self, metrics: Mapping[str, float], best: str) -> None:
        """The validation rows were scored; what is scored after training is no part of the run's course."""
        if self._training and metrics:
            self.run.evaluated("validation", metrics, best=best if best in metrics else "")

    def end(self) -> None:
        """The framework left its loop; where that was before the last step, a resumed run does not go on."""
        self._training = False
        if self._begun == self.total:
            next(self._steps, None)
        else:
            self._steps.close()


class _Whole(NamedTuple):
    """Stands for a batch that the recorder does not get to see; one element per part."""

    part_P: torch.Tensor


class _Pace:
    """A loader for `Recorder.steps` whose batches somebody else fetches."""

    def __init__(self, batch_sampler: SeededBatches, parts: int) -> None:
        self.batch_sampler, self._parts = batch_sampler, parts

    def __iter__(self) -> Iterator[_Whole]:
        for _ in self.batch_sampler:
            yield _Whole(torch.arange(self._parts))
