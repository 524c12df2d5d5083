"""Tell three spirals apart."""

import argparse
import math

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from ci_tools.record import Recorder

ARMS = 3


def spirals(n, generator):
    arm = torch.randint(ARMS, (n,), generator=generator)
    radius = torch.rand(n, generator=generator)
    angle = 4 * radius + 2 * math.pi / ARMS * arm + 0.15 * torch.randn(n, generator=generator)
    return TensorDataset(torch.stack([radius * angle.sin(), radius * angle.cos()], 1), arm)


class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(2, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.head = nn.Linear(width, ARMS)

    def forward(self, x):
        return self.head(self.body(x))


@torch.no_grad()
def accuracy(model, data):
    model.eval()
    x, y = data.tensors
    return (model(x).argmax(1) == y).float().mean().item()


def train(args, run):
    generator = torch.Generator().manual_seed(0)
    train_set, test_set = spirals(3200, generator), spirals(1000, generator)
    loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True)
    model = Net(args.width)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    run.watch(model, optimizer)
    for epoch, batches in run.epochs(loader, args.epochs):
        model.train()
        for x, y in batches:
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            run.record(loss)
            optimizer.step()
        print(f"epoch {epoch}: loss {loss.item():.3f}, accuracy {accuracy(model, test_set):.3f}")  # noqa: T201
    run.finish({"accuracy": accuracy(model, test_set)})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with Recorder(f"runs/seed-{args.seed}", params=vars(args), seed=args.seed) as run:
        train(args, run)
