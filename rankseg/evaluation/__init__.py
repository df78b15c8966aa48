"""Does it help? Evaluate on labelled images, calibrate, and choose by cross-validation."""

from rankseg.evaluation.bootstrap import Estimate
from rankseg.evaluation.calibration import fit_calibrator
from rankseg.evaluation.comparison import evaluate
from rankseg.evaluation.report import write_report
from rankseg.evaluation.result import Contender, Difference, Evaluation, Example
from rankseg.evaluation.tuned import Result, TunedRankSEG
from rankseg.evaluation.tuning import tune

__all__ = [
    "Contender",
    "Difference",
    "Estimate",
    "Evaluation",
    "Example",
    "Result",
    "TunedRankSEG",
    "evaluate",
    "fit_calibrator",
    "tune",
    "write_report",
]
