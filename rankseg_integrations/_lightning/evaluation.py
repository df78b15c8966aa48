"""What RankSEG is worth on this model and data: scores beside those of the usual rule."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, get_args

import torch
from torch import Tensor
from typing_extensions import Unpack

from rankseg import RankSEG
from rankseg_integrations._common import choice, integer, yes_or_no
from rankseg_integrations._lightning.batch import decide
from rankseg_integrations._lightning.counts import checked_truth, counted
from rankseg_integrations._lightning.options import (
    Decision,
    Options,
    activation_of,
    configured,
    gives_masks,
)
from rankseg_integrations._lightning.outputs import beside, check_key, check_text, place, scores_in
from rankseg_integrations._lightning.scores import Level, Overlap
from rankseg_integrations._lightning.trainer import check_framework, gathered

METRICS = ("dice", "iou")


class Evaluates:
    """Log Dice and IoU of the usual rule and of RankSEG side by side, in validation and test.

    Logged at the end of the epoch, as ``val/dice_argmax``, ``val/dice_rankseg`` and their
    difference ``val/dice_gain``, the same for ``iou``, and with ``test/``. The usual rule is argmax
    for labels of several classes; for masks, and for one class, it is the 0.5 cut, logged as
    ``val/dice_cut``. Both decide the same probabilities. Several dataloaders are logged as
    ``val/dataloader_0/dice_argmax`` and so on. Scores are taken over all processes.

    A class scores the mean over the images where it is in the truth or the prediction; logged is
    the mean over classes. One that is nowhere does not count; if none counts, NaN is logged.

    Parameters
    ----------
    key : str or int, default 'probs'
        Where the probabilities are in the dict (str) or tuple (int) that the step returns; a tensor
        is taken itself. Logits with ``activation='softmax'`` or ``'sigmoid'``.
    target_key : str or int, default 'target'
        Where the truth is: an entry of what the step returns, or else of the batch. Labels
        (B, *spatial), or masks of 0 and 1, (B, C, *spatial), for ``output_mode='multilabel'``.
    rankseg : RankSEG, DecisionRule or path, optional
        What decides, instead of options; a path is that of a saved rule.
    ignore_index : int, optional
        Value of the target that is no class. Such pixels count for nothing in the scores; the
        decision does not know of them, as it would not in use.
    include_background : bool, default True
        False leaves class 0 out of the mean, and out of what options maximise (a `rankseg` given
        decides as it is configured).
    per_class : bool or sequence of str, default False
        Log each class too, ``val/dice_rankseg/1``, or by these names, ``val/dice_rankseg/tumour``.
    aggregation_level : {'samplewise', 'global'}, default 'samplewise'
        ``'global'``: a class scores from counts summed over all images.
    name : str, optional
        Logged as ``val/NAME/dice_argmax``; tells apart several callbacks of this kind.
    **options
        Passed to `rankseg.RankSEG`: ``metric``, ``output_mode``, ``solver`` and so on.

    Raises
    ------
    TypeError, ValueError
        At once: for options that `rankseg.RankSEG` refuses. From the trainer: if it belongs to the
        other namespace, two of a kind would log the same names, an entry is missing, a sample has
        NaN, the target does not fit, or no step of a whole epoch returned anything.
    """

    framework: ClassVar[ModuleType]

    def __init__(
        self,
        key: str | int = "probs",
        target_key: str | int = "target",
        *,
        rankseg: Decision | str | Path | None = None,
        ignore_index: int | None = None,
        include_background: bool = True,
        per_class: bool | Sequence[str] = False,
        aggregation_level: Level = "samplewise",
        name: str = "",
        **options: Unpack[Options],
    ) -> None:
        super().__init__()
        self.key = check_key("key", key)
        self.target_key = check_key("target_key", target_key)
        self.rankseg = configured(rankseg, options, include_background=include_background)
        self.ignore_index = None if ignore_index is None else integer("ignore_index", ignore_index)
        self.include_background = yes_or_no("include_background", include_background)
        self.per_class = _checked_names(per_class)
        self.aggregation_level: Any = choice(
            "aggregation_level", aggregation_level, get_args(Level)
        )
        self.name = check_text("name", name)
        mode = "multilabel" if gives_masks(self.rankseg) else "multiclass"
        self._usual = RankSEG("acc", mode, activation=activation_of(self.rankseg))
        self._scores: dict[int, tuple[Overlap, Overlap]] = {}

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Refuse a foreign trainer, and a callback that logs the same names."""
        check_framework(self, self.framework, trainer)
        super().setup(trainer, pl_module, stage)  # type: ignore[misc]
        names = [callback.name for callback in trainer.callbacks if isinstance(callback, Evaluates)]
        if names.count(self.name) > 1:
            raise ValueError(
                f"{names.count(self.name)} callbacks would log scores under the same names: give "
                f"each {type(self).__name__} a name=... of its own; got {names}"
            )

    def on_validation_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Forget what was counted before, in the sanity check for one."""
        self._scores = {}

    on_test_epoch_start = on_validation_epoch_start

    def on_validation_batch_end(
        self,
        trainer: Any,
        pl_module: Any,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count a batch."""
        where = place("validation_step", batch_idx, dataloader_idx)
        self._count(pl_module, outputs, batch, dataloader_idx, where)

    def on_test_batch_end(
        self,
        trainer: Any,
        pl_module: Any,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count a batch."""
        where = place("test_step", batch_idx, dataloader_idx)
        self._count(pl_module, outputs, batch, dataloader_idx, where)

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Log the scores."""
        self._log(pl_module, "val", "validation_step")

    def on_test_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Log the scores."""
        self._log(pl_module, "test", "test_step")

    def _count(self, pl_module: Any, outputs: Any, batch: Any, loader: int, where: str) -> None:
        if outputs is None:
            return
        values = scores_in(outputs, self.key, "key", where)
        target = beside(self.target_key, outputs, batch, "target_key", where)
        predictions = [self._decided(rule, values, where) for rule in (self._usual, self.rankseg)]
        classes = values.shape[1]
        truth = checked_truth(target, predictions[0], classes, self.ignore_index, where)
        scores = self._scores_of(loader, classes, pl_module, where)
        for prediction, score in zip(predictions, scores, strict=True):
            counts = counted(prediction, truth, classes, self.ignore_index)
            score.update(*(count.to(score.device) for count in counts))

    def _decided(self, decision: Decision, values: Tensor, where: str) -> Tensor:
        """Labels or masks; one class is a mask."""
        prediction, bad = decide(decision, values, where)
        if bad:
            reasons = "; ".join(f"sample {at}: {reason}" for at, reason in bad.items())
            raise ValueError(f"{where}: {reasons}; check the model's output")
        one = values.shape[1] == 1 and not gives_masks(decision)
        return (prediction == 1).unsqueeze(1) if one else prediction

    def _scores_of(
        self, loader: int, classes: int, pl_module: Any, where: str
    ) -> tuple[Overlap, Overlap]:
        if loader not in self._scores:
            self._scores[loader] = self._new_scores(classes, pl_module)
        known = self._scores[loader][0].sums.shape[1]
        if known != classes:
            raise ValueError(
                f"{where}: the number of classes is {classes}, in batches before {known}"
            )
        return self._scores[loader]

    def _new_scores(self, classes: int, pl_module: Any) -> tuple[Overlap, Overlap]:
        if not isinstance(self.per_class, bool) and len(self.per_class) != classes:
            raise ValueError(
                f"per_class must name every class, {classes}; it names {len(self.per_class)}"
            )
        device = pl_module.device
        dtype = torch.float32 if device.type == "mps" else torch.float64
        usual, rankseg = (Overlap(classes, self.aggregation_level, dtype) for _ in range(2))
        return usual.to(device), rankseg.to(device)

    def _log(self, pl_module: Any, stage: str, step: str) -> None:
        """Log what all processes have counted; all of them come here."""
        seen = {at: scores[0].sums.shape[1] for at, scores in self._scores.items()}
        everywhere = [pair for other in gathered(seen) for pair in other.items()]
        if not everywhere:
            raise ValueError(
                f"{step} returned None for every batch: return the probabilities, alone or as "
                f"{{{self.key!r}: probs}}"
            )
        loaders = dict(sorted(everywhere))
        values: dict[str, Tensor] = {}
        for loader, classes in loaders.items():
            usual, rankseg = self._scores.get(loader) or self._empty(classes, pl_module)
            part = f"dataloader_{loader}/" if len(loaders) > 1 else ""
            prefix = f"{stage}/{self.name}{'/' if self.name else ''}{part}"
            values |= self._named(prefix, usual.compute(), rankseg.compute())
        pl_module.log_dict(values, sync_dist=True, add_dataloader_idx=False, batch_size=1)

    def _empty(self, classes: int, pl_module: Any) -> tuple[Overlap, Overlap]:
        """Scores of a process that had no batch, where others had some."""
        scores = self._new_scores(classes, pl_module)
        for score in scores:
            score.update(*torch.zeros(2, 0, classes, dtype=torch.int64, device=score.device))
        return scores

    def _named(self, prefix: str, usual: Tensor, rankseg: Tensor) -> dict[str, Tensor]:
        """Scores (2, C) of both rules, and their difference, by the names they are logged under."""
        classes = usual.shape[1]
        one = classes == 1 or gives_masks(self.rankseg)
        table = {"cut" if one else "argmax": usual, "rankseg": rankseg}
        first = int(not self.include_background and classes > 1)
        names = range(classes) if isinstance(self.per_class, bool) else self.per_class
        found: dict[str, Tensor] = {}
        for row, metric in enumerate(METRICS):
            means = {rule: scores[row, first:].nanmean() for rule, scores in table.items()}
            means["gain"] = means["rankseg"] - usual[row, first:].nanmean()
            found |= {f"{prefix}{metric}_{rule}": value for rule, value in means.items()}
            if self.per_class:
                each = {**table, "gain": rankseg - usual}
                for rule, scores in each.items():
                    for number, name in enumerate(names):
                        found[f"{prefix}{metric}_{rule}/{name}"] = scores[row, number]
        return found


def _checked_names(per_class: Any) -> bool | tuple[str, ...]:
    if isinstance(per_class, bool):
        return per_class
    names = tuple(per_class) if isinstance(per_class, (list, tuple)) else ()
    if not names or not all(isinstance(name, str) for name in names):
        raise TypeError(f"per_class must be True, False or names of classes; got {per_class!r}")
    return names
