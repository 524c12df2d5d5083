"""The recorder: wraps a training loop that stays the user's, and leaves a run record behind.

with Recorder("runs/seed-1", params=params, seed=1) as run:
    run.watch(model, optimizer)
    for step, batch in run.steps(loader, total=500):
        loss = model.loss(batch)
        loss.backward()
        run.record(loss)
        optimizer.step(); optimizer.zero_grad(set_to_none=True)
        if run.due("evaluate"): run.evaluated("validation", metrics)
    run.finish(metrics)
"""

import itertools
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

import torch
from pydantic import BaseModel

from ci_tools import config
from ci_tools.console import progress
from ci_tools.errors import INTERRUPTED, PREEMPTED, ConfigError, RecordError, SwitchbackError, TrainingFailed
from ci_tools.files import write_atomic
from ci_tools.record import energy, files, provenance, ranks, resume, schema, shadow
from ci_tools.record.ending import NOT_FINISHED, ending
from ci_tools.record.intervention import Intervention
from ci_tools.record.loader import Loader, by_epochs, seeded, start_epoch
from ci_tools.record.lock import RecordLock
from ci_tools.record.schema import Layer, Recovery, Resume
from ci_tools.record.stop import StopSignals
from ci_tools.record.tape import Limits, Onset, Tape
from ci_tools.repro import checkpoint, determinism, fingerprint, manifest
from ci_tools.repro.order import SeededBatches
from ci_tools.repro.segment import Change, Segment, current_segment

B = TypeVar("B", bound=tuple[torch.Tensor, ...])


class Stateful(Protocol):
    """Anything whose state must survive a crash: schedules, scalers, early stopping."""

    def state_dict(self) -> dict[str, Any]:
        """Plain values and tensors."""

    def load_state_dict(self, state: dict[str, Any], /) -> Any:
        """Inverse of `state_dict`."""


