"""List the data sets, with scores of the usual decision and of RankSEG, gains and losses.

python -m examples.real_data                    # all; the first time takes some minutes
python -m examples.real_data nuclei --metric iou
python -m examples.real_data --list             # what there is, without downloading
"""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path

from examples.real_data import DATA_SETS, DataSet
from examples.real_data._data_set import CACHE
from examples.real_data.scores import compare, reliability


def describe(data: DataSet) -> None:
    print(f"\n{data.name}: {data.title}")
    print(f"  {data.output_mode}: {', '.join(data.classes)}")
    for what in ("model", "truth", "split", "source", "licence"):
        print(textwrap.fill(f"{what}: {getattr(data, what)}", 100, **INDENT))


INDENT = {"initial_indent": "  ", "subsequent_indent": "    "}


def show(data: DataSet, metric: str, cache: Path) -> None:
    pairs = data.pairs(cache)
    shape = " x ".join(map(str, pairs[0][0].shape[2:]))
    print(f"  pairs: {len(pairs)}, of {data.images} independent image(s); the first is {shape}")
    usual, ranked = compare(pairs, metric, data.output_mode)
    told, found = reliability(pairs, data.output_mode)
    cut = "argmax" if data.output_mode == "multiclass" else "0.5 cut"
    print(f"  {'mean ' + metric:20} {cut:>8} {'RankSEG':>8} {'gain':>8} {'mean p':>8} {'truth':>8}")
    for number, name in enumerate(data.classes):
        row = (usual[:, number].nanmean(), ranked[:, number].nanmean())
        print(f"  {name:20} {row[0]:8.4f} {row[1]:8.4f} {row[1] - row[0]:+8.4f}", end="")
        print(f" {told[number]:8.4f} {found[number]:8.4f}")
    means = usual.nanmean(1), ranked.nanmean(1)
    change = means[1] - means[0]
    print(
        f"  {'mean of the classes':20} {means[0].nanmean():8.4f} {means[1].nanmean():8.4f}", end=""
    )
    print(f" {change.nanmean():+8.4f}   better {(change > 0).sum()}, worse {(change < 0).sum()}")


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
