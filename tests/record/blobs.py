"""One small classification, trained by a loop of our own, by Lightning and by Hugging Face's Trainer.

Run as `python -m tests.record.blobs LOOP RECORD '{"option": value}'`, or call one of LOOPS. `stop_at` sends this
process a signal as that step begins.
"""

import json
import os
import signal
import sys
import warnings
from pathlib import Path
from tempfile import mkdtemp

import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset

from ci_tools.record import Recorder, SeededBatches
from ci_tools.record.hosted import SampleOrder
from ci_tools.repro.determinism import seed_everything

SAMPLES, BATCH, STEPS, LR = 240, 24, 35, 0.05  # 10 steps per epoch
CLIP = 0.5


class Rows(Dataset):
    """Samples as dictionaries, which all three can read."""

    def __init__(self, n, seed):
        generator = torch.Generator().manual_seed(seed)
        self.labels = torch.randint(0, 2, (n,), generator=generator)
        self.x = torch.randn(n, 6, generator=generator) + 0.7 * self.labels[:, None]

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return {"x": self.x[i], "labels": self.labels[i]}


class Net(torch.nn.Module):
    """With dropout, so that a resumed run needs the generators' states."""

    def __init__(self, dropout=0.2):
        super().__init__()
        self.body = torch.nn.Sequential(
            torch.nn.Linear(6, 12), torch.nn.ReLU(), torch.nn.Dropout(dropout), torch.nn.Linear(12, 2)
        )

    def forward(self, x, labels=None):
        logits = self.body(x)
        return {"loss": cross_entropy(logits, labels), "logits": logits} if labels is not None else {"logits": logits}


def rate(step):
    return 1 / (1 + step / 20)


def accuracy(model, rows):
    return (model(rows.x)["logits"].argmax(1) == rows.labels).float().mean().item()


def recorder(path):
    cadences = {"checkpoint_every": 8, "probe_every": 10, "evaluate_every": 5}
    return Recorder(path, params={"lr": LR}, seed=3, **cadences)


def schedule_of(optimizer, fault):
    """The schedule of all loops; with the fault the rate is ten thousand times too high from step 15 on."""
    return torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: rate(step) * (1e4 if fault == "rate" and step >= 15 else 1)
    )


def stop(by):
    os.kill(os.getpid(), signal.Signals[by])


def own(path, *, dropout=0.2):
    with recorder(path) as run:
        rows, validation = Rows(SAMPLES, 1), Rows(120, 2)
        model = Net(dropout)
        optimizer = torch.optim.AdamW(model.parameters(), LR)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
        run.watch(model, optimizer, schedule=schedule)
        loader = DataLoader(rows, batch_sampler=SeededBatches(SAMPLES, BATCH, 3))
        for _, batch in run.steps(loader, total=STEPS):
            loss = model(**batch)["loss"]
            loss.backward()
            run.record(loss, clip_norm=CLIP)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            if run.due("evaluate"):
                model.eval()
                run.evaluated("validation", {"accuracy": accuracy(model, validation)})
                model.train()
        run.finish({"accuracy": 1.0})


def lightning(
    path,
    *,
    parts=1,
    dropout=0.2,
    fault="",
    stop_at=None,
    by="SIGTERM",
    record=True,
    leave_at=None,
    order="",
    **options,
):
    import logging

    import lightning.pytorch as pl

    from ci_tools.record.lightning import recording

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")

    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = Net(dropout)

        def configure_optimizers(self):
            optimizer = torch.optim.AdamW(self.parameters(), LR)
            return [optimizer], [{"scheduler": schedule_of(optimizer, fault), "interval": "step"}]

        def training_step(self, batch, _):
            return self.net(**batch)["loss"]

        def on_train_batch_start(self, batch, at):
            if self.global_step == stop_at and at % parts == 0:
                stop(by)
            self.trainer.should_stop = self.global_step + 1 == leave_at

        def validation_step(self, batch, _):
            self.log("val_accuracy", (self.net(batch["x"])["logits"].argmax(1) == batch["labels"]).float().mean())

    def fit(run):
        rows, batches = Rows(SAMPLES, 1), SeededBatches(SAMPLES, BATCH, 3)
        module = Module()
        cut = {"sampler": SampleOrder(batches), "batch_size": BATCH // parts}
        orders = {"shuffled": {"batch_size": BATCH, "shuffle": True}, "whole": {"batch_sampler": batches}, "cut": cut}
        loader = DataLoader(rows, **orders[order or ("cut" if parts > 1 else "whole")])
        every = {"max_steps": STEPS, "val_check_interval": 5 * parts} | options
        trainer = pl.Trainer(
            accelerator="cpu", devices=1, gradient_clip_val=CLIP, accumulate_grad_batches=parts,
            logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
            default_root_dir=mkdtemp(), callbacks=[recording(run, batches)] if run else [], **every,
        )  # fmt: skip
        trainer.fit(module, loader, DataLoader(Rows(120, 2), 120))
        return module.net

    if not record:
        seed_everything(3)
        return fit(None)
    with recorder(path) as run:
        net = fit(run)
        run.finish({"accuracy": 1.0})
        return net


def transformers(path, *, parts=1, dropout=0.2, fault="", stop_at=None, by="SIGTERM", record=True, **options):
    import transformers

    from ci_tools.record import transformers as recording

    transformers.logging.set_verbosity_error()

    class Stop(transformers.TrainerCallback):
        def on_step_begin(self, args, state, control, **of):
            if state.global_step == stop_at:
                stop(by)

    def fit(run):
        net = Net(dropout)
        optimizer = torch.optim.AdamW(net.parameters(), LR)
        trainer = transformers.Trainer(
            model=net,
            args=transformers.TrainingArguments(
                output_dir=mkdtemp(), use_cpu=True, per_device_train_batch_size=BATCH // parts,
                gradient_accumulation_steps=parts, max_grad_norm=CLIP, per_device_eval_batch_size=120, report_to="none",
                save_strategy="no", disable_tqdm=True, logging_strategy="no",
                **{"max_steps": STEPS, "eval_strategy": "steps", "eval_steps": 5} | options,
            ),
            train_dataset=Rows(SAMPLES, 1),
            eval_dataset=Rows(120, 2),
            compute_metrics=lambda given: {"accuracy": (given.predictions.argmax(1) == given.label_ids).mean()},
            optimizers=(optimizer, schedule_of(optimizer, fault)),
        )  # fmt: skip
        if run:
            recording.record(trainer, run)
        else:
            trainer._get_train_sampler = lambda dataset=None: SampleOrder(SeededBatches(SAMPLES, BATCH, 3))
        trainer.add_callback(Stop())
        trainer.train()
        return net

    if not record:
        seed_everything(3)
        return fit(None)
    with recorder(path) as run:
        net = fit(run)
        run.finish({"accuracy": 1.0})
        return net


LOOPS = {"own": own, "lightning": lightning, "transformers": transformers}

if __name__ == "__main__":
    LOOPS[sys.argv[1]](Path(sys.argv[2]), **json.loads(sys.argv[3]))
