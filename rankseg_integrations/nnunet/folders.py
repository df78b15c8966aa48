"""Folders that nnU-Net filled with ``--save_probabilities``, to segmentations."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rankseg.nnunet import open_folders, segment


def segment_folders(
    folders: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    metric: str = "dice",
    *,
    reference: str | os.PathLike[str] | None = None,
    unpickle: bool = False,
    model: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    max_bytes: int | None = None,
    **options: Any,
) -> list[Path]:
    """Segmentations of all cases in folders that nnU-Net filled with ``--save_probabilities``.

    One case is in memory at a time; the files have nnU-Net's names, integer types and place, and
    each appears only when it is complete.

    Parameters
    ----------
    folders : path or sequence of paths
        Of several (folds, configurations) the probabilities are averaged, as
        ``nnUNetv2_ensemble`` does; they must hold the same cases, shapes and label definitions.
    output : path
        Folder for the results; made if missing. Gets ``dataset.json`` and ``plans.json`` too.
    metric : str, default 'dice'
        What to maximise; ``'acc'`` gives nnU-Net's own segmentation.
    reference : path, optional
        Folder of images ``CASE_0000`` or segmentations ``CASE`` that tell the place; by default
        the segmentations that nnU-Net has written beside the probabilities. NIfTI images are read
        by nibabel, others by nnU-Net's own reader.
    unpickle : bool, default False
        Take the place from nnU-Net's ``.pkl`` files instead. Unpickling runs what a file holds:
        only for files that you trust.
    model : path, optional
        Folder of ``dataset.json`` and ``plans.json``, if they are not in `folders`.
    overwrite : bool, default False
        Replace results that exist.
    max_bytes : int, optional
        Largest array that is unpacked; by default 32 GiB, or the machine's memory if smaller.
    **options
        Of `rankseg.RankSEG`, as for `use_rankseg`.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    TypeError, ValueError
        For folders or options that make no sense, before anything is written.
    OSError
        If the folder for the results cannot be made or written.
    RuntimeError
        If cases failed. All others are written; the message has a line for each failure.
    """
    given = [folders] if isinstance(folders, (str, os.PathLike)) else list(folders)
    opened = open_folders(
        [Path(folder) for folder in given],
        model=None if model is None else Path(model),
        reference=None if reference is None else Path(reference),
        unpickle=unpickle,
    )
    chosen = {"metric": metric, **options}
    report = segment(opened, Path(output), chosen, overwrite=overwrite, max_bytes=max_bytes)
    if report.failures:
        lines = [f"{name}: {reason}" for name, reason in report.failures.items()]
        count = f"{len(lines)} of {len(lines) + len(report.written)}"
        raise RuntimeError("\n".join([f"{count} cases failed, the others are written:", *lines]))
    return report.written
