"""nnU-Net's own classes around RankSEG: managers, predictor, readers and writers, ensembles."""

from __future__ import annotations

import json
import multiprocessing
import pickle
import sys
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel
import numpy as np
import pytest
import tiny_nnunet
import torch

from rankseg import RankSEG
from rankseg_integrations.nnunet import (
    RankSEGLabelManager,
    RankSEGPlansManager,
    segment_folders,
    use_rankseg,
)

pytest.importorskip("nnunetv2")
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning"),  # on import
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
]

SHAPE = tiny_nnunet.SHAPE


@pytest.fixture(scope="module")
def managers() -> dict[bool, Any]:
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    manager = PlansManager(tiny_nnunet.plans())
    return {
        regions: manager.get_label_manager(tiny_nnunet.dataset(regions))
        for regions in (False, True)
    }


def logits(regions: bool, seed: int = 0, shape: tuple[int, ...] = SHAPE[::-1]) -> np.ndarray:
    """With ties, as in half precision."""
    values = 2 * np.random.default_rng(seed).normal(size=(2 if regions else 3, *shape))
    return (np.round(4 * values) / 4).astype(np.float32)


def probabilities(regions: bool, seed: int = 0, **options: Any) -> np.ndarray:
    values = torch.from_numpy(logits(regions, seed, **options))
    return (values.sigmoid() if regions else values.softmax(0)).numpy()


def decided(probs: np.ndarray, regions: bool, **options: Any) -> np.ndarray:
    mode = "multilabel" if regions else "multiclass"
    found = RankSEG(output_mode=mode, **options)(torch.from_numpy(probs)[None])[0].numpy()
    return np.where(found[1], 2, np.where(found[0], 1, 0)) if regions else found


# --- managers --------------------------------------------------------------------------------


@pytest.mark.parametrize("regions", [False, True])
@pytest.mark.parametrize("kind", ["numpy", "torch"])
class TestLabelManager:
    def given(self, array: np.ndarray, kind: str) -> Any:
        return array if kind == "numpy" else torch.from_numpy(array)

    def test_accuracy_is_nnunets_own(self, managers, regions, kind):
        plain, ours = managers[regions], RankSEGLabelManager(managers[regions], {"metric": "acc"})
        for method, array in (
            ("convert_probabilities_to_segmentation", probabilities(regions)),
            ("convert_logits_to_segmentation", logits(regions)),
            ("convert_logits_to_segmentation", logits(regions) / 1e7),  # softmax rounds to ties
        ):
            expected = getattr(plain, method)(self.given(array.copy(), kind))
            got = getattr(ours, method)(self.given(array.copy(), kind))
            assert type(got) is type(expected)
            assert got.dtype == expected.dtype
            np.testing.assert_array_equal(np.asarray(got), np.asarray(expected))

    def test_other_metrics_are_rankseg(self, managers, regions, kind):
        ours = RankSEGLabelManager(managers[regions], {"metric": "iou", "pruning_prob": 0.1})
        plain = managers[regions].convert_probabilities_to_segmentation(probabilities(regions))
        expected = decided(probabilities(regions), regions, metric="iou", pruning_prob=0.1)
        assert (expected != plain).any()
        got = ours.convert_probabilities_to_segmentation(self.given(probabilities(regions), kind))
        np.testing.assert_array_equal(np.asarray(got), expected)
        got = ours.convert_logits_to_segmentation(self.given(logits(regions), kind))
        np.testing.assert_array_equal(np.asarray(got), expected)

    def test_wrong_channels(self, managers, regions, kind):
        ours = RankSEGLabelManager(managers[regions], {})
        with pytest.raises(ValueError, match=r"channels, got \(4, 3, 3\)"):
            ours.convert_probabilities_to_segmentation(self.given(np.zeros((4, 3, 3)), kind))


def test_the_ignore_label_is_never_predicted(managers):
    assert managers[False].has_ignore_label
    ours = RankSEGLabelManager(managers[False], {"metric": "dice"})
    assert ours.num_segmentation_heads == 3
    assert set(np.unique(ours.convert_probabilities_to_segmentation(probabilities(False)))) == {
        *(0, 1, 2)
    }


