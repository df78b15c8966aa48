"""An ``nnUNetPredictor`` that decides by RankSEG."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

from rankseg_integrations._common import require
from rankseg_integrations.nnunet.managers import (
    RankSEGLabelManager,
    RankSEGPlansManager,
    undecided,
)

Predictor = TypeVar("Predictor")


def use_rankseg(predictor: Predictor, metric: str = "dice", **options: Any) -> Predictor:
    """Let an ``nnUNetPredictor`` decide by RankSEG, in all its ``predict_...`` methods.

    Resampling, cropping, export and saved probabilities stay nnU-Net's; each image is decided as
    a whole, the surely empty part that nnU-Net cuts away included, so that results are those of
    `segment_folders`. Calling it again replaces the options.

    Parameters
    ----------
    predictor : nnUNetPredictor
        Initialised from a trained model. Changed in place.
    metric : str, default 'dice'
        What to maximise; ``'acc'`` gives nnU-Net's own segmentation, bit for bit.
    **options
        Of `rankseg.RankSEG`: ``solver``, ``pruning_prob``, ``assignment`` and so on. The output
        mode is given by the data set: labels of classes, masks of regions.

    Returns
    -------
    nnUNetPredictor
        The same object.

    Raises
    ------
    ImportError
        If nnU-Net is not installed; one line with the pip command.
    TypeError, ValueError
        If `predictor` is none or has no model yet, or for options that make no sense.

    Notes
    -----
    Probabilities that are NaN end the run with a ValueError that names the image, as any error
    in nnU-Net's export processes does. A folder of saved probabilities carries on.
    """
    module = require("nnunetv2.inference.predict_from_raw_data", extra="nnunet")
    if not isinstance(predictor, module.nnUNetPredictor):
        raise TypeError(f"predictor must be an nnUNetPredictor, got {type(predictor).__name__}")
    untyped: Any = predictor  # as the guest is
    if untyped.label_manager is None:
        raise ValueError(
            "the predictor has no model yet: call initialize_from_trained_model_folder first"
        )
    for name in _Hooks.methods:
        vars(untyped).pop(name, None)  # of an earlier call
    hooks = _Hooks(untyped, {"metric": metric, **options})
    hooks.decide_for(None, None)  # refuses options that make no sense
    for name in _Hooks.methods:
        setattr(untyped, name, getattr(hooks, name))
    return predictor


class _Hooks:
    """The two methods in which nnU-Net hands its managers on, and each image's size is known.

    Managers are made anew for each image: those of earlier ones may still wait to be sent.
    """

    methods = ("predict_from_data_iterator", "predict_single_npy_array")

    def __init__(self, predictor: Any, options: dict[str, Any]) -> None:
        self.predictor = predictor
        self.options = options
        self.plain = {name: getattr(predictor, name) for name in self.methods}

    def decide_for(self, shape: Sequence[int] | None, file: str | None) -> None:
        """Give the predictor managers for one image."""
        pixels = None if shape is None else math.prod(map(int, shape))
        decision = (self.options, pixels, None if file is None else os.path.basename(file))
        plain = undecided(self.predictor.label_manager)
        self.predictor.label_manager = RankSEGLabelManager(plain, *decision)
        plans = undecided(self.predictor.plans_manager)
        self.predictor.plans_manager = RankSEGPlansManager(plans, *decision)

    def predict_from_data_iterator(
        self, data_iterator: Iterable[dict[str, Any]], *args: Any, **kwargs: Any
    ) -> Any:
        """Take what nnU-Net's method takes."""
        try:
            return self.plain["predict_from_data_iterator"](
                self._each(data_iterator), *args, **kwargs
            )
        finally:
            if hasattr(data_iterator, "_finish"):  # nnU-Net ends workers of iterators it knows
                data_iterator._finish()

    def _each(self, data_iterator: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for item in data_iterator:
            self.decide_for(item["data_properties"]["shape_before_cropping"], item["ofile"])
            yield item

    def predict_single_npy_array(self, input_image: Any, *args: Any, **kwargs: Any) -> Any:
        """Take what nnU-Net's method takes."""
        self.decide_for(input_image.shape[1:], kwargs.get("output_file_truncated"))
        return self.plain["predict_single_npy_array"](input_image, *args, **kwargs)
