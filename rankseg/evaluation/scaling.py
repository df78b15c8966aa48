"""Slopes and offsets by Newton's method, with sums over images that are visited once a step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from rankseg.calibrator import Calibrator
from rankseg.evaluation.images import Images
from rankseg.evaluation.pairs import Image

SLOPES = (0.02, 50.0)
PRIOR = 1.0
"""Pixels that the prior, slope 1 and offset 0, is worth."""
STEPS = 25
SMALL = 1e-4
"""A step in no number larger than this ends the search."""
CHUNK = 1 << 22
"""Values worked on at once: 16 MB in float32."""


@dataclass
class Sums:
    """Loss (negative log likelihood), its gradient and its second derivatives, float64."""

    loss: Tensor
    gradient: Tensor
    curvature: Tensor

    @classmethod
    def zero(cls, numbers: int) -> Sums:
        """Sums of nothing."""
        shapes = ((), (numbers,), (numbers, numbers))
        return cls(*(torch.zeros(shape, dtype=torch.float64) for shape in shapes))

    def add(self, other: Sums) -> None:
        """Add another part's."""
        self.loss += other.loss
        self.gradient += other.gradient
        self.curvature += other.curvature


@dataclass(frozen=True)
class Form:
    """Which numbers are fitted, for C classes.

    Attributes
    ----------
    method : {'temperature', 'class_temperature', 'vector'}
    classes : int
    softmax : bool
        One softmax over the classes; else a sigmoid for each.
    """

    method: str
    classes: int
    softmax: bool

    @property
    def start(self) -> Tensor:
        """Numbers that change nothing: slopes 1, offsets 0."""
        many = 1 if self.method == "temperature" else self.classes
        slope = torch.ones(many, dtype=torch.float64)
        offset = torch.zeros(self.classes, dtype=torch.float64)
        return torch.cat([slope, offset]) if self.method == "vector" else slope

    def line(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Slope and offset of every class, (C,) each."""
        if self.method == "vector":
            slope, offset = numbers.chunk(2)
            return slope, offset
        return numbers.expand(self.classes), torch.zeros(self.classes, dtype=torch.float64)

    def reduced(self, sums: Sums) -> Sums:
        """Sums for the numbers fitted, of those for C slopes and C offsets."""
        if self.method == "vector":
            return sums
        c = self.classes
        gradient, curvature = sums.gradient[:c], sums.curvature[:c, :c]
        if self.method == "temperature":
            gradient, curvature = gradient.sum()[None], curvature.sum()[None, None]
        return Sums(sums.loss, gradient, curvature)

    def calibrator(self, numbers: Tensor) -> Calibrator:
        """What was fitted."""
        slope, offset = (tuple(values.tolist()) for values in self.line(numbers))
        if self.softmax:  # a constant changes nothing
            offset = tuple(value - offset[0] for value in offset)
        return Calibrator("softmax" if self.softmax else "sigmoid", slope, offset)


def fit(images: Images, method: str, folds: int, fold_of: Callable[[str], int]) -> list[Calibrator]:
    """As ``calibration.fit``."""
    classes = next((probs.shape[1] for _, probs in images.with_probabilities()), None)
    if classes is None:
        raise ValueError("there is no image to fit a calibrator on")
    form = Form(method, classes, softmax=not images.masks and classes > 1)
    whole = _newton(images, form, [form.start], lambda name, place: True)
    # Without a fold little changes: the search begins where that of all images ended.
    left_out = _newton(images, form, whole * folds, lambda name, place: fold_of(name) != place)
    return [form.calibrator(numbers) for numbers in whole + left_out]


def _newton(
    images: Images, form: Form, starts: list[Tensor], takes: Callable[[str, int], bool]
) -> list[Tensor]:
    """Numbers of least loss; each search goes over the images that it takes."""
    numbers = [start.clone() for start in starts]
    before: list[tuple[Tensor, Tensor] | None] = [None] * len(starts)
    open_searches = set(range(len(starts)))
    for _ in range(STEPS):
        if not open_searches:
            break
        sums = {place: Sums.zero(len(form.start)) for place in open_searches}
        for image, probs in images.with_probabilities():
            for place in open_searches:
                if takes(image.name, place):
                    sums[place].add(_sums(image, probs, form, numbers[place]))
        for place in list(open_searches):
            found = _with_prior(sums[place], numbers[place], form.start)
            last = before[place]
            if last is not None and found.loss > last[0]:
                numbers[place] = (numbers[place] + last[1]) / 2  # too far
                done = bool((numbers[place] - last[1]).abs().max() < SMALL)
            else:
                step = torch.linalg.solve(found.curvature, found.gradient)
                before[place] = (found.loss, numbers[place])
                numbers[place] = _within(numbers[place] - step, form)
                done = bool(step.abs().max() < SMALL)
            if done:
                open_searches.discard(place)
    return numbers


def _with_prior(sums: Sums, numbers: Tensor, start: Tensor) -> Sums:
    away = numbers - start
    return Sums(
        sums.loss + PRIOR / 2 * (away**2).sum(),
        sums.gradient + PRIOR * away,
        sums.curvature + PRIOR * torch.eye(len(numbers), dtype=torch.float64),
    )


def _within(numbers: Tensor, form: Form) -> Tensor:
    slopes = 1 if form.method == "temperature" else form.classes
    return torch.cat([numbers[:slopes].clamp(*SLOPES), numbers[slopes:]])


def _sums(image: Image, probs: Tensor, form: Form, numbers: Tensor) -> Sums:
    """Sums over one image."""
    found = Sums.zero(len(numbers))
    slope, offset = (values.to(probs)[:, None] for values in form.line(numbers))
    for p, truth, counted in _chunks(image, probs, form.softmax):
        part = _softmax if form.softmax else _sigmoid
        found.add(form.reduced(part(p, truth, counted, slope, offset)))
    return found


def _chunks(
    image: Image, probs: Tensor, softmax: bool
) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """Pixels of an image, part by part: p (C, n), truth (n,) or (C, n), and what counts."""
    p = probs[0].flatten(1)
    truth, counted = image.truth[0], image.counts
    if image.masks or not softmax:  # labels of one channel are a mask
        truth = truth.reshape(p.shape)
        counted = None if counted is None else counted[0].reshape(p.shape)
    else:
        truth = truth.flatten()
        counted = None if counted is None else counted.flatten()
    size = max(1, CHUNK // len(p))
    for first in range(0, p.shape[1], size):
        here = slice(first, first + size)
        yield p[:, here], truth[..., here], None if counted is None else counted[..., here]


def _softmax(
    p: Tensor, truth: Tensor, counted: Tensor | None, slope: Tensor, offset: Tensor
) -> Sums:
    """Sums of -log softmax(slope log p + offset) at the true class."""
    possible = p.gather(0, truth[None])[0] > 0
    keep = possible if counted is None else possible & counted
    if not bool(keep.all()):
        p, truth = p[:, keep], truth[keep]
    log = p.clamp_min(torch.finfo(p.dtype).tiny).log()
    z = (log * slope + offset).masked_fill_(p == 0, -torch.inf)
    chosen = z.log_softmax(0)
    q = chosen.exp()
    loss = -chosen.gather(0, truth[None]).sum(dtype=torch.float64)
    wrong = q.scatter_add(0, truth[None], -torch.ones_like(q[:1]))
    ql = q * log
    gradient = [(wrong * log).sum(1, dtype=torch.float64), wrong.sum(1, dtype=torch.float64)]
    diagonal = [(ql * log).sum(1), ql.sum(1), q.sum(1)]
    blocks = [ql @ ql.T, ql @ q.T, q @ q.T]
    ss, sb, bb = (torch.diag(total) - block for total, block in zip(diagonal, blocks, strict=True))
    return _together(loss, gradient, ss, sb, bb)


def _sigmoid(
    p: Tensor, truth: Tensor, counted: Tensor | None, slope: Tensor, offset: Tensor
) -> Sums:
    """Sums of the binary cross entropy of sigmoid(slope logit p + offset), each class alone."""
    weight = ((p > 0) & (p < 1)).to(p)
    if counted is not None:
        weight *= counted
    x = torch.where(weight > 0, torch.logit(p), 0.0)
    z, y = x * slope + offset, truth.to(p)
    q = z.sigmoid()
    loss = ((torch.nn.functional.softplus(z) - y * z) * weight).sum(dtype=torch.float64)
    wrong, bend = (q - y) * weight, q * (1 - q) * weight
    gradient = [(wrong * x).sum(1, dtype=torch.float64), wrong.sum(1, dtype=torch.float64)]
    ss, sb, bb = (torch.diag((bend * x**power).sum(1)) for power in (2, 1, 0))
    return _together(loss, gradient, ss, sb, bb)


def _together(loss: Tensor, gradient: list[Tensor], ss: Tensor, sb: Tensor, bb: Tensor) -> Sums:
    upper, lower = torch.cat([ss, sb], 1), torch.cat([sb.T, bb], 1)
    return Sums(loss.cpu(), torch.cat(gradient).cpu(), torch.cat([upper, lower]).double().cpu())