@pytest.mark.parametrize(
    ("regions", "options"),
    [
        (False, {}),
        (False, {"assignment": "ascent"}),
        (False, {"include_background": False}),
        (True, {}),
    ],
)
def test_a_crop_is_decided_as_part_of_its_image(managers, regions, options):
    crop = probabilities(regions)
    whole = np.zeros((len(crop), 50, 40, 40), np.float32)
    whole[0] = not regions
    box = (slice(5, 5 + crop.shape[1]), slice(3, 3 + crop.shape[2]), slice(1, 1 + crop.shape[3]))
    whole[(slice(None), *box)] = crop
    ours = RankSEGLabelManager(managers[regions], options, pixels=whole[0].size)
    expected = decided(whole, regions, **options)
    got = ours.convert_probabilities_to_segmentation(crop)
    np.testing.assert_array_equal(got, expected[box])
    expected[box] = 0
    assert not expected.any()
    if not options and not regions:
        assert (got != decided(crop, regions)).any(), "or the crop would not matter"


def test_managers_survive_the_way_to_another_process(managers):
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    plans = RankSEGPlansManager(PlansManager(tiny_nnunet.plans()), {"metric": "iou"}, 10**6, "x")
    copy = pickle.loads(pickle.dumps(plans))
    assert copy.transpose_backward == [1, 2, 0]
    label_manager = pickle.loads(pickle.dumps(copy.get_label_manager(tiny_nnunet.dataset(True))))
    assert label_manager.regions_class_order == [1, 2]
    assert label_manager.rankseg.settings.metric == "iou"
    assert (label_manager.pixels, label_manager.case) == (10**6, "x")
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = copy.nothing_of_the_kind


# --- the predictor ---------------------------------------------------------------------------


def volume(seed: int = 0) -> tuple[np.ndarray, dict[str, Any]]:
    """An image (1, z, y, x), and where it lies, as nnU-Net's reader has it."""
    values, _ = tiny_nnunet.case(seed)
    spacing = [0.9, 0.8, 2.5]
    place = {"spacing": spacing[::-1], "origin": (0.0, 0.0, 0.0), "direction": np.eye(3).ravel()}
    return values.transpose()[None], {"sitk_stuff": place, "spacing": spacing}


@pytest.mark.parametrize("regions", [False, True])
def test_a_single_array(regions):
    plain = tiny_nnunet.predictor(regions)
    image, properties = volume()
    expected, probs = plain.predict_single_npy_array(
        image, dict(properties), save_or_return_probabilities=True
    )
    ours = use_rankseg(plain, "acc")
    assert ours is plain
    np.testing.assert_array_equal(ours.predict_single_npy_array(image, dict(properties)), expected)
    use_rankseg(ours, "dice")
    got, same = ours.predict_single_npy_array(
        image, dict(properties), save_or_return_probabilities=True
    )
    np.testing.assert_array_equal(same, probs)
    np.testing.assert_array_equal(got, decided(probs, regions))
    assert got.dtype == np.uint8
    assert (got != expected).any()
    assert (probs[0] == (not regions)).mean() > 0.3, "nnU-Net should have cropped"
    np.testing.assert_array_equal(ours.predict_single_npy_array(image, dict(properties)), got)


