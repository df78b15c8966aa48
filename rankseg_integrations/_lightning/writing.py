"""Masks become files while the trainer predicts."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, get_args

import torch
from torch import Tensor
from typing_extensions import Unpack

from rankseg_integrations._common import choice, require, yes_or_no
from rankseg_integrations._lightning.batch import decide
from rankseg_integrations._lightning.files import Folder, Format, same_file, usable_folder
from rankseg_integrations._lightning.names import listed
from rankseg_integrations._lightning.options import Decision, PredictOptions, configured
from rankseg_integrations._lightning.outputs import beside, check_key, place, scores_in
from rankseg_integrations._lightning.trainer import check_framework, gathered

SHOWN = 10
"""Samples that one error names; each has had its own warning."""


class Writes:
    """Write one file for each sample while the trainer predicts, and keep nothing.

    With ``trainer.predict(..., return_predictions=False)`` memory does not grow with the data. In
    distributed prediction every process writes its own samples, each of them once. Files are
    written under a temporary name and renamed, so a killed run leaves none half.

    Parameters
    ----------
    folder : str or path
        Where to; it is made. Samples of several dataloaders go to ``dataloader_0`` and so on.
    key : str or int, default 'prediction'
        What to write, where ``predict_step`` returns a dict (str) or tuple (int). Floating-point
        values (B, C, *spatial) are decided first, by `rankseg` or the options; labels (integer,
        (B, *spatial)) and masks (bool, (B, C, *spatial)) are written as they are. The default is
        where a `RankSEGCallback` that is listed before puts its prediction.
    name_key : str or int, optional
        Entry of the batch, or of the dict that ``predict_step`` returns, with the names of the
        samples. Of a path only the last part counts, without the suffix of an image. By default
        files are numbered: 000000, 000001, by place in the dataset.
    file_format : {'npy', 'npz', 'png'}, default 'npy'
        Labels are uint8, or uint16 or int64 where they do not fit; masks are bool (C, *spatial).
        In an ``.npz`` the array is called ``labels`` or ``masks``. A PNG holds labels of two
        spatial dimensions, or one mask as 0 and 255; it needs pillow.
    overwrite : bool, default False
        Replace files that are there. Otherwise the first of them is an error.
    rankseg : RankSEG, DecisionRule or path, optional
        What decides, instead of options; a path is that of a saved rule.
    **options
        Passed to `rankseg.RankSEG`: ``metric``, ``output_mode``, ``solver`` and so on.

    Raises
    ------
    TypeError, ValueError
        At once: for options that `rankseg.RankSEG` refuses. From the trainer: if it belongs to the
        other namespace, an entry is missing, or two samples share a name; both are said. At the
        end, if samples could not be decided (NaN): each is named, the others are written.
    OSError
        If the folder cannot be written into, before the first batch; or the disk refuses.
    """

    framework: ClassVar[ModuleType]

    def __init__(
        self,
        folder: str | Path,
        key: str | int = "prediction",
        name_key: str | int | None = None,
        *,
        file_format: Format = "npy",
        overwrite: bool = False,
        rankseg: Decision | str | Path | None = None,
        **options: Unpack[PredictOptions],
    ) -> None:
        super().__init__("batch")  # type: ignore[call-arg]
        self.folder = Path(folder)
        self.key = check_key("key", key)
        self.name_key = None if name_key is None else check_key("name_key", name_key)
        self.file_format: Any = choice("file_format", file_format, get_args(Format))
        if self.file_format == "png":
            require("PIL.Image", "files")
        self.overwrite = yes_or_no("overwrite", overwrite)
        self.configured = rankseg is not None or bool(options)
        self.rankseg = configured(rankseg, options)
        self._left_out: dict[int, str] = {}
        self._seen_indices: Any = None
        self._start()

    def _start(self) -> None:
        self._files = Folder(self.folder, self.file_format, self.overwrite)
        self._failures: list[str] = []

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Refuse a foreign trainer and a folder that takes no files."""
        check_framework(self, self.framework, trainer)
        super().setup(trainer, pl_module, stage)  # type: ignore[misc]
        if stage == "predict":
            usable_folder(self.folder)

    def on_predict_start(self, trainer: Any, pl_module: Any) -> None:
        """Forget the names of the run before."""
        self._start()

    def leave_out(self, bad: dict[int, str]) -> None:
        """Do not write these samples of the batch, for the reasons given; raise at the end."""
        self._left_out |= bad

    def write_on_batch_end(
        self,
        trainer: Any,
        pl_module: Any,
        prediction: Any,
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Write the samples of a batch; a step that returned None has none."""
        left_out, self._left_out = self._left_out, {}
        # A loader whose indices Lightning cannot know leaves those of another batch there.
        indices = None if batch_indices is self._seen_indices else batch_indices
        self._seen_indices = batch_indices
        if prediction is None:
            return
        where = place("predict_step", batch_idx, dataloader_idx)
        found, bad = self._found(prediction, where)
        left_out |= bad
        names = self._names(prediction, batch, indices, len(found), where)
        part = f"dataloader_{dataloader_idx}/" if trainer.predict_loop.num_dataloaders > 1 else ""
        for number, (name, sample) in enumerate(zip(names, found, strict=True)):
            if number in left_out:
                self._fail(f"{part}{name} ({where}, sample {number}): {left_out[number]}")
            else:
                self._files.write(self._files.path_for(name, part), sample)

    def _found(self, prediction: Any, where: str) -> tuple[Tensor, dict[int, str]]:
        """Labels or masks, (B, ...), and the samples that have none."""
        values = scores_in(prediction, self.key, "key", where)
        if values.is_floating_point():
            return decide(self.rankseg, values, where)
        if self.configured:
            raise ValueError(
                f"{where}: what is to be written is decided already, {values.dtype} of shape "
                f"{tuple(values.shape)}; give the writer the key of the probabilities, or no "
                "options for the decision"
            )
        if values.ndim < (3 if values.dtype == torch.bool else 2):
            raise ValueError(
                f"{where}: labels must be (B, *spatial) and masks (B, C, *spatial); got "
                f"{values.dtype} of shape {tuple(values.shape)}"
            )
        return values, {}

    def _names(
        self, prediction: Any, batch: Any, indices: Sequence[int] | None, size: int, where: str
    ) -> list[str]:
        if self.name_key is not None:
            return listed(beside(self.name_key, prediction, batch, "name_key", where), size, where)
        if not indices or len(indices) != size:
            raise ValueError(
                f"{where}: the places in the dataset are not known for these {size} samples: give "
                "the samples names and say where with name_key=..."
            )
        return [f"{index:06d}" for index in indices]

    def _fail(self, text: str) -> None:
        self._failures.append(text)
        warnings.warn(f"not written: {text}", RuntimeWarning, stacklevel=2)

    def on_predict_end(self, trainer: Any, pl_module: Any) -> None:
        """Raise, in all processes, if a sample of any could not be written."""
        everyone = gathered((self._failures, self._files.taken))
        failures = [text for texts, _ in everyone for text in texts]
        owners: defaultdict[str, list[str]] = defaultdict(list)
        for _, taken in everyone:
            for inside, name in taken.items():
                owners[inside].append(name)
        failures += [same_file(inside, names) for inside, names in owners.items() if names[1:]]
        if failures:
            more = [f"and {len(failures) - SHOWN} more"] if len(failures) > SHOWN else []
            heading = f"{len(failures)} not written; every other sample is:"
            raise ValueError("\n".join([heading, *failures[:SHOWN], *more]))
