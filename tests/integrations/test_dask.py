"""Dask: the labels of the pixels in memory, for every chunking, on threads and on a cluster."""

from __future__ import annotations

import itertools
import math
import os
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rankseg import RankSEG

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")

from rankseg_integrations.dask import decide, segment  # noqa: E402

CONFIGURATIONS = (
    {"metric": "dice"},
    {"metric": "iou", "output_mode": "multilabel", "pruning_prob": 0.0},
    {"metric": "dice", "assignment": "ascent", "smooth": 1.0},
    {"metric": "dice", "unassigned_policy": "void", "pruning_prob": 0.3},
    {"metric": "acc"},
    {"solver": "TR", "output_mode": "multilabel", "threshold": 0.3},
)

SCHEDULERS = ("synchronous", "threads")


def maps(seed: int, shape: tuple[int, ...], dtype: str = "float32") -> np.ndarray:
    """Probabilities that differ from place to place: chunks alone would decide otherwise."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=shape) + 3 * np.linspace(-1, 1, shape[-1])
    logits[0] *= 2
    odds = np.exp(logits)
    return (odds / odds.sum(0)).astype(dtype)


def in_memory(probs: np.ndarray, rankseg: RankSEG) -> np.ndarray:
    return rankseg(torch.from_numpy(probs)[None])[0].numpy()


@st.composite
def cut_up(draw: Any) -> tuple[np.ndarray, tuple[tuple[int, ...], ...], int]:
    """Probabilities with classes first, chunks of an array whose classes are elsewhere, where."""
    spatial = draw(st.lists(st.integers(1, 24), min_size=1, max_size=3))
    shape = (draw(st.integers(1, 4)), *spatial)
    dtype = draw(st.sampled_from(["float16", "float32", "float64", ">f4"]))
    probs = maps(draw(st.integers(0, 2**32 - 1)), shape, dtype)
    if draw(st.booleans()):
        probs *= np.array(1e-3, probs.dtype)  # sums of small rows have a unit of their own
    chunks = tuple(draw(parts(size)) for size in shape)
    return probs, chunks, draw(st.integers(0, len(shape) - 1))


@st.composite
def parts(draw: Any, size: int) -> tuple[int, ...]:
    """Chunk sizes along an axis; empty chunks are allowed, as in Dask."""
    cuts = sorted(draw(st.lists(st.integers(0, size), max_size=4)))
    edges = [0, *cuts, size]
    return tuple(after - before for before, after in itertools.pairwise(edges))


Cut = tuple[np.ndarray, tuple[tuple[int, ...], ...], int]
chunked = given(cut_up(), st.sampled_from(CONFIGURATIONS), st.sampled_from(SCHEDULERS))


@settings(max_examples=20)
@chunked
def test_every_chunking_decides_as_memory_does(
    cut: Cut, options: dict[str, Any], scheduler: str
) -> None:
    check_chunking(cut, options, scheduler)


@pytest.mark.slow
@settings(max_examples=300)
@chunked
def test_many_chunkings_decide_as_memory_does(
    cut: Cut, options: dict[str, Any], scheduler: str
) -> None:
    check_chunking(cut, options, scheduler)


def check_chunking(cut: Cut, options: dict[str, Any], scheduler: str) -> None:
    probs, chunks, axis = cut
    rankseg = RankSEG(**options)
    native = probs.astype(probs.dtype.newbyteorder("="))
    expected = in_memory(native, rankseg)
    given_ = da.moveaxis(da.from_array(probs, chunks=chunks), 0, axis)
    with dask.config.set(scheduler=scheduler):
        assert decide(given_, rankseg, channel_axis=axis) == rankseg.decide(
            torch.from_numpy(native)[None]
        )
        lazy = segment(given_, rankseg, channel_axis=axis - given_.ndim)
        found = lazy.compute()
    labels = rankseg.settings.output_mode == "multiclass"
    place = expected if labels else np.moveaxis(expected, 0, axis)
    assert found.dtype == lazy.dtype == expected.dtype
    assert found.shape == lazy.shape
    np.testing.assert_array_equal(found, place)
    wanted = chunks[1:] if labels else (*chunks[1 : axis + 1], (len(probs),), *chunks[axis + 1 :])
    assert lazy.chunks == wanted


def test_chunks_alone_would_decide_otherwise() -> None:
    probs = maps(0, (3, 40, 60))
    rankseg = RankSEG("dice")
    halves = [in_memory(np.ascontiguousarray(half), rankseg) for half in np.split(probs, 2, 2)]
    assert (np.concatenate(halves, 1) != in_memory(probs, rankseg)).any()


def test_logits_go_in_with_an_activation() -> None:
    logits = np.log(maps(1, (3, 30, 40)))
    rankseg = RankSEG("iou", activation="softmax")
    found = segment(da.from_array(logits, chunks=(1, 7, 40)), rankseg)
    np.testing.assert_array_equal(found.compute(), in_memory(logits, rankseg))


class Counted:
    """An array that counts how often its blocks are read."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values
        self.shape, self.dtype, self.ndim = values.shape, values.dtype, values.ndim
        self.reads = 0

    def __getitem__(self, index: Any) -> np.ndarray:
        self.reads += 1
        return self.values[index]