@pytest.fixture
def threads_for_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Export in threads: what is sent is pickled all the same, by another test."""
    from nnunetv2.inference import predict_from_raw_data

    context = SimpleNamespace(Pool=ThreadPool)
    stand_in = SimpleNamespace(
        get_context=lambda kind: context, TimeoutError=multiprocessing.TimeoutError
    )
    monkeypatch.setattr(predict_from_raw_data, "multiprocessing", stand_in)


def preprocessed(predictor: Any, files: list[str | None]) -> list[dict[str, Any]]:
    from nnunetv2.inference.data_iterators import PreprocessAdapterFromNpy

    images, properties = zip(*(volume(seed) for seed in range(len(files))), strict=True)
    return list(
        PreprocessAdapterFromNpy(
            list(images),
            None,
            list(properties),
            files,
            predictor.plans_manager,
            predictor.dataset_json,
            predictor.configuration_manager,
        )
    )


@pytest.mark.usefixtures("threads_for_processes")
@pytest.mark.parametrize("regions", [False, True])
def test_many_images(tmp_path, regions):
    ours = use_rankseg(tiny_nnunet.predictor(regions), "dice")
    items = preprocessed(ours, [None, None])
    found = ours.predict_from_data_iterator(iter(items), True, 1)
    for segmentation, probs in found:
        np.testing.assert_array_equal(segmentation, decided(probs, regions))
    plain = ours.predict_from_data_iterator(iter(items), False, 1)
    np.testing.assert_array_equal(plain[1], found[1][0])

    files = [str(tmp_path / name) for name in ("first", "second")]
    items = [{**item, "ofile": file} for item, file in zip(items, files, strict=True)]
    ours.predict_from_data_iterator(iter(items), True, 1)
    for file, (segmentation, probs) in zip(files, found, strict=True):
        written = np.asarray(nibabel.load(f"{file}.nii.gz").dataobj).transpose()
        np.testing.assert_array_equal(written, segmentation)
        np.testing.assert_array_equal(np.load(f"{file}.npz")["probabilities"], probs)


@pytest.mark.usefixtures("threads_for_processes")
def test_nan_in_memory_names_the_image(tmp_path):
    ours = use_rankseg(tiny_nnunet.predictor(), "dice")
    items = preprocessed(ours, [str(tmp_path / name) for name in ("good", "bad")])
    items[1]["data"][:] = np.nan
    with pytest.raises(ValueError, match="bad: probs contains NaN"):
        ours.predict_from_data_iterator(iter(items), False, 1)


@pytest.mark.usefixtures("threads_for_processes")
def test_an_iterator_with_workers_is_ended():
    """As nnU-Net ends those of batchgenerators, which it does not see behind ours."""

    class Workers(list):
        ended = 0

        def _finish(self) -> None:
            self.ended += 1

    workers = Workers()
    use_rankseg(tiny_nnunet.predictor()).predict_from_data_iterator(workers, False, 1)
    assert workers.ended == 1


def test_another_model_is_decided_too():
    ours = use_rankseg(tiny_nnunet.predictor(), "dice")
    other = tiny_nnunet.predictor(True)
    ours.manual_initialization(
        other.network,
        other.plans_manager,
        other.configuration_manager,
        other.list_of_parameters,
        other.dataset_json,
        "TinyTrainer",
        None,
    )
    image, properties = volume()
    got, probs = ours.predict_single_npy_array(image, properties, save_or_return_probabilities=True)
    np.testing.assert_array_equal(got, decided(probs, True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric": "f1"}, "metric must be one of"),
        ({"output_mode": "multilabel"}, "output_mode cannot be given here"),
        ({"activation": "softmax"}, "activation cannot be given here"),
        ({"aggregation": "dataset"}, "each case is decided on its own"),
        ({"unassigned_policy": "void", "void_index": 300}, "void_index must be 0 to 255"),
    ],
)
def test_options_that_make_no_sense(options, message, tmp_path):
    predictor = tiny_nnunet.predictor()
    with pytest.raises(ValueError, match=message):
        use_rankseg(predictor, **options)
    assert type(predictor.label_manager).__name__ == "LabelManager", "left as it was"


def test_predictors_that_are_none():
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    with pytest.raises(TypeError, match="must be an nnUNetPredictor, got str"):
        use_rankseg("predictor")
    with pytest.raises(ValueError, match="call initialize_from_trained_model_folder first"):
        use_rankseg(nnUNetPredictor(device=torch.device("cpu")))


def test_missing_package_says_how_to_get_it(monkeypatch, tmp_path):
    predictor = tiny_nnunet.predictor()
    for name in [name for name in sys.modules if name.split(".")[0] == "nnunetv2"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r'pip install "nibabel>=5.2" "nnunetv2>=2.5"$'):
        use_rankseg(predictor)


# --- folders: nnU-Net's readers and writers --------------------------------------------------


def fill(folder: Path, cases: dict[str, np.ndarray], reader: str, ending: str) -> Path:
    folder.mkdir(parents=True)
    regions = len(next(iter(cases.values()))) == 2
    for name, probs in cases.items():
        np.savez_compressed(folder / f"{name}.npz", probabilities=probs)
    content = tiny_nnunet.dataset(regions) | {"file_ending": ending}
    (folder / "dataset.json").write_text(json.dumps(content))
    (folder / "plans.json").write_text(json.dumps(tiny_nnunet.plans(reader)))
    return folder


def reader(name: str) -> Any:
    from nnunetv2.imageio.reader_writer_registry import recursive_find_reader_writer_by_name

    return recursive_find_reader_writer_by_name(name)()


def store(path: Path, shape: tuple[int, ...]) -> Path:
    """An image in the format of the suffix; NIfTI and its like lie obliquely."""
    values = np.random.default_rng(1).integers(0, 200, shape).astype(np.uint8)
    if path.suffix in (".png", ".tif"):
        from skimage import io

        io.imsave(path, values, check_contrast=False)
        return path
    import SimpleITK

    nibabel.save(tiny_nnunet.image(values), path.with_name("made.nii"))
    SimpleITK.WriteImage(SimpleITK.ReadImage(str(path.with_name("made.nii"))), str(path))
    path.with_name("made.nii").unlink()
    return path


FORMATS = [
    ("SimpleITKIO", ".nii.gz"),
    ("NibabelIO", ".nii.gz"),
    ("NibabelIOWithReorient", ".nii.gz"),
    ("SimpleITKIOWithReorient", ".nii.gz"),
    ("SimpleITKIO", ".nrrd"),
    ("SimpleITKIO", ".mha"),
    ("NaturalImage2DIO", ".png"),
    ("Tiff3DIO", ".tif"),
]


@pytest.mark.parametrize("regions", [False, True])
@pytest.mark.parametrize(("name", "ending"), FORMATS)
@pytest.mark.parametrize("unpickle", [False, True])
def test_files_are_those_of_nnunets_writer(tmp_path, regions, name, ending, unpickle):
    """Accuracy, on nnU-Net's own way from the image to the segmentation; no tie of formats."""
    place = tmp_path / "images"
    place.mkdir()
    image = store(place / f"a_0000{ending}", (9, 11) if name.startswith("Nat") else SHAPE)
    own = reader(name)
    array, properties = own.read_images([str(image)])
    probs = probabilities(regions, shape=array.shape[1:])
    folder = fill(tmp_path / "pred", {"a": probs}, name, ending)
    properties["shape_before_cropping"] = [array.shape[1:][axis] for axis in (2, 0, 1)]
    (folder / "a.pkl").write_bytes(pickle.dumps(properties))
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    manager = PlansManager(tiny_nnunet.plans()).get_label_manager(tiny_nnunet.dataset(regions))
    expected = tmp_path / "expected"
    expected.mkdir()
    own.write_seg(
        manager.convert_probabilities_to_segmentation(probs),
        str(expected / f"a{ending}"),
        properties,
    )

    out = tmp_path / "out"
    where: dict[str, Any] = {"unpickle": True} if unpickle else {"reference": place}
    written = segment_folders(folder, out, "acc", **where)
    assert written == [out / f"a{ending}"]
    assert {path.name for path in out.iterdir()} == {
        *(path.name for path in expected.iterdir()),
        *("dataset.json", "plans.json"),
    }
    if "nii" in ending:
        same_nifti(written[0], expected / written[0].name, image)
    else:
        assert written[0].read_bytes() == (expected / written[0].name).read_bytes()

    segment_folders(folder, out, "dice", overwrite=True, **where)
    got, _ = own.read_seg(str(written[0]))
    np.testing.assert_array_equal(got[0], decided(probs, regions))
    assert not np.array_equal(got[0], own.read_seg(str(expected / f"a{ending}"))[0][0])


