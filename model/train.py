"""Train one seed and leave a run record: `python -m model.train --seed 1`."""

import argparse
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ci_tools.config import load
from ci_tools.errors import ConfigError, run_stage
from ci_tools.record import Recorder, SeededBatches, SeededLoader
from model import metrics
from model.data import Split, load_schema, load_split
from model.network import Batch, RiskNetwork, loss_of, margin_of
from model.optim import EarlyStopping, Schedule, build_optimizer
from model.params import Params, Train

SHADOW_ROWS = 64
"""Rows of a batch whose gradient is computed again in float64."""
DATA_FILES = ("train.npz", "validation.npz", "test.npz", "schema.json")


def train(params: Params, seed: int, data: Path, record: Path) -> None:
    """Train, choose the best checkpoint by validation average precision, score the test split."""
    p = params.train
    device = pick_device(p)
    schema = load_schema(data)
    rows, validation = load_split(data, "train"), load_split(data, "validation")
    nothing_learned = null_loss(rows, p.positive_weight)
    with Recorder(
        record,
        params=params.model_dump(mode="json", include={"network", "train"}),  # what decides the run, beside its data
        seed=seed,
        data=[data / name for name in DATA_FILES],
        threads=p.threads,
        evaluate_every=p.evaluate_every,
        checkpoint_every=p.checkpoint_every,
        probe_every=p.probe_every,
        shadow_every=p.shadow_every,
        keep=p.keep_checkpoints,
        patience=p.patience,
        loss_limit=p.divergence_factor * nothing_learned,
        limit_after=p.warmup,
        max_recoveries=p.max_recoveries,
        precision=p.precision,
        null_loss=nothing_learned,
    ) as run:
        model = RiskNetwork(params.network, schema).to(device)
        matrices = [w for w in model.parameters() if w.dim() > 1]
        optimizer = build_optimizer(model, p)
        schedule, stopping = Schedule(optimizer, p), EarlyStopping(p.early_stopping)
        scaler = torch.amp.GradScaler(device.type, enabled=p.precision == "fp16")
        loader = SeededLoader(to_batch(rows, device), SeededBatches(len(rows.label), p.batch_size, seed))
        run.watch(model, optimizer, schedule=schedule, stopping=stopping, scaler=scaler)

        for step, batch in run.steps(loader, total=p.steps, recover=schedule.halve):
            schedule.apply(step)
            model.train()
            loss, margins = torch.zeros((), device=device), []
            for part, share in run.micro_batches(batch, p.accumulate):
                with autocast(p, device):
                    logits_B = model(part.numeric_BF, part.categorical_BC)
                    part_loss = loss_of(logits_B, part.label_B, p.positive_weight) * share
                if p.l1:
                    part_loss = part_loss + p.l1 * share * torch.stack([w.abs().sum() for w in matrices]).sum()
                scaler.scale(part_loss).backward()
                loss = loss + part_loss.detach()
                margins.append(margin_of(logits_B, part.label_B))
            scaler.unscale_(optimizer)
            run.record(loss, clip_norm=p.clip_norm)
            run.margins(torch.cat(margins))
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=True)

            if run.due("evaluate"):
                scores = score(model, validation, device)
                if np.isfinite(scores).all():  # otherwise the recorder is about to call it divergence
                    figures = metrics.quick(validation.label, scores)
                    losses = metrics.row_losses(validation.label, scores, p.positive_weight)
                    improved = run.evaluated("validation", figures, best="average_precision", losses=losses)
                    schedule.observe(figures["average_precision"])
                    if stopping.stop(improved=improved):
                        break

            if run.due("shadow"):
                run.shadow(shadow_loss(p, device), Batch(*(column[:SHADOW_ROWS] for column in batch)))

        run.load_best()
        test = load_split(data, "test")
        scores = score(model, test, device)
        run.finish(metrics.quick(test.label, scores), score_table(test, scores, schema))


@torch.inference_mode()
def score(model: RiskNetwork, split: Split, device: torch.device, rows_at_once: int = 8192) -> NDArray[np.float32]:
    """Probability of the positive class per row, float32 [N], without dropout."""
    model.eval()
    batch = to_batch(split, device)
    parts = [
        model(numeric, categorical).sigmoid()
        for numeric, categorical in zip(
            batch.numeric_BF.split(rows_at_once), batch.categorical_BC.split(rows_at_once), strict=True
        )
    ]
    scores: NDArray[np.float32] = torch.cat(parts).float().cpu().numpy()
    return scores


def to_batch(split: Split, device: torch.device) -> Batch:
    """A whole split as tensors on `device`."""
    arrays = (split.numeric, split.categorical, split.label)
    return Batch(*(torch.from_numpy(array).to(device) for array in arrays))


def score_table(split: Split, scores: NDArray[np.float32], schema: dict[str, Any]) -> dict[str, NDArray[Any]]:
    """Columns of scores.parquet: id, label, score, then one string column per slice."""
    table: dict[str, NDArray[Any]] = {"id": split.id, "label": split.label, "score": scores}
    names = [column["name"] for column in schema["categorical"]]
    for name in schema["slices"]:
        at = names.index(name)
        values = np.array(["(missing)", *schema["categorical"][at]["categories"]])
        table[name] = values[split.categorical[:, at]]
    return table


def null_loss(rows: Split, positive_weight: float) -> float:
    """Loss of the best constant answer, in nats: what a model that learned nothing reaches.

    With a share r of positives that weigh w, that answer is q = w·r / (w·r + 1 − r).
    """
    rate = float(rows.label.mean())
    positive, negative = positive_weight * rate, 1 - rate
    best = positive / (positive + negative)
    return -(positive * math.log(best) + negative * math.log1p(-best))


def shadow_loss(p: Train, device: torch.device) -> Callable[[RiskNetwork, Batch], torch.Tensor]:
    """The loss as the loop computes it; autocast leaves float64 alone."""

    def loss(model: RiskNetwork, batch: Batch) -> torch.Tensor:
        with autocast(p, device):
            return model.loss(batch, p.positive_weight)

    return loss


def autocast(p: Train, device: torch.device) -> torch.autocast:
    """Mixed precision as params.yaml asks for it."""
    kind = torch.bfloat16 if p.precision == "bf16" else torch.float16
    return torch.autocast(device.type, dtype=kind, enabled=p.precision != "float32")


def pick_device(p: Train) -> torch.device:
    """The device of `train.device`.

    Raises:
        ConfigError: a GPU is asked for, or needed for the precision, and there is none.
    """
    has_gpu = torch.cuda.is_available()
    if p.device == "cuda" and not has_gpu:
        raise ConfigError("train.device: no GPU on this machine, got 'cuda'", where="params.yaml", fix="use auto")
    use_gpu = has_gpu and p.device != "cpu"
    if p.precision != "float32" and not use_gpu:
        raise ConfigError(
            f"train.precision: needs a GPU, got {p.precision!r}", where="params.yaml", fix="use float32 on the CPU"
        )
    return torch.device("cuda" if use_gpu else "cpu")


def main(arguments: list[str] | None = None) -> int:
    """Command line of the train stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, required=True, help="training seed")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), help="the experiment")
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder that the data stage wrote")
    parser.add_argument("--record", type=Path, help="folder of the run record (default: runs/seed-N)")
    options = parser.parse_args(arguments)
    record = options.record or Path("runs") / f"seed-{options.seed}"
    return run_stage(lambda: train(load(options.params, Params), options.seed, options.data, record))


if __name__ == "__main__":
    sys.exit(main())
