"""Predictions are decided while the trainer predicts."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from torch import Tensor
from typing_extensions import Unpack

from rankseg_integrations._common import describe, yes_or_no
from rankseg_integrations._lightning.batch import decide
from rankseg_integrations._lightning.options import Decision, PredictOptions, configured
from rankseg_integrations._lightning.outputs import (
    check_key,
    check_text,
    exchanged,
    place,
    scores_in,
)
from rankseg_integrations._lightning.trainer import check_framework
from rankseg_integrations._lightning.writing import Writes


class Decides:
    """Decide predictions: ``trainer.predict`` returns labels or masks, not probabilities.

    ``predict_step`` may return a tensor (it becomes the prediction), a tuple or list (the entry at
    `key` becomes the prediction), a dict (the prediction is added to it under `output_key`), or
    None (left alone). In a dict the prediction is there for callbacks listed later, and for what
    ``trainer.predict`` returns. What a callback puts in the place of a tensor or a tuple, Lightning
    throws away; these are decided as soon as ``predict_step`` returns them, for everyone.

    Parameters
    ----------
    key : str or int, default 'probs'
        Where the probabilities are in a dict (str) or tuple (int), shape (B, C, *spatial); logits
        with ``activation='softmax'`` or ``'sigmoid'``. Any floating-point type.
    output_key : str, default 'prediction'
        Where the prediction goes in a dict; may be `key` itself.
    drop_probs : bool, default False
        Take the probabilities out of a dict once they are decided. ``trainer.predict`` keeps what
        steps return, and probabilities are most of it.
    rankseg : RankSEG, DecisionRule or path, optional
        What decides, instead of options; a path is that of a saved rule.
    **options
        Passed to `rankseg.RankSEG`: ``metric``, ``output_mode``, ``solver`` and so on.

    Raises
    ------
    TypeError, ValueError
        At once: for options that `rankseg.RankSEG` refuses. From the trainer: if it belongs to the
        other namespace; if a writer of batches is listed before this; if an entry is missing,
        present under `output_key` already, or no probabilities. A sample with NaN is named; if a
        `RankSEGWriter` follows, it writes the others and raises at the end.
    """

    framework: ClassVar[ModuleType]

    def __init__(
        self,
        key: str | int = "probs",
        output_key: str = "prediction",
        *,
        drop_probs: bool = False,
        rankseg: Decision | str | Path | None = None,
        **options: Unpack[PredictOptions],
    ) -> None:
        super().__init__()
        self.key = check_key("key", key)
        self.output_key = check_text("output_key", output_key)
        self.drop_probs = yes_or_no("drop_probs", drop_probs)
        self.rankseg = configured(rankseg, options)
        self._where = ""
        self._step: Step | None = None

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Refuse a foreign trainer, and writers that would see probabilities."""
        check_framework(self, self.framework, trainer)
        super().setup(trainer, pl_module, stage)  # type: ignore[misc]
        if stage == "predict":
            self._come_before_writers(trainer)

    def _come_before_writers(self, trainer: Any) -> None:
        writer = self.framework.callbacks.BasePredictionWriter
        for callback in trainer.callbacks[: trainer.callbacks.index(self)]:
            if isinstance(callback, writer) and callback.interval.on_batch:
                own, other = type(self).__name__, type(callback).__name__
                raise ValueError(
                    f"{other} is listed before {own} and would write what is not decided yet: "
                    f"change their order, callbacks=[{own}(...), {other}(...)]"
                )

    def on_predict_start(self, trainer: Any, pl_module: Any) -> None:
        """Let outputs that no hook can change pass through all callbacks of this kind."""
        alike = [callback for callback in trainer.callbacks if isinstance(callback, Decides)]
        if alike[0] is self:
            changes = [functools.partial(callback._change, trainer) for callback in alike]
            self._step = Step(pl_module, changes)

    def on_predict_batch_start(
        self,
        trainer: Any,
        pl_module: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Remember where we are, for messages."""
        self._where = place("predict_step", batch_idx, dataloader_idx)

    def on_predict_batch_end(
        self,
        trainer: Any,
        pl_module: Any,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Decide a dict; other outputs are decided when they come here."""
        if not isinstance(outputs, Mapping):
            return
        where = place("predict_step", batch_idx, dataloader_idx)
        if not isinstance(outputs, MutableMapping):
            raise TypeError(f"{where}: nothing can be added to a {type(outputs).__name__}")
        values = scores_in(outputs, self.key, "key", where)
        if self.output_key in outputs and self.output_key != self.key:
            raise ValueError(
                f"{where}: {describe(outputs)} has an entry {self.output_key!r} already: choose "
                "another output_key"
            )
        outputs[self.output_key] = self._decided(trainer, values, where)
        if self.drop_probs and self.output_key != self.key:
            del outputs[self.key]

    def _change(self, trainer: Any, outputs: Any) -> Any:
        """Decide what a hook cannot change."""
        if outputs is None or isinstance(outputs, Mapping):
            return outputs
        values = scores_in(outputs, self.key, "key", self._where)
        return exchanged(outputs, self.key, self._decided(trainer, values, self._where))

    def _decided(self, trainer: Any, values: Tensor, where: str) -> Tensor:
        prediction, bad = decide(self.rankseg, values, where)
        if bad:
            after = trainer.callbacks[trainer.callbacks.index(self) :]
            writer = next((callback for callback in after if isinstance(callback, Writes)), None)
            if writer is None:
                reasons = "; ".join(f"sample {at}: {reason}" for at, reason in bad.items())
                raise ValueError(f"{where}: {reasons}; check the model's output")
            writer.leave_out(bad)
        return prediction

    def on_predict_end(self, trainer: Any, pl_module: Any) -> None:
        """Give the module its step back."""
        self._restore()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Give the module its step back."""
        self._restore()

    def _restore(self) -> None:
        if self._step is not None:
            self._step.restore()
            self._step = None


class Step:
    """The ``predict_step`` of a module while its outputs are changed."""

    def __init__(self, module: Any, changes: Sequence[Callable[[Any], Any]]) -> None:
        self.module = module
        self.own = vars(module).get("predict_step")  # torch.compile puts one there
        original = module.predict_step

        @functools.wraps(original)  # Lightning looks at the arguments it takes
        def changed(*args: Any, **kwargs: Any) -> Any:
            outputs = original(*args, **kwargs)
            for change in changes:
                outputs = change(outputs)
            return outputs

        module.predict_step = changed

    def restore(self) -> None:
        """Leave the module as it was."""
        if self.own is None:
            del self.module.predict_step
        else:
            self.module.predict_step = self.own