def test_labels_are_lazy_and_one_visit_makes_them() -> None:
    stored = Counted(maps(2, (3, 40, 40)))
    array = da.from_array(stored, chunks=(3, 10, 40))
    lazy = segment(array, RankSEG("dice"))
    assert 2 * 4 <= stored.reads <= 15 * 4  # four blocks, some ten visits
    before = stored.reads
    with dask.config.set(scheduler="synchronous"):
        lazy[:5].compute()
    assert stored.reads == before + 1


def test_answers_of_many_blocks_are_merged_in_a_tree() -> None:
    probs = maps(3, (2, 150, 4))
    array = da.from_array(probs, chunks=(2, 1, 4))
    np.testing.assert_array_equal(
        segment(array, RankSEG("dice")).compute(), in_memory(probs, RankSEG("dice"))
    )


@pytest.mark.parametrize(
    ("array", "error", "message"),
    [
        (np.ones((2, 3)), TypeError, r"must be a Dask array; got ndarray: dask\.array\.from"),
        (da.ones(4), ValueError, r"a class axis and at least one spatial axis; got shape \(4,\)"),
        (
            da.ones((2, 3), dtype=int),
            TypeError,
            "one of float16, float32, float64; got int",
        ),
        (da.ones((2, 3), dtype=bool), TypeError, "got bool: pass probabilities"),
        (da.ones((2, 0, 3)), ValueError, r"no pixels; got shape \(2, 0, 3\)"),
        (da.ones((2, 9))[:, da.arange(9) > 3], ValueError, r"call compute_chunk_sizes\(\) first"),
    ],
)
def test_refused_before_anything_is_read(array: Any, error: type, message: str) -> None:
    for function in (decide, segment):
        with pytest.raises(error, match=message):
            function(array, RankSEG("dice"))


def test_other_arguments_are_checked() -> None:
    array = da.ones((2, 3), chunks=1)
    with pytest.raises(ValueError, match=r"channel_axis=2 is no axis of .* shape \(2, 3\)"):
        segment(array, RankSEG("dice"), channel_axis=2)
    with pytest.raises(TypeError, match="rankseg must be a RankSEG; got str"):
        segment(array, "dice")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="needs all pixels of a class in memory at once"):
        segment(array, RankSEG("dice", solver="exact"))


@pytest.mark.parametrize(
    ("value", "message"),
    [(math.nan, "probs contains NaN"), (1.5, r"got min=.*max=1\.5"), (-0.5, r"got min=-0\.5")],
)
def test_one_bad_pixel_is_refused(value: float, message: str) -> None:
    probs = maps(4, (3, 20, 20))
    probs[1, 17, 3] = value
    with pytest.raises(ValueError, match=message):
        decide(da.from_array(probs, chunks=(1, 5, 5)), RankSEG("dice"))


def test_blocks_that_are_no_plain_arrays_are_refused() -> None:
    probs = maps(5, (2, 8, 8))
    masked = da.ma.masked_less(da.from_array(probs, chunks=4), 0.1)
    with pytest.raises(TypeError, match=r"blocks must be NumPy arrays; got numpy\.ma.*MaskedArray"):
        decide(masked, RankSEG("dice"))


@pytest.mark.parametrize("step", [1, -1])
def test_read_only_and_reversed_blocks(step: int) -> None:
    """As blocks are that came from another process; torch warns of them, tests do not allow it."""
    probs = maps(6, (2, 8, 8))

    def frozen(block: np.ndarray) -> np.ndarray:
        block = block[:, :, ::step]
        block.flags.writeable = False
        return block

    array = da.from_array(probs, chunks=(2, 4, 8)).map_blocks(
        frozen, meta=np.empty((0, 0, 0), "f4")
    )
    expected = in_memory(probs[:, :, ::step].copy(), RankSEG("dice"))
    np.testing.assert_array_equal(segment(array, RankSEG("dice")).compute(), expected)


class Corrupt(OSError):
    """What reading a damaged chunk raises."""


def fails_at(block: np.ndarray, block_info: Any, when: Any) -> np.ndarray:
    if block_info and block_info[0]["chunk-location"] == (0, 1, 1) and when():
        raise Corrupt("chunk 0.1.1 is damaged")
    return block


