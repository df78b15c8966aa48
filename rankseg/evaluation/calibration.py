"""Calibrators fitted on labelled images: temperature, vector scaling, isotonic."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from rankseg import validation
from rankseg.calibrator import Calibrator
from rankseg.evaluation import isotonic, scaling
from rankseg.evaluation.images import Images

METHODS = ("temperature", "class_temperature", "vector", "isotonic")


def fit_calibrator(
    pairs: Iterable[Any],
    method: str = "temperature",
    *,
    output_mode: str | None = None,
    activation: str = "none",
    ignore_index: int | None = None,
    on_error: str = "raise",
) -> Calibrator:
    """Calibrator under which the labels are most likely, by all pixels of all images.

    Parameters
    ----------
    pairs, output_mode, activation, ignore_index, on_error
        As for ``evaluate``. Pairs are visited several times (isotonic: once), and must be images
        that the model was not trained on.
    method : {'temperature', 'class_temperature', 'vector', 'isotonic'}, default 'temperature'
        One temperature for all classes; one for each; a temperature and an offset for each (vector
        scaling for labels, Platt scaling for masks); or, for each class, any rising function, which
        wants many images and classes that are not rare.

    Returns
    -------
    Calibrator
        For ``RankSEG(calibrator=...)``; ``save`` writes it as JSON.

    Raises
    ------
    TypeError, ValueError
        As ``evaluate``.
    ImportError
        For isotonic without scikit-learn.

    Notes
    -----
    Labels share one softmax and masks have a sigmoid each. Newton's method maximises the
    likelihood, with a prior worth one pixel that keeps a perfect model finite; slopes stay within
    0.02 and 50. A pixel whose true class has probability 0 is left out: no temperature helps it. A
    class that is nowhere, or everywhere, keeps its probabilities under isotonic calibration.

    References
    ----------
    Guo et al., "On calibration of modern neural networks", ICML 2017. Platt, "Probabilistic
    outputs for support vector machines", 1999. Zadrozny and Elkan, KDD 2002; the points between
    which lines are drawn are the centres of the pooled blocks: Oron and Flournoy, "Centered
    isotonic regression", Statistics in Biopharmaceutical Research 9(3), 2017.
    """
    images = Images.of(pairs, output_mode, activation, ignore_index, on_error)
    return fit(images, method, folds=0, fold_of=_never)[0]


def fit(images: Images, method: str, folds: int, fold_of: Callable[[str], int]) -> list[Calibrator]:
    """Calibrator of all images, followed by those that leave one fold out each.

    Parameters
    ----------
    images : Images
    method : str
        One of ``METHODS``.
    folds : int
    fold_of : function
        From an image's name to the number of its fold.
    """
    method = validation.choice("method", method, METHODS)
    if method == "isotonic":
        return isotonic.fit(images, folds, fold_of)
    return scaling.fit(images, method, folds, fold_of)


def _never(name: str) -> int:
    return -1
