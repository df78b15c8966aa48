"""Choose the segmentation mask whose expected Dice or IoU is largest.

``RankSEG(metric="dice")(probs)`` replaces ``probs.argmax(1)``; everything public is named here.
"""

from rankseg.api import RankSEG
from rankseg.calibrator import Calibrator
from rankseg.fields.tiles import Mergeable, Source
from rankseg.result import Segmentation
from rankseg.rule import DecisionRule
from rankseg.scoring import expected_score

__all__ = [
    "Calibrator",
    "DecisionRule",
    "Mergeable",
    "RankSEG",
    "Segmentation",
    "Source",
    "__version__",
    "expected_score",
]
__version__ = "0.1.0"