def same_nifti(got: Path, expected: Path, image: Path) -> None:
    ours, theirs, given = (nibabel.load(path) for path in (got, expected, image))
    np.testing.assert_array_equal(np.asarray(ours.dataobj), np.asarray(theirs.dataobj))
    assert ours.get_data_dtype() == theirs.get_data_dtype()
    # nnU-Net's readers compute directions anew: 1e-6 of them is float32's rounding.
    np.testing.assert_allclose(ours.affine, theirs.affine, atol=1e-4)
    np.testing.assert_allclose(ours.affine, given.affine, atol=1e-4)


@pytest.mark.parametrize("name", ["SimpleITKIO", "NibabelIOWithReorient"])
def test_sitk_reads_the_same_place(tmp_path, name):
    SimpleITK = pytest.importorskip("SimpleITK")
    place = tmp_path / "images"
    place.mkdir()
    image = store(place / "a_0000.nii.gz", SHAPE)
    array, _ = reader(name).read_images([str(image)])
    probs = probabilities(False, shape=array.shape[1:])
    folder = fill(tmp_path / "pred", {"a": probs}, name, ".nii.gz")
    (written,) = segment_folders(folder, tmp_path / "out", reference=place)
    got, given = SimpleITK.ReadImage(str(written)), SimpleITK.ReadImage(str(image))
    for what in ("GetSpacing", "GetOrigin", "GetDirection", "GetSize"):
        assert getattr(got, what)() == getattr(given, what)()
    assert nibabel.load(written).affine.tobytes() == nibabel.load(image).affine.tobytes()


