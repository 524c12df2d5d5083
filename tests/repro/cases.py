"""Ten small runs that diverge, each for another planted reason.

Run as `python -m tests.repro.cases RECORD '{"case": name, "seed": 3}'`; without arguments it serves jobs, one line of
JSON each, {"record", "case", "seed", "environment"}, from forked children, and answers with the child's exit code.
"""

import json
import math
import os
import sys
from typing import NamedTuple

import torch
import torch._inductor  # what the first optimizer imports; here it is imported once for all children
from torch import nn
from torch.nn import functional as F

from ci_tools.errors import SwitchbackError
from ci_tools.record import Recorder, SeededBatches, SeededLoader
from ci_tools.repro.order import epoch_order

SAMPLES, BATCH, STEPS, FEATURES = 3200, 32, 100, 8  # one epoch
BAD_STEP = 47
RATE = ("half learning rate", "tenth learning rate")


class Rows(NamedTuple):
    x: torch.Tensor
    y: torch.Tensor


class Case(NamedTuple):
    cleared_by: tuple[str, ...]
    """What `diagnose` should name."""
    task: str = "regression"
    lr: float = 0.05
    warmup: int = 0
    momentum: float = 0.0
    adam: bool = False
    corrupt: str = ""
    precision: str = "float32"
    initial_scale: float = 1.0
    initial_std: float = 0.0
    softmax: str = "safe"
    x_scale: float = 1.0
    answer_scale: float = 1.0


CASES = {
    "rate of an MLP": Case(RATE, lr=3.0, warmup=80),
    "rate of a recurrent classifier": Case(RATE, task="sequence", lr=60.0, warmup=80, momentum=0.9),
    "features of one batch times 1000": Case(("batch",), corrupt="features"),
    "labels of one batch in another unit": Case(("batch",), corrupt="labels", momentum=0.9, lr=0.01),
    "one missing value": Case(("batch",), task="classes", corrupt="missing", adam=True, lr=0.01),
    "half weights": Case(("float64",), precision="half", x_scale=10000.0, answer_scale=4e-5, momentum=0.9, lr=0.03),
    "autocast to float16": Case(
        ("float64",), precision="autocast", x_scale=10000.0, answer_scale=4e-5, adam=True, lr=0.01
    ),
    "initial weights times 20": Case(("initialisation",), task="classes", initial_scale=20.0, lr=0.1),
    "normal initial weights": Case(("initialisation",), initial_std=1.0, lr=0.02),
    "log of a softmax": Case(("float64",), task="classes", softmax="naive", x_scale=60.0, lr=0.05),
}


def rows(case, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(SAMPLES, FEATURES, generator=generator)
    y = x[:, :1] ** 2 - x[:, 1:2]
    if case.task != "regression":
        y = (x[:, 0] > 0).long() + (x[:, 1] > 0).long()
    bad = torch.from_numpy(epoch_order(seed, 0, SAMPLES)[BAD_STEP * BATCH : (BAD_STEP + 1) * BATCH])
    if case.corrupt == "features":
        x[bad] *= 1000
    if case.corrupt == "labels":
        y[bad] *= 1000
    if case.corrupt == "missing":
        x[bad[3], 2] = float("nan")
    return Rows(x * case.x_scale, y)


class Recurrent(nn.Module):
    def __init__(self, outputs):
        super().__init__()
        self.cell, self.head = nn.GRU(2, 16, batch_first=True), nn.Linear(16, outputs)

    def forward(self, x):
        return self.head(self.cell(x.unflatten(1, (4, 2)))[0][:, -1])


def network(case):
    outputs = 1 if case.task == "regression" else 3
    if case.task == "sequence":
        return Recurrent(outputs)
    model = nn.Sequential(
        nn.Linear(FEATURES, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.05), nn.Linear(64, outputs)
    )
    with torch.no_grad():
        for weight in (p for p in model.parameters() if p.dim() > 1):
            weight *= case.initial_scale
            if case.initial_std:
                weight.normal_(std=case.initial_std)
    return model


def loss_of(case, model, batch):
    x = batch.x.half() if case.precision == "half" else batch.x
    with torch.autocast("cpu", dtype=torch.float16, enabled=case.precision == "autocast"):
        answer = model(x)
    if case.task == "regression":
        return F.mse_loss(answer.float() * case.answer_scale, batch.y)
    if case.softmax == "naive":
        odds = answer.exp()
        return -(odds / odds.sum(1, keepdim=True)).gather(1, batch.y[:, None]).log().mean()
    return F.cross_entropy(answer, batch.y)


def train(record, name, seed):
    case = CASES[name]
    null_loss = math.log(3) if case.task != "regression" else 3.0
    with Recorder(
        record, params={"case": name}, seed=seed, checkpoint_every=20, probe_every=25, patience=6,
        loss_limit=6 * null_loss, limit_after=10, null_loss=null_loss,
    ) as run:  # fmt: skip
        model = network(case)
        if case.precision == "half":
            model.half()
        optimizer = (
            torch.optim.Adam(model.parameters(), case.lr, eps=1e-4)
            if case.adam
            else torch.optim.SGD(model.parameters(), case.lr, case.momentum)
        )
        run.watch(model, optimizer)
        loader = SeededLoader(rows(case, seed), SeededBatches(SAMPLES, BATCH, seed))
        for step, batch in run.steps(loader, total=STEPS):
            for group in optimizer.param_groups:
                group["lr"] = case.lr * min(1.0, (step + 1) / max(case.warmup, 1))
            loss = loss_of(case, model, batch)
            loss.backward()
            run.record(loss)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        run.finish({"loss": float(loss)})


def serve():
    for line in sys.stdin:
        job = json.loads(line)
        pid = os.fork()
        if pid == 0:
            os.environ.update(job["environment"])
            os._exit(run(job["record"], job["case"], job["seed"]))
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def run(record, case, seed=3):
    """Exit code of a training."""
    try:
        train(record, case, seed)
    except SwitchbackError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    except SystemExit as end:
        return end.code
    return 0


if __name__ == "__main__":
    if len(sys.argv) == 1:
        serve()
    else:
        sys.exit(run(sys.argv[1], **json.loads(sys.argv[2])))
