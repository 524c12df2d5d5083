"""A small convolutional network. B = batch, W = width."""

import torch
from torch import nn
from torch.nn import functional as F

CLASSES = 10
SIDE = 8
INK = 16.0
"""Darkest pixel."""


class DigitNetwork(nn.Module):
    """Two convolutions that halve the image, and a linear layer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, width, 3, stride=2, padding=1)
        self.second = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.last = nn.Linear(2 * width * (SIDE // 4) ** 2, CLASSES)

    def forward(self, numeric: torch.Tensor) -> torch.Tensor:
        """float32 [B, 64] pixels to logits [B, 10]."""
        image_B1SS = (numeric / INK).reshape(-1, 1, SIDE, SIDE)
        hidden_BWHH = F.relu(self.second(F.relu(self.first(image_B1SS))))
        logits: torch.Tensor = self.last(hidden_BWHH.flatten(1))
        return logits


class Released(nn.Module):
    """What is exported: probabilities, and the largest of them, below which a person has to look."""

    def __init__(self, network: DigitNetwork) -> None:
        super().__init__()
        self.network = network.eval()

    def forward(self, numeric: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """float32 [B, 64] pixels to probabilities [B, 10] and confidence [B]."""
        probability_BK = self.network(numeric).softmax(1)
        return probability_BK, probability_BK.amax(1)
