"""Settings of a decision: the numbers of each, and which go together."""

from __future__ import annotations

import math
from numbers import Real

from rankseg.validation.numbers import (
    count,
    number_at_least_zero,
    number_in_unit_interval,
    sequence,
)


def class_weights(value: object, include_background: object) -> tuple[float, ...] | None:
    """Return how much each class counts, None for all alike; some class does."""
    if value is None:
        return None
    numbers = sequence("class_weights", value, "None or a sequence of numbers >= 0")
    weights = tuple(number_at_least_zero("every class weight", number) for number in numbers)
    if not any(weights):
        raise ValueError(f"class_weights must have a number > 0; got {value!r}")
    if not math.isfinite(sum(weights)):
        raise ValueError(f"class_weights must have a finite sum; got {value!r}")
    if include_background is False and not any(weights[1:]):
        raise ValueError(
            f"class_weights={value!r} count class 0 only, which include_background=False leaves "
            "out: give another class a number > 0, or include the background"
        )
    return weights


def one_for_each_class(argument: str, numbers: object, classes: int) -> None:
    """Refuse a tuple of numbers of another length than there are classes."""
    if isinstance(numbers, tuple) and len(numbers) != classes:
        raise ValueError(
            f"{argument} has {count(len(numbers), 'number')}, "
            f"probs has {count(classes, 'class', 'classes')}: give one number for each class"
        )


def number_of_classes(got: int, wanted: int, whose: str) -> None:
    """Refuse pixels with another number of classes."""
    if got != wanted:
        raise ValueError(f"{whose} is for {count(wanted, 'class', 'classes')}; got {got}")


def background_leaves_a_class(include_background: bool, classes: int) -> None:
    """Refuse to leave out the only channel."""
    if not include_background and classes == 1:
        raise ValueError(
            "include_background=False leaves nothing of probs with one channel, which is the "
            "foreground: leave it out"
        )


def empty(value: object, metric: str, smooth: float) -> float | str:
    """Return 0, 1 or 'nan': the score of an absent class with an empty mask."""
    if isinstance(value, str):
        known = value == "nan"
    else:
        number = isinstance(value, Real) and not isinstance(value, bool)
        known = number and (value in (0, 1) or value != value)
    if not known:
        raise ValueError(f"empty must be 0, 1 or 'nan'; got {value!r}")
    if value != 0 and metric == "acc":
        raise ValueError(f"metric='acc' scores absent classes like others; got empty={value!r}")
    if value != 0 and smooth > 0:
        raise ValueError(
            f"smooth={smooth:g} already gives an absent class with an empty mask the score 1; got "
            f"empty={value!r}: leave one of them 0"
        )
    return int(value) if value in (0, 1) else "nan"


def smooth(value: object, metric: str) -> float:
    """Return the smoothing; accuracy has none."""
    number = number_at_least_zero("smooth", value)
    if number > 0.0 and metric == "acc":
        raise ValueError(f"metric='acc' has no smoothing; got smooth={value!r}: leave it 0")
    return number


def recall_weight(beta: object) -> float:
    """Return the beta of F-beta or Tversky; beyond a million, missed pixels are all that counts."""
    number = number_at_least_zero("beta", beta)
    if number > 1e6:
        raise ValueError(f"beta must be at most 1e6; got {beta!r}")
    return number


def tversky_weights(alpha: float, beta: float) -> None:
    """Refuse a Tversky index that no mistake can lower."""
    if alpha == beta == 0.0:
        raise ValueError("metric='tversky' with alpha=0 and beta=0 is 1 for every mask")


def coupling_of(method: str, value: object) -> float:
    """Return the coupling of a method of ``expected_score``; 0 for those that know none."""
    if method == "coupled":
        return 0.5 if value is None else number_in_unit_interval("coupling", value)
    if value is not None:
        raise ValueError(
            f"coupling is a parameter of method='coupled'; got method={method!r}: leave it out"
        )
    return 0.0


def void_index_is_used(given: bool, policy: str) -> None:
    """Refuse a void label under a policy that never writes it."""
    if given and policy != "void":
        raise ValueError(
            f"void_index is written only with unassigned_policy='void'; got {policy!r}: "
            "set the policy or leave void_index out"
        )


def void_index_is_no_class(void_index: int, classes: int) -> None:
    """Refuse a void label that could not be told from a class."""
    if 0 <= void_index < classes:
        raise ValueError(
            f"void_index={void_index} is also the label of one of the {classes} classes; "
            f"pass void_index=-1 or one of at least {classes}"
        )


def void_has_unclaimed_pixels(metric: str, policy: str) -> None:
    """Refuse the void policy where every pixel gets its most probable class."""
    if metric == "acc" and policy == "void":
        raise ValueError(
            "unassigned_policy='void' makes no sense with metric='acc', whose labels are argmax"
        )
