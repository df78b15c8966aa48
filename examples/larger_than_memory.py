"""Images larger than memory: probabilities in a zarr -> the rule of all pixels -> labels in a zarr.

Smooth synthetic maps of four classes are written chunk by chunk, then segmented by Dask on the
threads of this machine. Memory does not grow with the image.

    pip install ".[dask]"
    python examples/larger_than_memory.py                   # 0.02 GB, in seconds
    python examples/larger_than_memory.py --gigabytes 4     # minutes; needs 4.3 GB of disk
"""

from __future__ import annotations

import argparse
import math
import os
import re
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import torch
import zarr
from dask.diagnostics import ProgressBar

from rankseg import RankSEG
from rankseg_integrations.dask import segment

CLASSES, SIDE = 4, 1024
CHUNK_BYTES = CLASSES * SIDE * SIDE * 4
NAMES = ("ground", "forest", "water", "road")


def smooth_maps(block_info: Any) -> np.ndarray:
    """Probabilities (C, h, w) of one chunk; waves of the pixels' own places, so no seam shows."""
    (_, (top, bottom), (left, right)) = block_info[None]["array-location"]
    y, x = np.arange(top, bottom) / 300, np.arange(left, right) / 300
    random = np.random.default_rng(0)
    odds = np.empty((CLASSES, len(y), len(x)), np.float32)
    for class_ in range(CLASSES):
        logits = np.full(odds.shape[1:], -0.7 * class_)
        for down, along, phase in random.uniform(0.3, 6, (4, 3)):
            logits += np.outer(np.sin(down * y + phase), np.cos(along * x - phase))
        odds[class_] = np.exp(logits)
    return odds / odds.sum(0)


def write_probs(path: Path, gigabytes: float) -> None:
    """A zarr of at least that size. Where a chunk is missing it reads NaN, which is refused."""
    chunks = math.ceil(gigabytes * 1e9 / CHUNK_BYTES)
    wide = math.ceil(math.sqrt(chunks))
    shape = (CLASSES, SIDE * math.ceil(chunks / wide), SIDE * wide)
    chunk = (CLASSES, SIDE, SIDE)
    probs = da.map_blocks(
        smooth_maps,
        chunks=da.core.normalize_chunks(chunk, shape, dtype=np.float32),
        dtype=np.float32,
        meta=np.empty((0, 0, 0), np.float32),
    )
    stored = zarr.create_array(
        path, shape=shape, chunks=chunk, dtype="float32", fill_value=math.nan, compressors=None
    )
    da.store(probs, stored, lock=False)


def write_labels(labels: da.Array, path: Path) -> None:
    """All or nothing: a zarr that lost its writer reads 0, a class, where nothing was written."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    labels.astype(np.uint8).to_zarr(unfinished, overwrite=True)
    unfinished.rename(path)


def peak_memory() -> float:
    """Largest resident memory of this process so far, in GB."""
    status = Path("/proc/self/status")
    if status.is_file():  # on Linux the other number begins with that of the parent process
        kibibytes = re.search(r"VmHWM:\s*(\d+) kB", status.read_text())
        if kibibytes:
            return int(kibibytes[1]) * 1024 / 1e9
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def timed(what: str, step: Callable[[], Any], bars: bool) -> Any:
    print(f"{what} ...", flush=True)
    shown: AbstractContextManager[Any] = ProgressBar(minimum=1) if bars else nullcontext()
    start = time.perf_counter()
    with shown:
        result = step()
    took = time.perf_counter() - start
    print(f"{what}: {took:.1f} s, peak memory so far {peak_memory():.2f} GB", flush=True)
    return result


def run(folder: Path, gigabytes: float, bars: bool) -> None:
    timed("writing probabilities", lambda: write_probs(folder / "probs.zarr", gigabytes), bars)
    probs = da.from_zarr(folder / "probs.zarr")
    print(f"{probs.shape} {probs.dtype}: {probs.nbytes / 1e9:.2f} GB in {probs.npartitions} chunks")
    labels = timed(
        "finding the rule of all pixels (a few visits)",
        lambda: segment(probs, RankSEG(metric="dice")),
        bars,
    )
    timed("writing labels", lambda: write_labels(labels, folder / "labels.zarr"), bars)
    report(probs, da.from_zarr(folder / "labels.zarr"), bars)


def report(probs: da.Array, labels: da.Array, bars: bool) -> None:
    """Share of the pixels that each class gets, before and after."""
    maps = (probs.argmax(0), labels)
    counted = [[(classes == class_).mean() for class_ in range(CLASSES)] for classes in maps]
    shares = timed("comparing with argmax", lambda: dask.compute(*counted), bars)
    print(f"{'share of pixels':<16} {'argmax':>8} {'RankSEG':>8}")
    for name, *share in zip(NAMES, *shares, strict=True):
        print(f"{name:<16} {share[0]:>8.4f} {share[1]:>8.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=0.02, help="size of the probabilities")
    parser.add_argument("--folder", type=Path, help="keep the zarrs here")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--no-bars", action="store_true", help="no progress bars")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # Dask's threads each decide a block
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="rankseg-", dir="."))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with dask.config.set(num_workers=arguments.threads):
            run(folder, arguments.gigabytes, not arguments.no_bars)
    finally:
        if arguments.folder is None:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
