"""kraken's network for text lines and regions (`blla.mlmodel`), rebuilt in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ._coreml import every, layers, weights

CONVOLUTION, NORM, LSTM = 100, 500, 430
"""Numbers of the kinds of layer."""
GROUPS = 32


class AlongLines(nn.Module):
    """An LSTM in both directions, along the rows or the columns of (1, C, H, W)."""

    def __init__(self, layer: bytes, columns: bool) -> None:
        super().__init__()
        self.columns = columns
        (message,) = every(layer, LSTM)
        directions = every(message, 20)
        inputs, recursion, biases = (
            [
                torch.stack([weights(one, first + gate)[0] for gate in range(4)])
                for one in directions
            ]
            for first in (1, 20, 40)
        )
        hidden = biases[0].shape[1]
        self.lstm = nn.LSTM(
            inputs[0].shape[1] // hidden, hidden, bidirectional=True, batch_first=True
        )
        for number, suffix in enumerate(("", "_reverse")):
            values = {
                "weight_ih": inputs[number].view(4 * hidden, -1),
                "weight_hh": recursion[number].view(4 * hidden, -1),
                "bias_ih": torch.zeros(4 * hidden),
                "bias_hh": biases[number].flatten(),
            }
            for name, value in values.items():
                getattr(self.lstm, f"{name}_l0{suffix}").data.copy_(value)

    def forward(self, hidden: Tensor) -> Tensor:
        order = (3, 2, 1) if self.columns else (2, 3, 1)
        lines = self.lstm(hidden[0].permute(*(axis - 1 for axis in order)))[0]
        back = (2, 1, 0) if self.columns else (2, 0, 1)
        return lines.permute(*back)[None]


def convolution(layer: bytes, size: int, stride: int = 1) -> nn.Conv2d:
    (message,) = every(layer, CONVOLUTION)
    (weight,), (bias,) = weights(message, 90), weights(message, 91)
    shape = (len(bias), -1, size, size)
    built = nn.Conv2d(weight.view(shape).shape[1], len(bias), size, stride, padding=size // 2)
    built.weight.data.copy_(weight.view(shape))
    built.bias.data.copy_(bias)
    return built


def norm(layer: bytes) -> nn.GroupNorm:
    (message,) = every(layer, NORM)
    weight, bias = weights(message, 20)
    built = nn.GroupNorm(GROUPS, len(weight))
    built.weight.data.copy_(weight)
    built.bias.data.copy_(bias)
    return built


def build(model: bytes) -> nn.Sequential:
    """From pixels (1, 3, H, W), 0 white to 1 black, to probabilities (1, 4, H / 4, W / 4)."""
    named = layers(model)
    stack: list[nn.Module] = []
    for number, (size, stride) in enumerate([(7, 2), (3, 2), (3, 1), (3, 1), (3, 1)]):
        stack += [convolution(named[f"C_{2 * number}_conv"], size, stride), nn.ReLU()]
        stack += [norm(named[f"Gn_{2 * number + 1}"])]
    stack += [AlongLines(named["L_10"], columns=False)]
    stack += [AlongLines(named["L_11_transposed"], columns=True)]
    stack += [convolution(named["C_12_conv"], 1), nn.ReLU(), norm(named["Gn_13"])]
    stack += [AlongLines(named["L_14_transposed"], columns=True)]
    stack += [AlongLines(named["L_15"], columns=False)]
    stack += [convolution(named["l_16_conv"], 1), nn.Sigmoid()]
    return nn.Sequential(*stack).eval()