def test_the_accuracy_of_an_ensemble_is_nnunets(tmp_path):
    from nnunetv2.ensembling.ensemble import merge_files
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    place = tmp_path / "images"
    place.mkdir()
    image = store(place / "a_0000.nii.gz", SHAPE)
    own = reader("SimpleITKIO")
    array, properties = own.read_images([str(image)])
    folders = []
    for seed in range(3):
        probs = probabilities(False, seed, shape=array.shape[1:])
        folders.append(fill(tmp_path / f"fold_{seed}", {"a": probs}, "SimpleITKIO", ".nii.gz"))
    (folders[0] / "a.pkl").write_bytes(pickle.dumps(properties))
    manager = PlansManager(tiny_nnunet.plans()).get_label_manager(tiny_nnunet.dataset(False))
    files = [str(folder / "a.npz") for folder in folders]
    merge_files(files, str(tmp_path / "merged"), ".nii.gz", own, manager, True)
    (written,) = segment_folders(folders, tmp_path / "out", "acc", reference=place)
    same_nifti(written, tmp_path / "merged.nii.gz", image)
    (written,) = segment_folders(folders, tmp_path / "dice", reference=place)
    mean = np.load(tmp_path / "merged.npz")["probabilities"]
    got = np.asarray(nibabel.load(written).dataobj).transpose()
    np.testing.assert_array_equal(got, decided(mean, False))


@pytest.mark.parametrize("trouble", ["raises", "stops"])
def test_a_writer_that_dies_leaves_nothing(tmp_path, monkeypatch, trouble):
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

    place = tmp_path / "images"
    place.mkdir()
    cases = {name: probabilities(False) for name in "ab"}
    folder = fill(tmp_path / "pred", cases, "SimpleITKIO", ".nrrd")
    for name in cases:
        store(place / f"{name}_0000.nrrd", SHAPE)
    whole, out = SimpleITKIO.write_seg, tmp_path / "out"

    def half(self: Any, segmentation: Any, file: str, properties: Any) -> None:
        if file.endswith("b.nrrd"):
            Path(file).write_bytes(b"half a result")
            assert not (out / "b.nrrd").exists()
            raise RuntimeError("disk gone") if trouble == "raises" else KeyboardInterrupt
        whole(self, segmentation, file, properties)

    monkeypatch.setattr(SimpleITKIO, "write_seg", half)
    error = RuntimeError if trouble == "raises" else KeyboardInterrupt
    with pytest.raises(error):
        segment_folders(folder, out, reference=place)
    names = sorted(path.name for path in out.iterdir())
    assert names == ["a.nrrd", "dataset.json", "plans.json"]