def test_a_corrupt_chunk_is_an_error_and_no_label_is_wrong() -> None:
    probs = maps(7, (2, 20, 20))
    array = da.from_array(probs, chunks=(2, 10, 10))
    damaged: list[bool] = []
    array = array.map_blocks(
        partial(fails_at, when=lambda: bool(damaged)), dtype=array.dtype, meta=np.empty((0, 0, 0))
    )
    lazy = segment(array, RankSEG("dice"))
    damaged.append(True)  # after the rule was found
    with pytest.raises(Corrupt, match="damaged"):
        segment(array, RankSEG("dice"))
    written = np.full((20, 20), -1)
    with pytest.raises(Corrupt, match="damaged"):
        da.store(lazy, written, scheduler="synchronous")
    expected = in_memory(probs, RankSEG("dice"))
    assert (written[10:, 10:] == -1).all()
    assert ((written == -1) | (written == expected)).all()


def stored_in_zarr(path: Path, probs: np.ndarray) -> Any:
    zarr = pytest.importorskip("zarr")
    stored = zarr.create_array(
        path, shape=probs.shape, chunks=(1, 10, 10), dtype=probs.dtype, fill_value=math.nan
    )
    stored[:] = probs
    return da.from_zarr(path)


def chunk_files(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file() and file.name != "zarr.json")


def test_from_zarr_to_zarr(tmp_path: Path) -> None:
    probs = maps(8, (3, 25, 30))
    array = stored_in_zarr(tmp_path / "probs.zarr", probs)
    segment(array, RankSEG("dice")).to_zarr(tmp_path / "labels.zarr")
    found = da.from_zarr(tmp_path / "labels.zarr").compute()
    np.testing.assert_array_equal(found, in_memory(probs, RankSEG("dice")))


def test_a_damaged_or_missing_chunk_of_a_zarr_is_an_error(tmp_path: Path) -> None:
    array = stored_in_zarr(tmp_path / "probs.zarr", maps(9, (3, 20, 20)))
    chunk = chunk_files(tmp_path / "probs.zarr")[5]
    whole = chunk.read_bytes()
    chunk.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Exception, match=r"(?i)zstd|decompress|decod"):
        segment(array, RankSEG("dice"))
    chunk.unlink()  # zarr reads the fill value there
    with pytest.raises(ValueError, match="probs contains NaN"):
        segment(array, RankSEG("dice"))
    chunk.write_bytes(whole)
    segment(array, RankSEG("dice"))


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two worker processes on this machine, which are started anew when they die."""
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address=None,
            silence_logs=60,
        ) as started,
        distributed.Client(started) as client,
    ):
        yield client


def test_a_cluster_loses_a_worker_and_decides_the_same(cluster: Any, tmp_path: Path) -> None:
    """Nothing here runs in this process but the merging of the last answers' numbers."""
    probs = maps(10, (3, 40, 40))
    here = os.getpid()

    def dies_once(block: np.ndarray) -> np.ndarray:  # local functions travel by value
        assert os.getpid() != here
        (tmp_path / f"read-{time.time_ns()}-{os.getpid()}").touch()
        if len(list(tmp_path.glob("read-*"))) > 40:  # 16 blocks: the third visit
            try:
                (tmp_path / "died").touch(exist_ok=False)
            except FileExistsError:
                return block
            os.kill(os.getpid(), signal.SIGKILL)
        return block

    array = da.from_array(probs, chunks=(1, 10, 10)).rechunk((3, 10, 10))
    array = array.map_blocks(dies_once, dtype=probs.dtype, meta=np.empty((0, 0, 0)))
    processes = set(cluster.run(os.getpid).values())
    assert len(processes) == 2
    lazy = segment(array, RankSEG("dice"))
    assert (tmp_path / "died").exists()
    np.testing.assert_array_equal(lazy.compute(), in_memory(probs, RankSEG("dice")))
    used = {int(file.name.split("-")[2]) for file in tmp_path.glob("read-*")}
    assert len(used) > 1, "one process did it all"
    cluster.wait_for_workers(2, timeout=60)
    assert set(cluster.run(os.getpid).values()) != processes


def test_a_cluster_passes_errors_on(cluster: Any) -> None:
    probs = maps(11, (3, 20, 20))
    probs[0, 0, 0] = math.nan
    array = da.from_array(probs, chunks=(3, 10, 10))
    with pytest.raises(ValueError, match="probs contains NaN"):
        segment(array, RankSEG("dice"))
    with pytest.raises(TypeError, match="blocks must be NumPy arrays"):
        decide(da.ma.masked_invalid(array), RankSEG("dice"))
