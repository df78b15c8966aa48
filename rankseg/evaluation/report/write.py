"""The report as a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rankseg.evaluation.report import evaluation_page, tuning_page
from rankseg.evaluation.result import Evaluation
from rankseg.evaluation.tuned import TunedRankSEG

Named = Mapping[str, Mapping[str, str]]


def write_report(
    found: Evaluation | TunedRankSEG, path: str | Path, named: Named | None = None
) -> None:
    """Write what ``evaluate`` or ``tune`` found as one HTML file, replacing one that exists.

    It needs no network, no script and no other file, and follows the reader's light or dark theme.

    Parameters
    ----------
    found : Evaluation or TunedRankSEG
    path : str or Path
        Ends in ``.html``, if a browser is to know it.
    named : mapping of str to mapping of str to str, optional
        Further lists of names with reasons, under their titles.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    page = evaluation_page.page if isinstance(found, Evaluation) else tuning_page.page
    Path(path).write_text(page(found, named or {}), encoding="utf-8")  # type: ignore[arg-type]
