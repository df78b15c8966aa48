"""What a reader must know beside the numbers, in sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping

from rankseg.evaluation.comparison import EXAMPLES
from rankseg.evaluation.result import FEWEST, NAMES, Evaluation

ROUGH = 30
"""Groups of images below which intervals of the bootstrap are a little too short."""
OFF = 0.1
"""Share by which a class is predicted too often or too rarely, from which it is said."""


def of_files(
    alone: Mapping[str, str], lacking: Mapping[str, float]
) -> dict[str, Mapping[str, str]]:
    """Lists of names for the report: files without a partner, images that lack data."""
    return {
        "Files without a partner": alone,
        "Images with pixels that have no data": {
            name: f"{100 * share:.3g} % of the pixels are left out"
            for name, share in lacking.items()
        },
    }


def of_evaluation(found: Evaluation) -> list[str]:
    """What makes numbers less sure than they look."""
    said = []
    if found.skipped:
        many = len(found.skipped)
        images = "1 image is" if many == 1 else f"{many:,} images are"
        said.append(f"{images} not counted, each for the reason given at the end.")
    if FEWEST <= found.groups < ROUGH:
        said.append(
            f"{found.groups} images or groups are few: intervals are rough and rather too short."
        )
    return said + _of_classes(found)


def _of_classes(found: Evaluation) -> list[str]:
    said = []
    true = found.reliability.true_share.tolist()
    expected = found.reliability.expected_share.tolist()
    there = [name for name, share in zip(found.class_names, true, strict=True) if share > 0]
    absent = [name for name in found.class_names if name not in there]
    if len(found.class_names) > 1 and not found.conventions.masks and len(there) == 1:
        said.append(f"All counted pixels are {there[0]}: nothing can be said of other classes.")
    elif absent:
        words = "is" if len(absent) == 1 else "are"
        said.append(f"{', '.join(absent)} {words} in no image.")
    for name, share, sum_of_probs in zip(found.class_names, true, expected, strict=True):
        off = sum_of_probs / share - 1 if share > 0 else 0.0
        if abs(off) >= OFF:
            word = "more" if off > 0 else "less"
            said.append(
                f"The model expects {100 * abs(off):.0f} % {word} {name} than there is: "
                "calibrate it first (rankseg calibrate)."
            )
    return said


def conventions(found: Evaluation) -> list[str]:
    """What the numbers are, in words."""
    how = found.conventions
    what = "masks, one for each class" if how.masks else "labels, one for each pixel"
    empty = {
        "nan": "does not count",
        0: "scores 0",
        1: "scores 1",
    }[how.empty if isinstance(how.empty, str) else int(how.empty)]
    return [
        f"Predictions are {what}.",
        "Mean over images: in each image the mean over its classes, then over images. All images "
        "together: counts are summed over all images, then scored, then averaged over classes.",
        "Class 0 counts in means over classes."
        if how.include_background
        else "Class 0 does not count in means over classes.",
        f"A class that an image neither has nor gets {empty}.",
        "Accuracy is the share of all pixels that are right.",
        "Intervals hold the true value 95 times in 100, for new images or groups of the same "
        "kind (Poisson bootstrap).",
    ]


def reading(found: Evaluation) -> list[str]:
    """How to read the report."""
    name = NAMES.get(found.metric, found.metric)
    return [
        f"The verdict is about {name}. Contenders are compared image by image, so a small "
        "difference can be sure although scores vary much between images.",
        "An interval that holds 0 means that these images cannot tell. It does not mean that "
        "there is no difference.",
        "RankSEG gains where probabilities are right on average. A curve of the reliability "
        "diagrams below the diagonal means that a class is less frequent than the model says.",
        f"Best and worst images are the {EXAMPLES} of either kind at most: losses are shown like "
        "gains.",
    ]


def tone(low: float, high: float, groups: int) -> str:
    """Whether a verdict is a gain, a reason to keep the baseline, or neither."""
    if groups < FEWEST or math.isnan(low):
        return "unsure"
    return "gain" if low > 0 else "keep" if high < 0 else "unsure"