def test_failures_are_raised_when_the_others_are_written(tmp_path):
    place = tmp_path / "images"
    place.mkdir()
    bad = probabilities(False)
    bad[0, 0, 0, 0] = np.nan
    cases = {"a": probabilities(False), "b": bad, "c": probabilities(False), "d": bad * 0}
    folder = fill(tmp_path / "pred", cases, "SimpleITKIO", ".nii.gz")
    for name in "abc":
        store(place / f"{name}_0000.nii.gz", SHAPE)
    with pytest.raises(RuntimeError, match="2 of 4 cases failed, the others are written") as caught:
        segment_folders(folder, tmp_path / "out", reference=place)
    lines = str(caught.value).splitlines()
    assert lines[1].startswith(f"{folder / 'b.npz'}: probs contains NaN")
    assert "neither d_0000.nii.gz nor d.nii.gz" in lines[2]
    assert [path.name for path in sorted((tmp_path / "out").glob("*.gz"))] == [
        *("a.nii.gz", "c.nii.gz")
    ]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"no pickle", "does not hold nnU-Net's properties"),
        (pickle.dumps({"spacing": 1}), "does not hold nnU-Net's properties"),
        (pickle.dumps({"shape_before_cropping": (3, 4, 5)}), "are not of one image"),
        (pickle.dumps({"shape_before_cropping": SHAPE}), "cannot be written by SimpleITKIO"),
    ],
)
def test_pickles_of_something_else(tmp_path, content, reason):
    folder = fill(tmp_path / "pred", {"a": probabilities(False)}, "SimpleITKIO", ".nii.gz")
    (folder / "a.pkl").write_bytes(content)
    with pytest.raises(RuntimeError, match=reason):
        segment_folders(folder, tmp_path / "out", unpickle=True)
    assert not list((tmp_path / "out").glob("*.gz"))


def test_readers_that_do_not_exist_or_do_not_read(tmp_path):
    place = tmp_path / "images"
    place.mkdir()
    folder = fill(tmp_path / "pred", {"a": probabilities(False)}, "NoSuchIO", ".nii.gz")
    store(place / "a_0000.nii.gz", SHAPE)
    with pytest.raises(RuntimeError, match=r"no reader for \.nii\.gz by .*NoSuchIO"):
        segment_folders(folder, tmp_path / "out", reference=place)
    (folder / "plans.json").write_text(json.dumps(tiny_nnunet.plans("SimpleITKIO")))
    (folder / "dataset.json").write_text(
        json.dumps(tiny_nnunet.dataset(False) | {"file_ending": ".nrrd"})
    )
    (place / "a_0000.nrrd").write_bytes(b"no image")
    with pytest.raises(RuntimeError, match=r"a_0000\.nrrd cannot be read by SimpleITKIO"):
        segment_folders(folder, tmp_path / "other", reference=place)


def test_one_folder_may_be_text(tmp_path):
    place = tmp_path / "images"
    place.mkdir()
    store(place / "a_0000.nii.gz", SHAPE)
    folder = fill(tmp_path / "pred", {"a": probabilities(False)}, "SimpleITKIO", ".nii.gz")
    (folder / "plans.json").unlink()  # as nnUNetv2_ensemble leaves it
    written = segment_folders(str(folder), str(tmp_path / "out"), reference=str(place))
    assert [path.name for path in written] == ["a.nii.gz"]
    with pytest.raises(ValueError, match="output_mode cannot be given here"):
        segment_folders(folder, tmp_path / "other", output_mode="multilabel")
    with pytest.raises(ValueError, match="no folders"):
        segment_folders([], tmp_path / "other")
    assert not (tmp_path / "other").exists()
