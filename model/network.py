"""The network: a residual MLP over normalised numbers and embedded categories.

Shapes: B = batch, F = numeric columns, C = categorical columns, W = width.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from model.params import Network


class Batch(NamedTuple):
    """What one step sees."""

    numeric_BF: Tensor
    """float32, raw units; NaN where the value is missing."""
    categorical_BC: Tensor
    """int64 codes; 0 stands for missing or unseen."""
    label_B: Tensor
    """float32, 0 or 1."""


class Normalizer(nn.Module):
    """Raw numbers in, standardised numbers and missing flags out; part of the graph, so serving cannot skew.

    Columns marked `log` pass through sign(x)·log1p(|x|) first. Values are clipped to ±`limit` standard deviations
    of the training rows, so that one absurd input cannot leave the region the network has seen.
    """

    limit = 10.0

    mean_F: Tensor
    scale_F: Tensor
    log_F: Tensor

    def __init__(self, columns: Sequence[dict[str, Any]]) -> None:
        super().__init__()
        self.register_buffer("mean_F", torch.tensor([c["mean"] for c in columns], dtype=torch.float32))
        self.register_buffer("scale_F", torch.tensor([c["scale"] for c in columns], dtype=torch.float32))
        self.register_buffer("log_F", torch.tensor([c["transform"] == "log" for c in columns], dtype=torch.bool))

    def forward(self, numeric_BF: Tensor) -> Tensor:
        """float32 [B, F] to float32 [B, 2F]; infinities are clipped, NaN becomes the training mean."""
        missing_BF = numeric_BF.isnan()
        # float32 max keeps infinities inside log1p's finite range.
        x_BF = torch.where(missing_BF, self.mean_F, numeric_BF).clamp(-3.4e38, 3.4e38)
        x_BF = torch.where(self.log_F, x_BF.sign() * x_BF.abs().log1p(), x_BF)
        x_BF = ((x_BF - self.mean_F) / self.scale_F).clamp(-self.limit, self.limit)
        x_BF = torch.where(missing_BF, torch.zeros_like(x_BF), x_BF)
        return torch.cat([x_BF, missing_BF.to(x_BF.dtype)], dim=1)


class Embeddings(nn.Module):
    """One table for all categorical columns; a code outside its column's range reads the row for unseen values."""

    offset_C: Tensor
    size_C: Tensor

    def __init__(self, sizes: Sequence[int], dim: int) -> None:
        super().__init__()
        size_C = torch.tensor(sizes, dtype=torch.int64)
        self.register_buffer("size_C", size_C)
        self.register_buffer("offset_C", size_C.cumsum(0) - size_C)
        self.table = nn.Embedding(max(sum(sizes), 1), dim)

    def forward(self, categorical_BC: Tensor) -> Tensor:
        """int64 [B, C] to float32 [B, C·dim]."""
        known_BC = (categorical_BC > 0) & (categorical_BC < self.size_C)
        rows_BC = torch.where(known_BC, categorical_BC, torch.zeros_like(categorical_BC)) + self.offset_C
        embedded: Tensor = self.table(rows_BC)
        return embedded.flatten(1)


class Block(nn.Module):
    """x + Dropout(Linear(ReLU(Linear(LayerNorm(x)))))."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.linear1 = nn.Linear(width, hidden)
        self.linear2 = nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BW: Tensor) -> Tensor:
        """float32 [B, W] to float32 [B, W]."""
        hidden = torch.relu(self.linear1(self.norm(x_BW)))
        change_BW: Tensor = self.dropout(self.linear2(hidden))
        return x_BW + change_BW


class RiskNetwork(nn.Module):
    """Risk logit of each event. `schema` is data/schema.json; only its columns are used."""

    def __init__(self, params: Network, schema: dict[str, Any]) -> None:
        super().__init__()
        numeric, categorical = schema["numeric"], schema["categorical"]
        self.normalizer = Normalizer(numeric)
        self.embeddings = Embeddings([len(c["categories"]) + 1 for c in categorical], params.embedding)
        self.input = nn.Linear(2 * len(numeric) + params.embedding * len(categorical), params.width)
        hidden = max(1, round(params.width * params.expansion))
        self.blocks = nn.ModuleList(Block(params.width, hidden, params.dropout) for _ in range(params.blocks))
        self.norm = nn.LayerNorm(params.width)
        self.head = nn.Linear(params.width, 1)

    def forward(self, numeric_BF: Tensor, categorical_BC: Tensor) -> Tensor:
        """float32 [B, F] raw numbers and int64 [B, C] codes to float32 logits [B]."""
        x_BW = self.input(torch.cat([self.normalizer(numeric_BF), self.embeddings(categorical_BC)], dim=1))
        for block in self.blocks:
            x_BW = block(x_BW)
        logits_B: Tensor = self.head(self.norm(x_BW)).squeeze(1)
        return logits_B

    def loss(self, batch: Batch, positive_weight: float = 1.0) -> Tensor:
        """Mean binary cross-entropy of the batch, in nats."""
        return loss_of(self(batch.numeric_BF, batch.categorical_BC), batch.label_B, positive_weight)


def loss_of(logits_B: Tensor, label_B: Tensor, positive_weight: float = 1.0) -> Tensor:
    """Mean binary cross-entropy, in nats."""
    weight = torch.tensor(positive_weight, device=logits_B.device)
    loss: Tensor = nn.functional.binary_cross_entropy_with_logits(logits_B, label_B, pos_weight=weight)
    return loss


def margin_of(logits_B: Tensor, label_B: Tensor) -> Tensor:
    """The logit of each row's own label over that of the other; float32 [B]."""
    return (2 * label_B - 1) * logits_B.detach()
