"""RankSEG in one minute: the same probabilities, before (argmax) and after (RankSEG).

A scene with three classes gets a probability for each pixel. Ground truths are drawn from exactly
these probabilities, pixel by pixel, so they are calibrated and nothing needs training; the score
of a label map is its Dice averaged over classes and draws. Run: python examples/quickstart.py
"""

import torch
from torch import Tensor, nn

from rankseg import RankSEG
from rankseg_integrations.torch import RankSEGHead

NAMES = ("background", "organ", "lesion")
DRAWS = 100


class Network(nn.Module):
    """Stands for a trained network: blurred evidence for an organ and a faint lesion."""

    def forward(self, image: Tensor) -> Tensor:
        y, x = torch.meshgrid(torch.linspace(-1, 1, 96), torch.linspace(-1, 1, 128), indexing="ij")
        organ = 3 - 9 * ((x + 0.3) ** 2 + y**2)
        lesion = 0.8 - 60 * ((x - 0.6) ** 2 + (y - 0.2) ** 2)
        logits = torch.stack([torch.zeros_like(x), organ, lesion])
        return logits.expand(len(image), -1, -1, -1)


def draw_truths(probs: Tensor) -> Tensor:
    """Label maps (DRAWS, H, W), each pixel drawn from its own probabilities (C, H, W)."""
    classes, height, width = probs.shape
    generator = torch.Generator().manual_seed(0)
    pixels = torch.multinomial(probs.reshape(classes, -1).T, DRAWS, True, generator=generator)
    return pixels.T.reshape(DRAWS, height, width)


def dice(labels: Tensor, truths: Tensor) -> list[float]:
    """Dice of each class, averaged over the truths."""
    scores = []
    for index in range(len(NAMES)):
        mask, truth = labels == index, truths == index
        overlap = (mask & truth).sum((1, 2))
        scores.append((2 * overlap / (mask.sum() + truth.sum((1, 2)))).mean().item())
    return scores


def main() -> None:
    network = Network()
    image = torch.zeros(1, 3, 96, 128)
    probs = network(image).softmax(dim=1)

    before = probs.argmax(dim=1)
    after = RankSEG(metric="dice")(probs)

    # The same as the last layer of a network:
    model = nn.Sequential(network, RankSEGHead("softmax", metric="dice"))
    assert torch.equal(model(image), after)

    truths = draw_truths(probs[0])
    rows = zip(NAMES, dice(before[0], truths), dice(after[0], truths), strict=True)
    table = [*rows]
    table.append(("mean", *(sum(row[k] for row in table) / len(table) for k in (1, 2))))
    print(f"Dice over {DRAWS} ground truths   argmax  RankSEG")
    for name, old, new in table:
        print(f"{name:26}   {old:6.3f}   {new:6.3f}")


if __name__ == "__main__":
    main()
