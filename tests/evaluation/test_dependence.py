"""``tune`` finds the coupling that labels have: none, in blocks, or all of an image together."""

import pytest
import torch
from simulated import masks_of, smooth_logits

from rankseg.evaluation import tune

RIGHT = {
    "independent": ("RMA", "coupled 0.25"),
    "block": ("RMA", "coupled 0.25", "coupled 0.5"),
    "comonotone": ("coupled 0.75", "coupled 1"),
}


def scores(dependence: str, images: int):
    generator = torch.Generator().manual_seed(0)
    pairs = []
    for index in range(images):
        probs = (smooth_logits(generator, 1, 24, scale=1.2) - 1.2).sigmoid()
        pairs.append((probs, masks_of(probs, generator, dependence), str(index)))
    tuned = tune(
        pairs,
        "dice",
        solvers=("RMA",),
        calibrations=("none",),
        options={"pruning_prob": 0.0},
        empty=0,
    )
    return tuned, {one.name: one for one in tuned.results_}


@pytest.mark.slow
@pytest.mark.parametrize("dependence", RIGHT)
def test_the_matching_coupling_is_found(dependence):
    tuned, found = scores(dependence, images=400)
    assert tuned.best_name_ in RIGHT[dependence], tuned.verdict
    assert tuned.expected_gain_.low > 0, "better than 0.5 by more than the noise"
    ahead = found["coupled 1"].score.value - found["RMA"].score.value
    assert ahead > 0 if dependence == "comonotone" else ahead < 0


def test_independent_labels_want_no_full_coupling():
    tuned, found = scores("independent", images=60)
    apart = found["RMA"].difference.value - found["coupled 1"].difference.value
    assert apart > 0.005
    assert tuned.best_name_ in ("RMA", "coupled 0.25", "coupled 0.5")
