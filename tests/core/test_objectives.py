"""Objectives against their definitions: gains are differences of values."""

import pytest
import torch

from rankseg.objectives import Accuracy, Dice, IoU, objective_for


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("metric", ["dice", "iou"])
@pytest.mark.parametrize("smooth", [0.0, 0.5, 20.0])
@pytest.mark.parametrize("p", [0.0, 0.2, 1.0])
def test_gain_is_the_difference_of_two_objectives(metric, smooth, p):
    mu, s, v = tensor(9.0), tensor(3.2), tensor(5.0)
    objective = objective_for(metric, mu, smooth, 50, {})
    gain = objective.gain(s, v)
    found = (gain.slope * p - gain.offset) / (1 - gain.bend * p)
    expected = objective.value(s + p, v + 1) - objective.value(s, v)
    assert found.item() == pytest.approx(expected.item(), rel=1e-10)


@pytest.mark.parametrize("smooth", [0.0, 1.0, 40.0])
@pytest.mark.parametrize(
    ("metric", "parameters"),
    [("dice", {}), ("iou", {}), ("fbeta", {"beta": 2.0}), ("tversky", {"alpha": 0.2, "beta": 0.9})],
)
def test_tangent_is_the_derivative(metric, parameters, smooth):
    s = tensor(3.2).requires_grad_()
    v = tensor(5.0).requires_grad_()
    objective = objective_for(metric, tensor(9.0), smooth, 50, parameters)
    objective.value(s, v).sum().backward()
    tangent = objective.tangent(s.detach(), v.detach())
    assert tangent.slope.item() == pytest.approx(s.grad.item(), rel=1e-12)
    assert tangent.offset.item() == pytest.approx(-v.grad.item(), rel=1e-12)
    assert tangent.bend.item() == 0


def test_accuracy_gain_is_the_difference_too():
    objective = Accuracy(tensor(9.0), 50)
    gain = objective.gain(tensor(3.2), tensor(5.0))
    difference = objective.value(tensor(3.9), tensor(6.0)) - objective.value(
        tensor(3.2), tensor(5.0)
    )
    found = (gain.slope * 0.7 - gain.offset) / (1 - gain.bend * 0.7)
    assert found.item() == pytest.approx(difference.item(), rel=1e-10)


@pytest.mark.parametrize("kind", [Dice, IoU])
def test_nothing_over_nothing_is_zero(kind):
    objective = kind(tensor(0.0))
    assert objective.value(tensor(0.0), tensor(0.0)).item() == 0.0
    assert kind(tensor(0.0), 1.0).value(tensor(0.0), tensor(0.0)).item() == 1.0


def test_written_out_by_hand():
    mu, s, v = tensor(4.0), tensor(1.5), tensor(2.0)
    assert Dice(mu).value(s, v).item() == pytest.approx(3 / 7)
    assert Dice(mu, 1.0).value(s, v).item() == pytest.approx(3 / 8 + 1 / 7)
    assert IoU(mu).value(s, v).item() == pytest.approx(1.5 / 4.5)
    assert IoU(mu, 1.0).value(s, v).item() == pytest.approx(2.5 / 5.5)
    assert Accuracy(mu, 10).value(s, v).item() == pytest.approx(7 / 10)
