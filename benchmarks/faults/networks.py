"""The bodies of the seven tasks' networks: from inputs to features. B = batch, T = tokens or times, D = width."""

import torch
from torch import Tensor, nn


class Residual(nn.Module):
    """x + W₂ relu(W₁ x), [B, D] to [B, D]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))

    def forward(self, x_BD: Tensor) -> Tensor:
        """As the class says."""
        return x_BD + self.layers(x_BD)


class Attention(nn.Module):
    """Self-attention with one head, [B, T, D] to [B, T, D]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """As the class says."""
        query, key, value = self.mix(x_BTD).chunk(3, dim=2)
        weight_BTT = (query @ key.transpose(1, 2) / key.shape[2] ** 0.5).softmax(dim=2)
        return self.out(weight_BTT @ value)


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attend = nn.Sequential(nn.LayerNorm(width), Attention(width))
        self.think = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, x_BTD: Tensor) -> Tensor:
        """As the class says."""
        x_BTD = x_BTD + self.attend(x_BTD)
        return x_BTD + self.think(x_BTD)


class Transformer(nn.Module):
    """Tokens int64 [B, T] to the mean feature [B, D]."""

    def __init__(self, vocabulary: int, length: int, width: int, blocks: int) -> None:
        super().__init__()
        self.token = nn.Embedding(vocabulary, width)
        self.position = nn.Parameter(torch.randn(length, width) * 0.1)
        self.blocks = nn.Sequential(*(Block(width) for _ in range(blocks)), nn.LayerNorm(width))

    def forward(self, token_BT: Tensor) -> Tensor:
        """As the class says."""
        return self.blocks(self.token(token_BT) + self.position).mean(dim=1)


class Recurrent(nn.Module):
    """The mean state of a GRU, [B, T, channels] to [B, D]."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.layers = nn.GRU(channels, width, batch_first=True)

    def forward(self, x_BTC: Tensor) -> Tensor:
        """As the class says."""
        return self.layers(x_BTC)[0].mean(dim=1)


def residual(inputs: int, width: int, blocks: int) -> nn.Module:
    """Residual multilayer perceptron."""
    return nn.Sequential(nn.Linear(inputs, width), *(Residual(width) for _ in range(blocks)), nn.ReLU())


def deep(inputs: int, width: int, layers: int) -> nn.Module:
    """Plain tanh layers, without any skip, that keep the signal's scale (Glorot and Bengio 2010)."""
    parts: list[nn.Module] = []
    for number in range(layers):
        linear = nn.Linear(width if number else inputs, width)
        nn.init.xavier_uniform_(linear.weight, gain=1.2)
        nn.init.zeros_(linear.bias)
        parts += [linear, nn.Tanh()]
    return nn.Sequential(*parts)


def convolutional(width: int) -> nn.Module:
    """For images [B, 1, 8, 8], with weights that keep the signal's scale (He et al. 2015)."""
    network = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, width), nn.ReLU(),
    )  # fmt: skip
    for weight in network.parameters():
        if weight.dim() > 1:
            nn.init.kaiming_normal_(weight)
    return network


def autoencoder(inputs: int, width: int, code: int) -> nn.Module:
    """Encoder, and the decoder up to its last layer."""
    return nn.Sequential(
        nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, code), nn.Linear(code, width), nn.ReLU()
    )  # fmt: skip
