"""RankSEG: a frozen configuration that decides masks and labels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from torch import Tensor, nn

from rankseg import operator, validation
from rankseg.calibrator import Calibrator
from rankseg.decision import decision_on, decision_on_tiles, rule_of_one_pass
from rankseg.fields.tiles import Here, Source
from rankseg.result import Segmentation
from rankseg.rule import DecisionRule
from rankseg.solvers import Settings, settings
from rankseg.unrolled import PASSES, UnrolledHead
from rankseg.valid_pixels import decision_for


class RankSEG(nn.Module):
    """Decide the mask or label map whose expected metric is largest.

    A module without parameters or state, its ``settings`` read-only; calling it, ``predict`` and
    :func:`rankseg.functional.rankseg` return the same tensor, ``solve`` the reasons as well.

    Parameters
    ----------
    metric : {'dice', 'iou', 'acc', 'fbeta', 'tversky'}, default 'dice'
        What to maximise. ``'acc'`` gives argmax labels and the 0.5 cut, which are optimal for it.
        F-beta weighs recall ``beta`` times as much as precision; the Tversky index counts false
        positives ``alpha`` (at most 1) and false negatives ``beta`` times. Dice is F-beta with 1
        and Tversky with 0.5 and 0.5, IoU is Tversky with 1 and 1.
    output_mode : {'multiclass', 'multilabel'}, default 'multiclass'
        One label per pixel, or one mask per class.
    solver : str, default 'RMA'
        ``'RMA'`` maximises the reciprocal moment approximation of the expected metric: exactly
        for each class, without sorting. ``'exact'`` maximises the expected metric itself;
        ``'auto'`` does so for classes of small expected volume and takes RMA for the others.
        ``'coupled'`` takes labels to move together in part, see ``coupling`` (Dice and IoU).
        ``'BA'``, ``'TRNA'`` and ``'BA+TRNA'`` maximise the refined normal approximations of Dai
        and Li (Dice and IoU). ``'argmax'`` (multiclass) and ``'TR'`` (multilabel, a fixed cut)
        are the usual rules, for comparison. Case does not matter.
    smooth : float >= 0, default 0
        Pixels added to the metric's numerator and denominator. Larger values favour empty masks
        for classes of small expected volume. Not for accuracy.
    pruning_prob : float in [0, 1] or a sequence of C of them, default 0.5
        A class whose largest probability in an image is at most this is taken to be absent from
        the image and skipped (``Segmentation.active`` tells). It decides whole classes: where
        probabilities are low everywhere, lower it; a sequence has a number for each class.
        Argmax, TR and accuracy skip nothing. It is compared in the type of ``probs``, as is
        ``threshold``.
    class_weights : sequence of C numbers >= 0, optional
        How much each class counts. Labels maximise the weighted sum of the classes' objectives,
        with ``metric='acc'`` exactly: each pixel goes to the largest w (p - 1/2). The masks of
        multilabel output and ``expected_score`` do not depend on weights, ``objective`` and
        ``bound`` do. Argmax ignores them.
    include_background : bool, default True
        False gives class 0 the weight 0: labels that are good for the other classes.
    empty : {0, 1, 'nan'}, default 0
        What a class scores that is absent from the labels and has an empty mask, 0/0. With 1 an
        empty mask is worth the probability that the class is absent, and chosen where no other is
        worth more. With 'nan' the class does not count there: masks are those of 0, and
        ``expected_score`` is that of images with the class. Smoothing gives 1 by itself.
    activation : {'none', 'softmax', 'sigmoid'}, default 'none'
        With ``'softmax'`` (over the classes) or ``'sigmoid'`` the input is logits. They become
        probabilities where they are read, in at least float32, without an array of their own
        size; masks are those of the probabilities but for differences of rounding, 1e-6.
    backend : {'auto', 'torch', 'numba', 'triton'}, default 'auto'
        What the passes over the pixels are made of. ``'auto'`` takes compiled passes where there
        are some for the device, else plain torch; one asked for by name works or raises. From
        probabilities all give the same result, bit for bit.
    aggregation : {'image', 'dataset'}, default 'image'
        Over which pixels the metric is taken: those of each image, or those of all images given
        together, as benchmarks do that sum counts over their data set (mIoU of Cityscapes, ADE20K).
        ``predict`` and ``solve`` then take the batch as one image (numbers per class are (1, C));
        for more than a batch, see ``decide``. RMA, coupled, argmax, TR and accuracy.
    calibrator : Calibrator, optional
        What the probabilities (or logits) go through first, fitted on labelled images by
        ``rankseg.evaluation.fit_calibrator``. It takes a copy of the input.
    **solver_params
        Labels: ``ignore_index`` (any int, default 255), the label of pixels that a ``valid_mask``
        leaves out. Labels, but for argmax: ``unassigned_policy`` ('max_score': a pixel that no
        class claims goes to the active class that gains most, 'void': it gets ``void_index``),
        ``void_index`` (int that is no class, default 255), ``assignment`` ('published': each pixel
        goes where it gains most after classes were decided alone; 'ascent': from there labels climb
        the sum of the classes' objectives, which never falls, at some twice the time). One channel
        has no unclaimed pixels. Coupled: ``coupling`` (0 to 1, default 0.5), the share of the
        expectation under comonotone labels, those above one uniform number for the whole image; the
        rest is that of RMA. BA, TRNA, BA+TRNA: ``eps`` (default 1e-4), the probability left out
        of the distribution of the label count. TR: ``threshold`` (default 0.5), a number, or one
        for each class. Metrics: ``beta`` (default 1) of F-beta; ``alpha`` and ``beta`` (default
        0.5) of Tversky; RMA, argmax and TR serve these two.

    Raises
    ------
    TypeError, ValueError
        On names, numbers or combinations that make no sense; the message lists what is possible.

    Notes
    -----
    Labels are taken to be independent given the probabilities, and the probabilities to be
    calibrated. Ties: a pixel is selected when its probability is strictly larger than the cut, so
    equal pixels share their fate, and the mask does not depend on pixel order, memory layout,
    batch or threads. Extra memory is a few megabytes beyond the result (plus one copy of an
    input whose spatial dimensions cannot be flattened as a view; from logits one row a thread, at
    most an eighth of the input in float32, and for a softmax over three classes or more two numbers
    a pixel). A network that ends in this module can be compiled
    (``torch.compile``) and exported (``torch.export``): ``predict`` is a single operator there.

    References
    ----------
    Dai and Li, "RankSEG: a consistent ranking-based framework for segmentation", JMLR 24(224),
    2023. Wang and Dai, the reciprocal moment approximation (RMA), NeurIPS 2025.

    Examples
    --------
    >>> import torch
    >>> probs = torch.tensor([[[0.9, 0.4, 0.3, 0.1]]])  # one image, one class, four pixels
    >>> RankSEG(metric="dice", output_mode="multilabel")(probs)
    tensor([[[ True,  True,  True, False]]])
    """

    def __init__(
        self,
        metric: str = "dice",
        output_mode: str = "multiclass",
        solver: str = "RMA",
        smooth: float = 0.0,
        pruning_prob: float | Sequence[float] = 0.5,
        *,
        class_weights: Sequence[float] | None = None,
        include_background: bool = True,
        empty: float | str = 0,
        activation: str = "none",
        backend: str = "auto",
        aggregation: str = "image",
        calibrator: Calibrator | None = None,
        **solver_params: Any,
    ) -> None:
        super().__init__()
        self._settings = settings(
            metric=metric,
            output_mode=output_mode,
            solver=solver,
            smooth=smooth,
            pruning_prob=pruning_prob,
            class_weights=class_weights,
            include_background=include_background,
            empty=empty,
            activation=activation,
            backend=backend,
            aggregation=aggregation,
            calibrator=calibrator,
            given=solver_params,
        )
        self._settings_text = operator.as_text(self._settings)

    @property
    def settings(self) -> Settings:
        """The checked configuration, read-only."""
        return self._settings

    def extra_repr(self) -> str:
        """Configuration as it would be written."""
        chosen = self._settings
        shown = {name: value for name, value in vars(chosen).items() if name != "parameters"}
        if chosen.calibrator is None:
            del shown["calibrator"]
        return ", ".join(f"{k}={v!r}" for k, v in [*shown.items(), *chosen.parameters])

    def __prepare_scriptable__(self) -> NoReturn:
        """Called by ``torch.jit.script``."""
        validation.refuse_script(self)

    def forward(self, probs: Tensor, valid_mask: Tensor | None = None) -> Tensor:
        """Same as ``predict``."""
        return self.predict(probs, valid_mask)

    def predict(self, probs: Tensor, valid_mask: Tensor | None = None) -> Tensor:
        """Decide every image of a batch.

        Parameters
        ----------
        probs : Tensor, shape (B, C, *spatial), float in [0, 1]
            Probability of each class at each pixel, one spatial dimension or more. Multiclass
            output does not need them to sum to one. Never modified. With an ``activation``:
            logits; -inf rules a class out.
        valid_mask : Tensor, bool (B, *spatial) or (B, 1, *spatial), optional
            False where pixels count for nothing: padding, void, nodata. Their values may be
            anything, NaN included; masks are False there, labels ``ignore_index``.

        Returns
        -------
        Tensor
            Labels int64 (B, *spatial), or masks bool (B, C, *spatial); on the input's device.
            One channel is binary: labels are then 0 and 1. A plain tensor, whatever subclass of
            it came in: metadata of images stays behind.

        Raises
        ------
        TypeError
            If ``probs`` is no dense floating-point tensor, or ``valid_mask`` not bool.
        ValueError
            If it has the wrong shape, or a value is NaN or outside [0, 1]; the message gives the
            range seen.

        Warns
        -----
        UserWarning
            If the values look as if softmax or sigmoid was applied twice, or as if the classes
            were on another axis than the second.
        """
        if operator.is_tracing(probs):
            return operator.predict(probs, self._settings_text, valid_mask)
        return decision_for(probs, self._settings, valid_mask).prediction()

    def solve(self, probs: Tensor, valid_mask: Tensor | None = None) -> Segmentation:
        """Decide, and say how good the result is expected to be.

        Takes what ``predict`` takes and costs one to a few passes over ``probs`` more.
        """
        if operator.is_tracing(probs):
            return operator.solve(probs, self._settings_text, valid_mask)
        return decision_for(probs, self._settings, valid_mask).segmentation()

    def head(self, passes: int = PASSES) -> UnrolledHead:
        """The decision of each image as a module of plain tensor operations, for export to ONNX.

        What is exported runs without this package. ``DecisionRule.head()`` is simpler and faster
        where one rule serves all images.

        Parameters
        ----------
        passes : int >= 1, default 8
            Passes over the pixels that look for each class's threshold. The mask gets better with
            each, never worse, until it is the best; the default is enough unless a class of less
            than a pixel's expected volume is to be decided. Smoothed Dice and F-beta take twice as
            many and four more.

        Returns
        -------
        UnrolledHead
            Called with what ``predict`` takes, and gives what it gives, but for ties and rounding
            in float64. Values are not checked.

        Raises
        ------
        TypeError, ValueError
            For solvers other than RMA, argmax and TR, ``aggregation='dataset'``, a backend other
            than 'auto' and 'torch', an isotonic calibrator, or a parameter of the metric that
            float32, in which ONNX holds it, makes zero or infinite.
        """
        return UnrolledHead(self._settings, passes)

    def decide(
        self, probs: Tensor | Iterable[Tensor] | Source, *, one_pass: bool = False
    ) -> DecisionRule:
        """One rule for all the pixels given, to be applied to any of them.

        Parameters
        ----------
        probs : Tensor, shape (B, C, *spatial), or re-iterable of such tensors
            Tiles of an image that is larger than memory, or the images of a data set: all are one
            image to the rule. Tiles are visited some four times (masks), five times (labels), ten
            times (the ascent) or once or twice a class more (smoothed Dice), one at a time, and
            may differ in everything but the number of classes and the type; their order, shapes
            and batches do not change the rule, bit for bit. The batch dimension is needed: three
            dimensions (C, H, W) would be read as (B, C, length). An object with a method
            ``reduce(ask)`` instead puts each question to its tiles wherever they are (see
            ``rankseg.Source``).
        one_pass : bool, default False
            Visit the tiles once, where reading them is what costs: masks by RMA (Dice and F-beta
            without smoothing, IoU, Tversky), from 4,096 bins of the probabilities. The rule's
            ``regret`` says how much more each class's best mask scores at most.

        Returns
        -------
        DecisionRule
            For one image in memory, ``decide(image).apply(image)`` is ``predict(image)``.

        Raises
        ------
        TypeError, ValueError
            As ``predict`` for each tile; if tiles disagree, change between visits, can be visited
            only once, or the solver needs all pixels of a class at once.
        """
        if isinstance(probs, Tensor):
            probs = validation.pixel_tensor(probs, self._settings.activation)
            if probs.shape[0] == 1 and not one_pass:
                return decision_on(probs, self._settings).decision_rule()
        source = _source(probs, one_pass)
        if one_pass:
            return rule_of_one_pass(source, self._settings)
        return decision_on_tiles(source, self._settings).decision_rule()


def _source(probs: Tensor | Iterable[Tensor] | Source, one_pass: bool) -> Source:
    if isinstance(probs, Source):
        return probs
    if isinstance(probs, Tensor):
        return Here(lambda: [probs])
    validation.tiles(probs, once=one_pass)
    return Here(lambda: validation.each_tile(probs))
