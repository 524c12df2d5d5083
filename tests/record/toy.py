"""A small regression run with every recorder feature, and switches that plant one difference each.

Run as `python -m tests.record.toy RECORD '{"option": value}'`, or call `train`.
"""

import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import torch

from ci_tools.record import Recorder, SeededBatches, SeededLoader

SAMPLES, BATCH, STEPS = 480, 32, 120  # 15 steps per epoch


class Rows(NamedTuple):
    x: torch.Tensor
    y: torch.Tensor


class Halver:
    """A schedule with state: constant, halved after each recovery."""

    def __init__(self, optimizer, lr):
        self.optimizer, self.lr = optimizer, lr

    def apply(self):
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr

    def halve(self):
        self.lr /= 2

    def state_dict(self):
        return {"lr": self.lr}

    def load_state_dict(self, state):
        self.lr = state["lr"]


def squared_error(model, batch):
    return torch.nn.functional.mse_loss(model(batch.x), batch.y)


def train(
    record,
    *,
    seed=3,
    lr=0.02,
    steps=STEPS,
    checkpoint_every=20,
    keep=3,
    params=None,
    data=(),
    order_seed=None,
    bump=None,
    at=-1,
    max_recoveries=0,
    patience=4,
    loss_limit=float("inf"),
    on_step=None,
    finish=True,
    evaluate=True,
    threads=1,
):
    """Train; `bump` names what is disturbed at step `at`: initial, loss, gradient, update, dead, nan, rate, poison."""
    params = {"lr": lr, "steps": steps} if params is None else params
    with Recorder(
        record,
        params=params,
        seed=seed,
        data=data,
        threads=threads,
        evaluate_every=30,
        checkpoint_every=checkpoint_every,
        probe_every=25,
        shadow_every=40,
        null_loss=2.0,
        keep=keep,
        patience=patience,
        loss_limit=loss_limit,
        max_recoveries=max_recoveries,
    ) as run:
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(SAMPLES, 6, generator=generator)
        y = x[:, :1] ** 2 - x[:, 1:2]
        model = torch.nn.Sequential(
            torch.nn.Linear(6, 16), torch.nn.ReLU(), torch.nn.Dropout(0.1), torch.nn.Linear(16, 16), torch.nn.ReLU(),
            torch.nn.Linear(16, 1),
        )  # fmt: skip
        if bump == "initial":
            with torch.no_grad():
                model[3].weight += 1e-3
        optimizer = torch.optim.AdamW(model.parameters(), lr)
        schedule = Halver(optimizer, lr)
        run.watch(model, optimizer, schedule=schedule)
        loader = SeededLoader(Rows(x, y), SeededBatches(SAMPLES, BATCH, seed if order_seed is None else order_seed))
        for step, batch in run.steps(loader, total=steps, recover=schedule.halve):
            if on_step is not None:
                on_step(step, run)
            schedule.apply()
            loss, margins = torch.zeros(()), []
            for part, share in run.micro_batches(batch):
                answer = model(part.x)
                margins.append(-(answer.detach() - part.y).abs().squeeze(1))
                part_loss = torch.nn.functional.mse_loss(answer, part.y) * share
                if step == at and bump == "loss":
                    part_loss = part_loss * (1 + 1e-6)
                if bump == "nan" and step >= at:
                    part_loss = part_loss * float("nan")
                if bump == "poison" and step >= at and schedule.lr > lr / 2:
                    part_loss = part_loss * float("inf")
                part_loss.backward()
                loss = loss + part_loss.detach()
            if step == at and bump == "gradient":
                model[3].weight.grad.mul_(1 + 1e-6)
                model[0].weight.grad.mul_(1 + 1e-6)
            run.record(loss, clip_norm=5.0)
            run.margins(torch.cat(margins))
            if run.due("shadow"):
                run.shadow(squared_error, batch)
            optimizer.step()
            if step == at and bump == "update":
                with torch.no_grad():
                    model[3].weight += 1e-3
            if step == at and bump == "dead":  # hidden unit 0 is silent in this run: nothing else notices
                with torch.no_grad():
                    model[3].weight[0, 0] += 1e-3
            if step == at and bump == "rate":
                with torch.no_grad():
                    model[0].bias += 1e-7
            optimizer.zero_grad(set_to_none=True)
            if evaluate and run.due("evaluate"):
                with torch.no_grad():
                    model.eval()
                    losses = (model(x) - y).square().squeeze(1)
                    model.train()
                run.evaluated("validation", {"negative_mse": -float(losses.mean())}, best="negative_mse", losses=losses)
        if finish:
            run.load_best()
            run.finish({"negative_mse": 0.0}, {"id": [0, 1], "label": [0.0, 1.0], "score": [0.25, 0.75]})
    return Path(record)


if __name__ == "__main__":
    with suppress(IndexError):
        train(sys.argv[1], **json.loads(sys.argv[2]))
