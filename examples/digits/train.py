"""Train one seed and leave a run record: `python train.py --seed 1`."""

import argparse
import math
import sys

import torch
from torch.nn import functional as F

from ci_tools.errors import run_stage
from ci_tools.record import Recorder, SeededBatches, SeededLoader
from data import FOLDER, Digits, read
from network import CLASSES, DigitNetwork

SPLITS = ("train", "validation", "test")


def train(args: argparse.Namespace, run: Recorder) -> None:
    """The whole run; what ends in `run.` is what the gates get to see."""
    rows, validation, test = map(read, SPLITS)
    rows = with_wrong_labels(rows, args.wrong_labels)
    model = DigitNetwork(args.width)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.lr, total_steps=args.steps)
    run.watch(model, optimizer, schedule=schedule)
    loader = SeededLoader(rows, SeededBatches(len(rows.label), args.batch_size, args.seed))
    for _, batch in run.steps(loader, total=args.steps):
        loss, margins = torch.zeros(()), []
        for part, share in run.micro_batches(batch):
            logits_BK = model(part.numeric)
            part_loss = F.cross_entropy(logits_BK, part.label) * share
            part_loss.backward()
            loss += part_loss.detach()
            margins.append(margin_of(logits_BK.detach(), part.label))
        run.record(loss)
        run.margins(torch.cat(margins))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
        if run.due("evaluate"):
            figures, losses_N = measure(model, validation)
            run.evaluated("validation", figures, best="accuracy", losses=losses_N)
        if run.due("shadow"):
            run.shadow(lambda model, batch: F.cross_entropy(model(batch.numeric), batch.label), batch)
    run.load_best()
    run.finish(measure(model, test)[0])


@torch.no_grad()
def measure(model: DigitNetwork, rows: Digits) -> tuple[dict[str, float], torch.Tensor]:
    """Accuracy and mean loss, and the loss of each row, float32 [N]."""
    logits_NK = model(rows.numeric)
    losses_N = F.cross_entropy(logits_NK, rows.label, reduction="none")
    accuracy = (logits_NK.argmax(1) == rows.label).double().mean()
    return {"accuracy": accuracy.item(), "loss": losses_N.double().mean().item()}, losses_N


def margin_of(logits_BK: torch.Tensor, label_B: torch.Tensor) -> torch.Tensor:
    """Logit of the label less the best other one, float32 [B]."""
    own_B = logits_BK.gather(1, label_B[:, None])[:, 0]
    return own_B - logits_BK.scatter(1, label_B[:, None], -math.inf).amax(1)


def with_wrong_labels(rows: Digits, share: float) -> Digits:
    """The planted fault: this share of the rows says that it shows some other digit."""
    generator = torch.Generator().manual_seed(0)  # the same rows, whatever the seed of training
    wrong_N = torch.rand(len(rows.label), generator=generator) < share
    other_N = (rows.label + torch.randint(1, CLASSES, rows.label.shape, generator=generator)) % CLASSES
    return rows._replace(label=torch.where(wrong_N, other_N, rows.label))


def main() -> int:
    """Command line of the train stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=300, help="optimizer steps")
    parser.add_argument("--batch-size", type=int, default=64, help="samples per step")
    parser.add_argument("--width", type=int, default=16, help="channels of the first convolution")
    parser.add_argument("--lr", type=float, default=0.01, help="peak learning rate")
    parser.add_argument("--wrong-labels", type=float, default=0.0, help="share of training rows with a wrong label")
    parser.add_argument("--seed", type=int, default=1, help="of everything that is drawn")
    args = parser.parse_args()

    def work() -> None:
        with Recorder(
            f"runs/seed-{args.seed}",
            params=vars(args),
            seed=args.seed,
            data=[FOLDER / f"{split}.npz" for split in SPLITS],
            evaluate_every=25,
            checkpoint_every=100,
            probe_every=15,
            shadow_every=100,
            null_loss=math.log(CLASSES),
        ) as run:
            train(args, run)

    return run_stage(work)


if __name__ == "__main__":
    sys.exit(main())
