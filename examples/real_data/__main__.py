"""List the data sets, with scores of the usual decision and of RankSEG, gains and losses.

python -m examples.real_data                    # all; the first time takes some minutes
python -m examples.real_data nuclei --metric iou
python -m examples.real_data --list             # what there is, without downloading
"""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path

import torch
from torch import Tensor

from . import DATA_SETS, DataSet
from ._data_set import CACHE
from .scores import compare, reliability

INDENT = {"initial_indent": "  ", "subsequent_indent": "    "}


def describe(data: DataSet) -> None:
    print(f"\n{data.name}: {data.title}")
    print(f"  {data.output_mode}: {', '.join(data.classes)}")
    for what in ("model", "truth", "split", "source", "licence"):
        print(textwrap.fill(f"{what}: {getattr(data, what)}", 100, **INDENT))


def show(data: DataSet, metric: str, cache: Path) -> None:
    """Scores of each class, and in how many images RankSEG is better or worse."""
    pairs = data.pairs(cache)
    shape = " x ".join(map(str, pairs[0][0].shape[2:]))
    print(f"  {len(pairs)} pairs of {data.images} independent image(s), the first of {shape}")
    decisions = compare(pairs, metric, data.output_mode)
    told, found = reliability(pairs)
    heads = (*decisions, "mean p", "truth")
    print(f"  {'mean ' + metric:20}" + "".join(f"{head:>10}" for head in heads))
    for number, name in enumerate(data.classes):
        row = [scores[:, number].nanmean() for scores in decisions.values()]
        print(f"  {name:20}" + numbers([*row, told[number], found[number]]))
    means = [scores.nanmean(1) for scores in decisions.values()]
    print(f"  {'mean of the classes':20}" + numbers([mean.nanmean() for mean in means]))
    usual, *others = means
    for count, compared in (("better", torch.gt), ("worse", torch.lt)):
        counts = [int(compared(other, usual).sum()) for other in others]
        print(f"  {count + ', of the pairs':30}" + "".join(f"{count:10}" for count in counts))


def numbers(values: list[Tensor]) -> str:
    return "".join(f"{value:10.4f}" for value in values)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m examples.real_data", description=__doc__.splitlines()[0]
    )
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(DATA_SETS)}")
    parser.add_argument("--metric", choices=("dice", "iou"), default="dice")
    parser.add_argument("--list", action="store_true", help="only tell what there is")
    parser.add_argument("--cache", type=Path, default=CACHE, help="for downloads and maps")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(DATA_SETS)
    if unknown:
        parser.error(f"no data set {', '.join(sorted(unknown))}; choose of {', '.join(DATA_SETS)}")
    for name in arguments.names or DATA_SETS:
        describe(DATA_SETS[name])
        if not arguments.list:
            show(DATA_SETS[name], arguments.metric, arguments.cache)


if __name__ == "__main__":
    main()
