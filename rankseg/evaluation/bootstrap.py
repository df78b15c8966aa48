"""How sure a mean over images is: the Poisson bootstrap, in memory that does not grow with them.

Every replicate counts every image as often as a Poisson(1) number says, drawn from the image's
group alone, so images of one patient come and go together, and the order of images is no matter.
Sums over replicates are kept instead of images (Chamandy et al., "Estimating uncertainty for
massive data streams", Google technical report, 2012).
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from rankseg.validation import integer

BLOCK = 64  # images whose weights are multiplied at once

MOST_REPLICATES = 1_000_000
"""Each keeps the sums of all numbers in memory."""


@dataclass
class Bootstrap:
    """Weighted sums of numbers that images have, one for each replicate; the first is the data.

    Parameters
    ----------
    replicates : int from 1 to 1,000,000
    seed : int >= 0
    """

    replicates: int
    seed: int
    _sums: Tensor | None = None
    _waiting: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    @classmethod
    def of(cls, replicates: object, seed: object) -> Bootstrap:
        """Check both numbers."""
        number, start = integer("replicates", replicates), integer("seed", seed)
        if not 1 <= number <= MOST_REPLICATES or start < 0:
            raise ValueError(
                f"replicates must be at least 1, at most {MOST_REPLICATES:,}, and seed at least 0; "
                f"got {number} and {start}"
            )
        return cls(number, start)

    def add(self, numbers: Tensor, group: str) -> None:
        """Add an image's numbers, float64 of any shape; all images have the same."""
        self._waiting.append((self._weights(group), numbers))
        if len(self._waiting) == BLOCK:
            self._flush()

    def sums(self) -> Tensor:
        """Sums, float64 (1 + replicates, *shape of the numbers)."""
        self._flush()
        assert self._sums is not None, "no image was added"
        return self._sums

    def _weights(self, group: str) -> Tensor:
        drawn = np.random.default_rng([self.seed, zlib.crc32(group.encode(errors="surrogatepass"))])
        weights = torch.from_numpy(drawn.poisson(1.0, self.replicates)).double()
        return torch.cat([torch.ones(1, dtype=torch.float64), weights])

    def _flush(self) -> None:
        if not self._waiting:
            return
        weights = torch.stack([one[0] for one in self._waiting])
        numbers = torch.stack([one[1] for one in self._waiting])
        shape = numbers.shape[1:]
        found = weights.T @ numbers.reshape(len(numbers), -1)
        found = found.reshape(-1, *shape)
        self._sums = found if self._sums is None else self._sums + found
        self._waiting.clear()


@dataclass(frozen=True)
class Estimate:
    """A number with its standard error and the interval that holds it 95 times in 100.

    ``error``, ``low`` and ``high`` are NaN where there are too few images to tell.
    """

    value: float
    error: float
    low: float
    high: float


def estimate(replicates: Tensor) -> Estimate:
    """Estimate from the value on the data, followed by those of the replicates, float64 (1 + R,).

    Replicates without an image that counts are left out.
    """
    value, others = replicates[0].item(), replicates[1:]
    others = others[~others.isnan()]
    if len(others) < 2:
        return Estimate(value, torch.nan, torch.nan, torch.nan)
    low, high = torch.quantile(others, torch.tensor([0.025, 0.975], dtype=others.dtype)).tolist()
    return Estimate(value, others.std().item(), low, high)
