"""One batch is decided; samples that are not numbers are told apart from the others."""

from __future__ import annotations

import torch
from torch import Tensor

from rankseg_integrations._common import activate
from rankseg_integrations._lightning.options import Decision, activation_of, left_out_label


def decide(decision: Decision, values: Tensor, where: str) -> tuple[Tensor, dict[int, str]]:
    """Decide a batch.

    Parameters
    ----------
    decision : RankSEG or DecisionRule
        How.
    values : Tensor, shape (B, C, *spatial)
        Probabilities, or the logits that the decision takes.
    where : str
        For messages.

    Returns
    -------
    Tensor
        Labels int64 (B, *spatial) or masks bool (B, C, *spatial).
    dict
        Why a sample could not be decided, by its place in the batch: NaN. Its labels are those of
        pixels left out (`ignore_index`, the rule's `void_index`), its masks empty.

    Raises
    ------
    TypeError, ValueError
        For anything else, with the place.
    """
    try:
        return decision(values), {}
    except (TypeError, ValueError) as error:
        bad = _not_numbers(values, activation_of(decision))
        if not bad:
            raise type(error)(f"{where}: {error}") from error
    good = [number for number in range(len(values)) if number not in bad]
    return _spread(_decided(decision, values[good], where), good, len(values), decision), bad


def _decided(decision: Decision, values: Tensor, where: str) -> Tensor:
    try:
        return decision(values)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{where}: {error}") from error


def _spread(some: Tensor, good: list[int], size: int, decision: Decision) -> Tensor:
    """Predictions of some samples in a batch of all."""
    everything = some.new_full((size, *some.shape[1:]), left_out_label(decision))
    everything[good] = some
    return everything


def _not_numbers(values: Tensor, activation: str) -> dict[int, str]:
    """Samples with a NaN after the activation."""
    if values.ndim < 3 or not values.is_floating_point() or values.layout != torch.strided:
        return {}
    if activation == "softmax" and values.shape[1] == 1:
        return {}
    broken = activate(values, activation).isnan().flatten(1).sum(1).tolist()
    what = "probabilities" if activation == "none" else f"probabilities after {activation}"
    return {
        number: f"{count} of its {values[number].numel()} {what} are NaN"
        for number, count in enumerate(broken)
        if count
    }
