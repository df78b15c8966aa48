"""`RankSEGWriter` with real trainers of both names of Lightning."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_lightning import FILTERS, NAMESPACES, Items, Space, loader, probs_of, space
from torch.utils.data import DataLoader, IterableDataset, RandomSampler

from rankseg import RankSEG

pytest.importorskip("torchmetrics")
pytestmark = FILTERS
ROOT = Path(__file__).parents[2]


@pytest.fixture(params=NAMESPACES)
def here(request: pytest.FixtureRequest) -> Space:
    return space(request.param)


@pytest.fixture
def lightning() -> Space:
    return space("lightning")


def step(batch: Any) -> Any:
    return {"probs": probs_of(batch["image"])}


def broken(*names: str) -> Any:
    """A step whose probabilities are NaN at a pixel of these samples."""

    def broken_step(batch: Any) -> Any:
        probs = probs_of(batch["image"])
        probs[[name in names for name in batch["name"]], 0, 0, 0] = float("nan")
        return {"probs": probs}

    return broken_step


def predict(here: Space, data: Any, *callbacks: Any, step: Any = step) -> None:
    trainer = here.trainer(*callbacks)
    assert trainer.predict(here.module(step), data, return_predictions=False) is None


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def wanted(metric: str = "dice", size: int = 7) -> list[np.ndarray[Any, Any]]:
    """Labels of each item."""
    return list(RankSEG(metric)(probs_of(Items(size).images)).numpy())


def assert_labels(folder: Path, names: list[str], metric: str = "dice") -> None:
    assert files(folder) == sorted(f"{name}.npy" for name in names)
    for name, labels in zip(names, wanted(metric, len(names)), strict=True):
        found = np.load(folder / f"{name}.npy")
        assert found.dtype == np.uint8
        assert (found == labels).all()


def test_after_the_callback_and_numbered(here: Space, tmp_path: Path) -> None:
    callbacks = (here.rankseg.RankSEGCallback(), here.rankseg.RankSEGWriter(tmp_path / "a" / "b"))
    predict(here, loader(), *callbacks)
    assert_labels(tmp_path / "a" / "b", [f"{number:06d}" for number in range(7)])


def test_alone_with_names_from_the_batch(here: Space, tmp_path: Path) -> None:
    writer = here.rankseg.RankSEGWriter(tmp_path, "probs", "name", metric="iou")
    predict(here, loader(), writer)
    assert_labels(tmp_path, [f"image {number}" for number in range(7)], "iou")


def test_a_tensor_is_written_whatever_the_key(lightning: Space, tmp_path: Path) -> None:
    writer = lightning.rankseg.RankSEGWriter(tmp_path, name_key="name")
    predict(lightning, loader(), writer, step=lambda batch: probs_of(batch["image"]))
    assert_labels(tmp_path, [f"image {number}" for number in range(7)])


def test_numbers_follow_a_shuffled_loader(lightning: Space, tmp_path: Path) -> None:
    items = Items(7)
    random = RandomSampler(items, generator=torch.Generator().manual_seed(3))
    data = DataLoader(items, batch_size=3, sampler=random)
    predict(lightning, data, lightning.rankseg.RankSEGWriter(tmp_path, "probs"))
    assert_labels(tmp_path, [f"{number:06d}" for number in range(7)])


def test_loaders_have_folders(here: Space, tmp_path: Path) -> None:
    predict(here, [loader(2), loader(3)], here.rankseg.RankSEGWriter(tmp_path, "probs"))
    assert_labels(tmp_path / "dataloader_0", ["000000", "000001"])
    assert_labels(tmp_path / "dataloader_1", ["000000", "000001", "000002"])


@pytest.mark.parametrize("file_format", ["npz", "png"])
def test_formats_of_labels(lightning: Space, tmp_path: Path, file_format: Any) -> None:
    writer = lightning.rankseg.RankSEGWriter(tmp_path, "probs", file_format=file_format)
    predict(lightning, loader(3), writer)
    assert files(tmp_path) == [f"{number:06d}.{file_format}" for number in range(3)]
    for path, labels in zip(sorted(tmp_path.iterdir()), wanted(size=3), strict=True):
        found = np.load(path)["labels"] if file_format == "npz" else np.asarray(Image.open(path))
        assert found.dtype == np.uint8
        assert (found == labels).all()


def test_masks(lightning: Space, tmp_path: Path) -> None:
    options = {"output_mode": "multilabel", "metric": "iou", "pruning_prob": 0.1}
    masks = RankSEG(**options)(probs_of(Items(2).images)).numpy()
    for file_format in ("npy", "npz"):
        writer = lightning.rankseg.RankSEGWriter(
            tmp_path, "probs", file_format=file_format, **options
        )
        predict(lightning, loader(2), writer)
    for number in range(2):
        found = np.load(tmp_path / f"{number:06d}.npy")
        assert found.dtype == bool
        assert (found == masks[number]).all()
        assert (np.load(tmp_path / f"{number:06d}.npz")["masks"] == masks[number]).all()
    many = lightning.rankseg.RankSEGWriter(tmp_path, "probs", file_format="png", **options)
    with pytest.raises(ValueError, match=r"000000\.png: a PNG holds one 2-D array.*\(3, 8, 8\)"):
        predict(lightning, loader(2), many)
    predict(lightning, loader(2), many, step=lambda b: {"probs": probs_of(b["image"])[:, :1]})
    assert set(np.unique(np.asarray(Image.open(tmp_path / "000000.png")))) == {0, 255}


@pytest.mark.parametrize(
    ("value", "dtype"), [(255, np.uint8), (256, np.uint16), (70000, np.int64), (-1, np.int64)]
)
def test_labels_take_the_smallest_type(
    lightning: Space, tmp_path: Path, value: int, dtype: Any
) -> None:
    predict(
        lightning,
        loader(1),
        lightning.rankseg.RankSEGWriter(tmp_path),
        step=lambda _: torch.tensor([[0, value]], dtype=torch.int32),
    )
    found = np.load(tmp_path / "000000.npy")
    assert found.dtype == dtype
    assert found.tolist() == [0, value]


# --- names -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("scan", "scan"),
        ("a/b/scan.png", "scan"),
        ("../../etc/passwd", "passwd"),
        ("/absolute/scan.nii.gz", "scan"),
        ("C:\\data\\scan.TIF", "scan"),
        ("scan.1", "scan.1"),
        ("v1.2.png", "v1.2"),
        ("folder/", "folder"),
        ("what?*.jpg", "what__"),
        ("tab\there", "tab_here"),
        ("dots...", "dots"),
        ("größe", "größe"),
        (Path("a") / "b.png", "b"),
        (17, "17"),
    ],
)
def test_names_stay_inside_the_folder(
    lightning: Space, tmp_path: Path, name: Any, stem: str
) -> None:
    data = DataLoader(Items(1, names=[name]), collate_fn=collate)
    folder = tmp_path / "x" / "y"
    predict(lightning, data, lightning.rankseg.RankSEGWriter(folder, "probs", "name"))
    assert files(tmp_path) == [str(Path("x") / "y" / f"{stem}.npy")]


def collate(items: list[dict[str, Any]]) -> dict[str, Any]:
    """Names as they are, of any type."""
    images = torch.stack([item["image"] for item in items])
    return {"image": images, "name": [item["name"] for item in items]}


@pytest.mark.parametrize("name", ["..", "", "/", ".", ".png", "a/.."])
def test_names_that_are_none(lightning: Space, tmp_path: Path, name: str) -> None:
    data = DataLoader(Items(1, names=[name]))
    writer = lightning.rankseg.RankSEGWriter(tmp_path, "probs", "name")
    with pytest.raises(ValueError, match="is no name for a file"):
        predict(lightning, data, writer)
    assert not files(tmp_path)


def test_names_that_make_one_file_are_both_said(here: Space, tmp_path: Path) -> None:
    data = DataLoader(Items(3, names=["a/scan.png", "other", "b/scan.tif"]), batch_size=2)
    writer = here.rankseg.RankSEGWriter(tmp_path, "probs", "name", overwrite=True)
    text = r"the names 'a/scan.png' and 'b/scan.tif' make the same file, scan\.npy"
    with pytest.raises(ValueError, match=text):
        predict(here, data, writer)
    assert files(tmp_path) == ["other.npy", "scan.npy"]
    assert (np.load(tmp_path / "scan.npy") == wanted(size=3)[0]).all()


@pytest.mark.parametrize(
    ("names", "error", "text"),
    [
        (["a"], ValueError, "there are 1 names for 2 samples"),
        ({"a": 1}, TypeError, "names must be a list of str or int; got dict"),
        ([1.5, 2.5], TypeError, "a name must be a str, a path or an int; got float 1.5"),
        ([b"a", b"b"], TypeError, "got bytes"),
    ],
)
def test_names_of_a_wrong_kind(
    lightning: Space, tmp_path: Path, names: Any, error: Any, text: str
) -> None:
    writer = lightning.rankseg.RankSEGWriter(tmp_path, "probs", "names")
    with pytest.raises(error, match=text):
        predict(lightning, loader(2), writer, step=lambda b: {**step(b), "names": names})


def test_names_that_the_step_returns(lightning: Space, tmp_path: Path) -> None:
    def named(batch: Any) -> Any:
        return {**step(batch), "number": torch.tensor([3, 5])}

    predict(
        lightning,
        loader(2),
        lightning.rankseg.RankSEGWriter(tmp_path, "probs", "number"),
        step=named,
    )
    assert_labels(tmp_path, ["3", "5"])


def test_names_that_are_not_there(lightning: Space, tmp_path: Path) -> None:
    writer = lightning.rankseg.RankSEGWriter(tmp_path, "probs", "id")
    text = r"batch 0: there is no entry 'id' in outputs dict\(.*\) nor in the batch dict\(image: "
    with pytest.raises(ValueError, match=text):
        predict(lightning, loader(2), writer)


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter([Items(2)[0], Items(2)[1]])


@pytest.mark.filterwarnings("ignore:Couldn't infer the batch indices")
def test_a_stream_has_no_numbers(here: Space, tmp_path: Path) -> None:
    """Lightning leaves the indices of the last batch of another loader there."""
    writer = here.rankseg.RankSEGWriter(tmp_path, "probs")
    text = r"batch 0( of dataloader 1)?: the places in the dataset are not known.*name_key"
    for data in (DataLoader(Stream()), [loader(1), DataLoader(Stream())]):
        with pytest.raises(ValueError, match=text):
            predict(here, data, writer)
    predict(here, DataLoader(Stream()), here.rankseg.RankSEGWriter(tmp_path, "probs", "name"))
    assert files(tmp_path) == ["dataloader_0/000000.npy", "image 0.npy", "image 1.npy"]


# --- what goes wrong -------------------------------------------------------------------------


@pytest.mark.parametrize("together", [False, True])
def test_one_sample_with_nan_among_many(here: Space, tmp_path: Path, together: bool) -> None:
    """It is named, at once and at the end; all others are written, with or without a callback."""
    kinds = here.rankseg
    writer = kinds.RankSEGWriter(tmp_path, "prediction" if together else "probs", "name")
    callbacks = [kinds.RankSEGCallback(), writer] if together else [writer]
    text = "image 4 (predict_step, batch 1, sample 1): 1 of its 192 probabilities are NaN"
    with (
        pytest.warns(RuntimeWarning, match="not written: image 4 ") as warned,
        pytest.raises(ValueError, match="every other sample is") as caught,
    ):
        predict(here, loader(), *callbacks, step=broken("image 4"))
    assert str(caught.value) == f"1 not written; every other sample is:\n{text}"
    assert f"not written: {text}" in [str(warning.message) for warning in warned]
    assert files(tmp_path) == [f"image {number}.npy" for number in range(7) if number != 4]
    assert (np.load(tmp_path / "image 5.npy") == wanted()[5]).all()
    with pytest.raises(FileExistsError):  # what failed before is forgotten, what was written not
        predict(here, loader(), *callbacks)


@pytest.mark.filterwarnings("ignore:not written")
def test_batches_of_nothing_but_nan(lightning: Space, tmp_path: Path) -> None:
    names = [f"image {number}" for number in range(14)]
    writer = lightning.rankseg.RankSEGWriter(tmp_path, "probs", "name", output_mode="multilabel")
    with pytest.raises(ValueError, match="every other sample is") as caught:
        predict(lightning, loader(14, 2), writer, step=broken(*names[:13]))
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("13 not written")
    assert lines[-1] == "and 3 more"
    assert len(lines) == 12
    assert files(tmp_path) == ["image 13.npy"]


def test_none_steps_and_a_missing_key(here: Space, tmp_path: Path) -> None:
    def sometimes(batch: Any) -> Any:
        return None if "image 0" in batch["name"] else step(batch)

    predict(here, loader(), here.rankseg.RankSEGWriter(tmp_path, "probs"), step=sometimes)
    assert files(tmp_path) == [f"{number:06d}.npy" for number in range(3, 7)]
    text = r"predict_step, batch 0: there is no entry 'prediction' in dict\(probs: "
    with pytest.raises(ValueError, match=text):
        predict(here, loader(), here.rankseg.RankSEGWriter(tmp_path / "other"))


def test_files_that_are_there(here: Space, tmp_path: Path) -> None:
    (tmp_path / "000001.npy").write_bytes(b"mine")
    text = r"000001\.npy exists already \(for '000001'\): choose another folder, or overwrite=True"
    with pytest.raises(FileExistsError, match=text):
        predict(here, loader(3), here.rankseg.RankSEGWriter(tmp_path, "probs"))
    assert (tmp_path / "000001.npy").read_bytes() == b"mine"
    predict(here, loader(3), here.rankseg.RankSEGWriter(tmp_path, "probs", overwrite=True))
    assert_labels(tmp_path, ["000000", "000001", "000002"])


@pytest.mark.parametrize(
    ("labels", "options", "text"),
    [
        (torch.zeros(2, 3, 3, dtype=torch.int64), {"metric": "iou"}, "is decided already"),
        (torch.zeros(2, dtype=torch.int64), {}, r"labels must be \(B, \*spatial\)"),
        (torch.zeros(2, 3, dtype=torch.bool), {}, r"masks \(B, C, \*spatial\)"),
    ],
)
def test_what_is_decided_already(
    lightning: Space, tmp_path: Path, labels: Any, options: Any, text: str
) -> None:
    writer = lightning.rankseg.RankSEGWriter(tmp_path, **options)
    with pytest.raises(ValueError, match=text):
        predict(lightning, loader(2), writer, step=lambda _: {"prediction": labels})


def test_a_folder_that_takes_no_files(here: Space, tmp_path: Path) -> None:
    """Seen before the first batch is predicted; permissions mean nothing to root."""
    (tmp_path / "file").write_text("")
    folders = {tmp_path / "file": "File exists", tmp_path / "file" / "x": "Not a directory"}
    if sys.platform == "linux":
        folders[Path("/proc/rankseg")] = "No such file"
    read_only = tmp_path / "read only"
    read_only.mkdir()
    read_only.chmod(0o500)
    if not os.access(read_only, os.W_OK):
        folders[read_only] = "Permission denied"
    for folder, reason in folders.items():
        with pytest.raises(OSError, match="cannot write into the folder") as caught:
            predict(here, loader(2), here.rankseg.RankSEGWriter(folder), step=lambda _: 1 / 0)
        assert reason in str(caught.value)
        assert str(folder) in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"file_format": "gif"}, ValueError, "file_format must be one of 'npy', 'npz', 'png'"),
        ({"overwrite": 1}, TypeError, "overwrite must be True or False"),
        ({"name_key": 1.5}, TypeError, "name_key must be a str"),
        ({"metric": "dise"}, ValueError, "metric must be one of"),
    ],
)
def test_arguments_are_checked_when_it_is_made(
    lightning: Space, tmp_path: Path, arguments: Any, error: Any, text: str
) -> None:
    with pytest.raises(error, match=text):
        lightning.rankseg.RankSEGWriter(tmp_path, **arguments)


def test_png_without_pillow(
    lightning: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.delitem(sys.modules, "PIL.Image", raising=False)
    with pytest.raises(ImportError, match=r'pip install .*"pillow>=10"'):
        lightning.rankseg.RankSEGWriter(tmp_path, file_format="png")


KILLED = """
import os, signal, sys
from tiny_lightning import loader, probs_of, space