class Recorder:
    """Seeds, watches, records, checkpoints and resumes one training run.

    Args:
        path: folder of the record.
        params: the whole experiment; a change between crash and resume is refused. An entry `seed` is left to `seed`.
        seed: of this run.
        data: files that the run reads; their SHA-256 goes into the record.
        threads: CPU threads of one operation.
        evaluate_every, checkpoint_every, probe_every, shadow_every: cadences, in optimizer steps; no shadows at 0.
        keep: newest checkpoints kept, besides the best.
        patience: consecutive bad steps (non-finite loss or gradient, or loss above the limit) that mean divergence.
        loss_limit: loss that counts as bad from step `limit_after` on, in the loss's own unit.
        max_recoveries: returns to a good checkpoint before a diverged run fails.
        precision: float32, bf16 or fp16: what the forward pass computes in.
        null_loss: loss of the best constant answer, if known: what a model that learned nothing reaches.

    Raises:
        RecordLocked: another process writes this record.
        RecordMismatch: an unfinished record with other params, data, code or layers stands there.
        RecordError: the folder holds something else, or the disk refuses.
        TrainingFailed: the run diverged more often than `max_recoveries`.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        params: BaseModel | Mapping[str, Any],
        seed: int,
        data: Iterable[str | Path] = (),
        threads: int = 1,
        evaluate_every: int = 100,
        checkpoint_every: int = 100,
        probe_every: int = 100,
        shadow_every: int = 0,
        keep: int = 3,
        patience: int = 8,
        loss_limit: float = float("inf"),
        limit_after: int = 0,
        max_recoveries: int = 0,
        precision: str = "float32",
        null_loss: float | None = None,
    ) -> None:
        if not 0 <= seed < 2**32:
            raise ConfigError(f"seed must be in [0, 2**32), got {seed}", where=path)
        self._segment: Segment | None = current_segment()
        self.path = Path(self._segment.record if self._segment else path)
        self.seed = seed
        self.step = 0
        """Optimizer steps completed."""
        self._params = {k: v for k, v in provenance.plain(params).items() if (k, v) != ("seed", seed)}
        self._data, self._threads, self._keep = list(data), threads, keep
        self._every = {"evaluate": evaluate_every, "checkpoint": checkpoint_every, "probe": probe_every}
        self._every["shadow"] = shadow_every
        if precision not in schema.UNIT_ROUNDOFF:
            rule = f"must be one of {', '.join(schema.UNIT_ROUNDOFF)}"
            raise ConfigError(f"precision {rule}, got {precision!r}", where=path)
        self._facts = {"precision": precision, "null_loss": null_loss}
        self._diagnosing = self._segment is not None and self._segment.change is not None
        self._intervention = Intervention((self._segment and self._segment.change) or Change())
        self._limits = Limits(sys.maxsize if self._diagnosing else patience, loss_limit, limit_after)
        self._max_recoveries = max_recoveries
        self._total = 0
        self._steps_taken = 0
        self._open_step = False
        self._best: tuple[int, float] | None = None
        self._new_best = False
        self._saved_step = -1
        self._left = False
        self._watching = self._finished = False
        self._lock = RecordLock(self.path)
        self._signals = StopSignals()

    # -- life ---------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self.rank, self.world = ranks.rank_and_world()
        if self.rank == 0:
            self._lock.acquire()
        try:
            determinism.make_deterministic(self._threads)
            determinism.seed_everything(self.seed + 1_000_003 * self.rank)
            self.meta = provenance.describe(self._params, self.seed, self._threads, self._data, self._every)
            self._note(**self._facts)
        except BaseException:
            self._lock.release()
            raise
        self._signals.install()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._signals.restore()
        try:
            if self._watching:  # otherwise the record on disk is not this run's
                self._close(error)
        finally:
            self._lock.release()
        if error is None and not self._finished:
            raise RecordError(NOT_FINISHED, where=self.path, fix="call it after the loop")

    def watch(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer, **stateful: Stateful) -> None:
        """Name the layers; continue from the newest good checkpoint of an unfinished record, else start afresh.

        Args:
            model: the network, plain or wrapped in DistributedDataParallel.
            optimizer: its optimizer.
            stateful: schedule, scaler, early stopping: whatever else must survive a crash.
        """
        self._model = model.module if isinstance(model, torch.nn.parallel.DistributedDataParallel) else model
        self._optimizer, self._stateful = optimizer, stateful
        named = [(name, p) for name, p in self._model.named_parameters() if p.requires_grad]
        if not named:
            raise RecordError("the model has no parameter that requires a gradient", where=self.path)
        code = provenance.code_digests(provenance.project_root(Path.cwd()))
        self.meta = self.meta.model_copy(
            update={
                "layers": [Layer(name=name, shape=tuple(p.shape)) for name, p in named],
                "initial_weights": {k: checkpoint.tensor_digest(v) for k, v in self._model.state_dict().items()},
                "code": code,
                "code_digest": config.digest(code),
            }
        )
        self._intervention.prepare(self._model, optimizer)
        self._energy = energy.Meter(energy.gpus(p for _, p in named))
        self._tape = Tape(self.path, [p for _, p in named], writes=self.rank == 0, limits=self._limits)
        if not self._resume():
            self._start()
        self._watching = True

    def finish(self, metrics: Mapping[str, float], scores: Mapping[str, Any] | None = None) -> None:
        """Close the record of a run that went to its end.

        Args:
            metrics: final figures, for metrics.json.
            scores: per test example, column name to array [N]: id, label, score, then slice columns.
        """
        self._end_loop()
        self._tape.gather_margins()
        if self.rank == 0:
            self._tape.finish(self.step, metrics, scores)
        self._finished = True

    # -- the loop -----------------------------------------------------------------------------------------------

    def steps(
        self, loader: Loader[Any], total: int, recover: Callable[[], None] | None = None
    ) -> Generator[tuple[int, Any]]:
        """Yield (step, batch) up to step `total`, from wherever the run stands.

        Args:
            loader: batches in seeded order.
            total: optimizer steps of the whole run.
            recover: called after each return to a good checkpoint; lowers the learning rate, for instance.
        """
        sampler: SeededBatches = loader.batch_sampler
        self._total, per_epoch = total, len(sampler)
        self._tape.follow(sampler)
        self._note(total_steps=total, batch_size=sampler.batch_size, steps_per_epoch=per_epoch)
        self._write_meta()
        self._intervention.begin(loader, self.seed, self.step)
        with progress(total, f"train {self.path.name}") if self.rank == 0 else nullcontext() as bar:
            while self.step < total and not self._left:
                epoch, cursor = divmod(self.step, per_epoch)
                sampler.seek(epoch, cursor)
                self._tape.fetching()
                for batch in start_epoch(loader, self.seed, epoch):
                    cursor = self.step % per_epoch
                    self._tape.next_batch(epoch, self.step, cursor)
                    self._open_step = True
                    try:
                        with self._intervention.computing():
                            yield self.step, self._intervention.batch(self.step, batch)
                    except GeneratorExit:
                        self._left = True  # by `break`: a run that resumes behind it must not go on
                        raise
                    self._complete_step()
                    if bar is not None and self.step % 8 == 0:
                        bar.update(self.step, self._tape.status)
                    if self._tape.onset is not None:
                        self._return_to_good(self._tape.onset, recover)
                        break
                    self._stop_if_asked()
                    if self.step == total:
                        break
                    self._tape.fetching()

    def epochs(self, loader: Any, total: int, recover: Callable[[], None] | None = None) -> Iterator[tuple[int, Any]]:
        """`steps` for a loop over epochs: yield (epoch, its batches) up to epoch `total`. Takes a `DataLoader`, too."""
        ordered = seeded(loader, self.seed, self.rank, self.world)
        per_epoch = len(ordered.batch_sampler)
        return by_epochs(self.steps(ordered, total * per_epoch, recover), per_epoch)

    def micro_batches(self, batch: B, parts: int = 1) -> Iterator[tuple[B, float]]:
        """Split a batch of tensors [B, …] into `parts`, each with its share of the loss.

        At a probe step there are at least two parts: the gradients of the two halves give the gradient noise scale
        at no extra pass. Accumulate `(model.loss(part) * share).backward()`.
        """
        size = len(batch[0])
        probing = self._tape.probing
        parts = max(parts, 2) if probing and size > 1 else parts
        edges = [size * i // parts for i in range(parts + 1)]
        for i, (start, end) in enumerate(itertools.pairwise(edges)):
            yield type(batch)(*(column[start:end] for column in batch)), (end - start) / size
            if probing and i + 1 == parts // 2:
                scaler: Any = self._stateful.get("scaler")
                with self._intervention.measuring():
                    self._tape.half(end / size, scaler.get_scale() if scaler is not None else 1.0)

    def record(self, loss: torch.Tensor, *, clip_norm: float = 0.0, clips: bool = True) -> None:
        """Record the step: call after backward (and after unscaling) and before the optimizer step.

        Args:
            loss: scalar, on any device; it is not read here.
            clip_norm: largest total gradient norm, applied after measuring; 0 leaves the gradients alone.
            clips: whether to apply it; where a framework does, only the factor is recorded.
        """
        with self._intervention.measuring():
            self._tape.record(loss, float(self._optimizer.param_groups[0]["lr"]), clip_norm, clips=clips)

    def margins(self, margin_B: torch.Tensor) -> None:
        """Keep how clearly the model tells each example's own label from the others; call in every step, or never.

        Args:
            margin_B: per example of this process's batch, in its order: score of the label minus the best other score;
                for a regression minus the absolute error.
        """
        with self._intervention.measuring():
            self._tape.margins(margin_B)

    def shadow(self, loss: Callable[[Any, B], torch.Tensor], batch: B) -> None:
        """Measure how much of the gradient is rounding error; call when `due("shadow")`. A few hundred rows are enough.

        Args:
            loss: from a copy of the model, in float64 once, and a batch of its kind to the scalar loss.
            batch: tuple of tensors [B, …].
        """
        if self.rank == 0:
            measured = shadow.measure(self._model, loss, batch, self.meta.precision)
            self._tape.shadowed(self.step + 1 if self._open_step else self.step, measured)

    def due(self, what: str) -> bool:
        """Whether `what` ("evaluate", "checkpoint", "probe", "shadow") falls on the current step."""
        now = self.step + 1 if self._open_step else self.step
        every = 0 if self._diagnosing and what in ("checkpoint", "shadow") else self._every[what]
        return every > 0 and (now % every == 0 or (what in ("evaluate", "checkpoint") and now == self._total))

    def evaluated(self, split: str, metrics: Mapping[str, float], best: str = "", losses: Any = None) -> bool:
        """Record metrics of one split after the current step.

        Args:
            split: name of the rows that were scored.
            metrics: name to value.
            best: metric (higher is better) by which the released checkpoint is chosen.
            losses: loss of each example of the split, array [V] in an order that never changes; with them the gates
                tell overfitting from the noise of one evaluation. At most 4,096 of them are kept.

        Returns:
            Whether this is the best value of `best` so far.
        """
        now = self.step + 1 if self._open_step else self.step
        self._tape.evaluated(now, split, metrics, losses)
        if best and (self._best is None or metrics[best] > self._best[1]):
            self._best, self._new_best = (now, float(metrics[best])), True
            self._note(best_step=now, best_metric=best)
            return True
        return False

    def load_best(self) -> None:
        """Put the best checkpoint's weights into the model; call after the loop, before the final scoring."""
        self._end_loop()
        if self._best is not None:
            weights, _ = checkpoint.load(self._folder / manifest.checkpoint_name(self._best[0]))
            self._model.load_state_dict(weights)

    def checkpoint(self) -> None:
        """Save everything that decides the future of the run; returns before the disk is done."""
        self._tape.flush()
        if self._tape.onset is not None or self._diagnosing:
            return  # a diverging state is no place to come back to, nor is one that was tampered with
        generators = ranks.gather(determinism.rng_state())
        self._tape.gather_margins()
        if self.rank == 0:
            state = {
                "step": self.step,
                "left": self._left,
                "best": self._best,
                "best_step": self._best[0] if self._best else 0,
                "best_metric": self.meta.best_metric,
                "recoveries": [r.model_dump() for r in self.meta.recoveries],
                "optimizer": self._optimizer.state_dict(),
                "stateful": {name: part.state_dict() for name, part in self._stateful.items()},
                "generators": generators,
                "tape": self._tape.state_dict(),
            }
            self._writer.write(self.step, self._model.state_dict(), state, self._tape.rows, before=self._tape.sync)
        self._new_best, self._saved_step = False, self.step

    # -- inside -------------------------------------------------------------------------------------------------

    def _complete_step(self) -> None:
        if not self._open_step:
            return
        self._tape.end_step()
        self._open_step = False
        self.step += 1
        if self._new_best or self.due("checkpoint"):
            self.checkpoint()

    def _end_loop(self) -> None:
        """Close the last step and save where the loop ended, before anything puts other weights into the model."""
        self._complete_step()
        self._tape.flush()
        self._fail_if_diverged()
        if self._saved_step != self.step:
            self.checkpoint()
        if self._segment:
            raise SystemExit(0)
        self._writer.wait()
        ranks.barrier()

    def _return_to_good(self, onset: Onset, recover: Callable[[], None] | None) -> None:
        self._writer.wait()
        self._tape.flush()
        may_return = len(self.meta.recoveries) < self._max_recoveries
        good = ranks.decide(lambda: resume.drop_behind(self._folder, onset.step)) if may_return else None
        if recover is None or good is None:
            self._fail_if_diverged()
            return
        weights, state = checkpoint.load(good)
        recovery = Recovery(onset_step=onset.step, from_step=state["step"], reason=onset.reason)
        recoveries = [*self.meta.recoveries, recovery]
        self._load(weights, state)
        self._tape.begin_attempt(len(recoveries))
        self._note(recoveries=recoveries)
        self._write_meta()
        for _ in recoveries[len(state["recoveries"]) :]:  # all that this checkpoint does not know of yet
            recover()

    def _fail_if_diverged(self) -> None:
        onset = self._tape.onset
        if onset is not None:
            raise TrainingFailed(
                f"diverged at step {onset.step}: {onset.reason}",
                where=self.path,
                rule=f"{len(self.meta.recoveries)} of {self._max_recoveries} recoveries used",
                fix=f"`switchback diagnose {self.path}` looks for the cause",
            )

    def _stop_if_asked(self) -> None:
        self._steps_taken += 1
        if self._segment and self._steps_taken == self._segment.steps:
            self.checkpoint()
            raise SystemExit(0)
        if ranks.any_rank(self._signals.received != 0, often=self.step % 64 == 0):
            self.checkpoint()
            raise SystemExit(PREEMPTED if self._signals.terminated else INTERRUPTED)

    def _start(self) -> None:
        if self.rank == 0:
            files.clear_record(self.path)
            self._write_meta()
        ranks.barrier()
        self._tape.open(self._every["probe"])
        self._writer = checkpoint.CheckpointWriter(self._folder, self._keep)
        self.checkpoint()

    def _resume(self) -> bool:
        """Take up an unfinished record; false where there is none."""
        before, folder, warnings = ranks.decide(
            lambda: resume.choose(
                self.path, self.meta, replaying=self._segment is not None, world=self.world, cut=self._tape.cut
            )
        )
        if folder is None:
            self._note(warnings=[*(before.warnings if before else []), *warnings])
            return False
        weights, state = checkpoint.load(folder)
        self._tape.open(self._every["probe"])
        self._writer = checkpoint.CheckpointWriter(self._folder, self._keep)
        if before is not None:
            changes = fingerprint.differences(before.fingerprint, self.meta.fingerprint)
            resumed = Resume(at=provenance.now(), from_step=state["step"], stack_changes=changes)
            self._energy.resume(before.energy_joules)
            self.meta = before.model_copy(
                update={
                    "status": "running",
                    "reason": "",
                    "energy_joules": None,  # unknown until this process ends and says so
                    "resumes": [*before.resumes, resumed],
                    "warnings": [*before.warnings, *warnings],
                    "recoveries": [Recovery(**r) for r in state["recoveries"]],
                }
            )
        self._load(weights, state)
        self._write_meta()
        return True

    def _load(self, weights: dict[str, torch.Tensor], state: dict[str, Any]) -> None:
        self._model.load_state_dict(weights)
        self._optimizer.load_state_dict(state["optimizer"])
        for name, part in self._stateful.items():
            part.load_state_dict(state["stateful"][name])
        determinism.set_rng_state(state["generators"][self.rank])
        self._optimizer.zero_grad(set_to_none=True)
        self._tape.load_state_dict(state["tape"])
        self.step, self._best, self._new_best = state["step"], state["best"], False
        self._saved_step, self._left = self.step, state["left"]
        self._note(best_step=state["best_step"], best_metric=state["best_metric"])

    def _close(self, error: BaseException | None) -> None:
        replaying = self._segment is not None
        status, reason = ending(error, self.step, finished=self._finished, replaying=replaying)
        try:
            if hasattr(self, "_writer"):
                self._writer.wait()
            if status != "finished" and self.world == 1:
                self._tape.flush()  # of several ranks one may fail alone, and must not wait for the others here
        except SwitchbackError:
            if error is None:
                raise  # otherwise the first error says more
        self._tape.close(finished=status == "finished")
        if status == "finished" and self.rank == 0:
            self._note(files=files.final_digests(self.path))
        self._note(status=status, reason=reason, steps=self.step, ended=provenance.now())
        self._note(energy_joules=self._energy.joules())
        self._write_meta(quiet=error is not None)

    def _note(self, **values: Any) -> None:
        self.meta = self.meta.model_copy(update=values)

    def _write_meta(self, *, quiet: bool = False) -> None:
        if self.rank != 0:
            return
        self._note(steps=self.step, train_seconds=round(self._tape.seconds, 3))
        try:
            write_atomic(self.path / schema.META, self.meta.text())
        except SwitchbackError:
            if not quiet:
                raise

    @property
    def _folder(self) -> Path:
        return self.path / schema.CHECKPOINTS
