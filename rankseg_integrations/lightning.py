"""Callbacks for ``lightning``: predictions are decided, written, and judged.

``Trainer(callbacks=[RankSEGCallback(metric="dice")])``. Trainers of ``pytorch_lightning`` need the
classes of `rankseg_integrations.pytorch_lightning`. docs/lightning.md has the rest.
"""

from __future__ import annotations

from typing import Any

from rankseg_integrations._common import require

pl: Any = require("lightning.pytorch", extra="lightning")  # first: it names the extra

from rankseg_integrations._lightning import Decides, Evaluates, Writes  # noqa: E402

__all__ = ["RankSEGCallback", "RankSEGEvaluation", "RankSEGWriter"]


class RankSEGCallback(Decides, pl.Callback):  # type: ignore[misc]  # noqa: D101
    __doc__ = Decides.__doc__
    framework = pl


class RankSEGWriter(Writes, pl.callbacks.BasePredictionWriter):  # type: ignore[misc]  # noqa: D101
    __doc__ = Writes.__doc__
    framework = pl


class RankSEGEvaluation(Evaluates, pl.Callback):  # type: ignore[misc]  # noqa: D101
    __doc__ = Evaluates.__doc__
    framework = pl