sync, calls = os.fsync, []

def kill_in_the_fourth_file(handle):
    if os.fstat(handle).st_size:  # of a file, not the folder
        calls.append(handle)
    if len(calls) == 8:
        os.kill(os.getpid(), signal.SIGKILL)
    sync(handle)

os.fsync = kill_in_the_fourth_file
here = space("lightning")
writer = here.rankseg.RankSEGWriter(sys.argv[1], "probs")
module = here.module(lambda batch: {"probs": probs_of(batch["image"])})
here.trainer(writer).predict(module, loader(), return_predictions=False)
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_a_killed_writer_leaves_no_half_file(tmp_path: Path) -> None:
    pytest.importorskip("lightning")
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KILLED, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        check=False,
    )
    assert done.returncode == -9, done.stderr.decode()
    whole = [path for path in tmp_path.iterdir() if path.suffix == ".npy"]
    assert 0 < len(whole) < 7
    for path in whole:
        assert (np.load(path) == wanted()[int(path.stem)]).all()


def memory_now() -> float:
    """Resident megabytes of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_memory_does_not_grow_with_the_data(lightning: Space, tmp_path: Path) -> None:
    """Batches of 7 MB of probabilities; that they add up without the option is seen as well."""
    memory: list[float] = []

    class Watch(lightning.pl.Callback):  # type: ignore[name-defined,misc]
        def on_predict_batch_end(self, *arguments: Any) -> None:
            memory.append(memory_now())

    def growth(folder: Path, returned: bool) -> float:
        memory.clear()
        writer = lightning.rankseg.RankSEGWriter(folder, "probs")
        data = DataLoader(Items(20, side=768), batch_size=1)
        trainer = lightning.trainer(writer, Watch())
        trainer.predict(lightning.module(step), data, return_predictions=returned)
        return memory[-1] - memory[5]

    assert growth(tmp_path / "constant", False) < 28  # four batches: allocators keep some
    assert growth(tmp_path / "growing", True) > 70  # ten of 14
