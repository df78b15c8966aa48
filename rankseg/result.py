"""What a solver returns besides the mask: how good it expects the mask to be, and why."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Segmentation:
    """A decided mask with the numbers behind it; a row is one (image, class) pair.

    Attributes
    ----------
    prediction : Tensor
        Labels int64 (B, *spatial) for multiclass, masks bool (B, C, *spatial) for multilabel.
    expected_score : Tensor, float64 (B, C)
        Objective of each row's final region: the solver's approximation of the expected metric,
        0 to 1, larger is better. It is as trustworthy as the probabilities are calibrated. With
        ``empty='nan'``: the expectation given that the class is there; NaN where it cannot be.
    threshold : Tensor, float64 (B, C)
        The cut each class was decided at on its own: a pixel is claimed when its probability is
        strictly larger. 1.0 claims nothing; NaN where the rule has no cut (``argmax``).
    volume : Tensor, int64 (B, C)
        Pixels in each row's final region.
    exact : Tensor, bool (B, C)
        Whether ``expected_score`` is the exact expectation (under independent labels) rather than
        an approximation of it: tells which rows ``solver='auto'`` scored, and if active decided,
        exactly.
    active : Tensor, bool (B, C)
        False where the class was skipped because its largest probability is at most
        ``pruning_prob``.
    objective : Tensor, float64 (B,)
        Sum of ``expected_score`` over the classes, each times its weight; with ``empty='nan'``
        also times the probability that the class is there (one that does not count adds nothing).
    bound : Tensor, float64 (B,)
        No prediction that uses the same classes has a larger ``objective`` (up to rounding): the
        sum over classes of the best score each could have alone, times its weight. The distance to
        it is what disagreement between the classes has cost at most.
    """

    prediction: Tensor
    expected_score: Tensor
    threshold: Tensor
    volume: Tensor
    exact: Tensor
    active: Tensor
    objective: Tensor
    bound: Tensor
