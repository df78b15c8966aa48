"""Whether labels lie where the probabilities lie, for files that tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rankseg.files import FileError

MILLIMETRE = 1e-2
"""What affines may differ by: they are stored as float32, and some tools round them."""
PIXEL = 1e-2
"""What corners may differ by, in pixels."""


@dataclass(frozen=True)
class VolumePlace:
    """Affine of a NIfTI volume, (4, 4)."""

    affine: npt.NDArray[Any]

    def check(self, labels: VolumePlace) -> None:
        """Refuse labels of another place."""
        apart = float(np.abs(self.affine - labels.affine).max())
        if not apart <= MILLIMETRE:
            raise FileError(
                f"labels lie elsewhere than the probabilities (affines differ by {apart:.3g}): "
                "resample them, or say --ignore-place if one of the affines is wrong"
            )


@dataclass(frozen=True)
class GridPlace:
    """Coordinate system and transform of a GeoTIFF; None where it tells none."""

    system: Any
    transform: Any
    shape: tuple[int, int]

    @classmethod
    def of(cls, dataset: Any) -> GridPlace:
        """Place of an open dataset."""
        told = None if dataset.transform.is_identity else dataset.transform
        return cls(dataset.crs, told, dataset.shape)

    def check(self, labels: GridPlace) -> None:
        """Refuse labels of another place."""
        if self.system and labels.system and self.system != labels.system:
            raise FileError(
                f"labels are in {labels.system}, probabilities in {self.system}: reproject them, "
                "or say --ignore-place if one of the two is wrong"
            )
        apart = self._pixels_apart(labels)
        if not apart <= PIXEL:
            raise FileError(
                f"labels lie {apart:.3g} pixels from the probabilities: resample them, or say "
                "--ignore-place if one of the transforms is wrong"
            )

    def _pixels_apart(self, labels: GridPlace) -> float:
        """How far a corner of the labels is from that of the probabilities."""
        if self.transform is None or labels.transform is None or self.shape != labels.shape:
            return 0.0  # that shapes differ is said where they are compared
        height, width = self.shape
        mine, theirs = (np.reshape(one.transform, (3, 3)) for one in (self, labels))
        corners = np.array([(0, 0, 1), (width, 0, 1), (0, height, 1), (width, height, 1)]).T
        away = np.linalg.solve(mine, theirs @ corners) - corners
        return float(np.abs(away).max())


Place = VolumePlace | GridPlace
