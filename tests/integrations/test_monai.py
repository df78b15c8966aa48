"""MONAI's own transforms, engines, bundles, loaders and writers around `AsRankSEG`."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rankseg import DecisionRule, RankSEG

pytest.importorskip("monai")
pytest.importorskip("nibabel")

import nibabel as nib
from monai.bundle import ConfigParser
from monai.data import (
    DataLoader,
    Dataset,
    MetaTensor,
    decollate_batch,
    list_data_collate,
    set_track_meta,
)
from monai.metrics import DiceMetric
from monai.transforms import (
    Activationsd,
    AsDiscrete,
    AsDiscreted,
    CenterSpatialCropd,
    Compose,
    DivisiblePadd,
    EnsureChannelFirstd,
    Invertd,
    LoadImaged,
    Orientationd,
    SaveImaged,
    Spacingd,
)
from monai.utils import TransformBackends

import rankseg_integrations.monai
from rankseg_integrations.monai import AsRankSEG, AsRankSEGD, AsRankSEGd, AsRankSEGDict

ROOT = Path(__file__).parents[2]
OBLIQUE = np.array(
    [[-1.3, 0.2, 0.1, 40], [0.15, -0.9, 0.3, -20.5], [-0.05, 0.31, 2.2, 7], [0, 0, 0, 1]],
    dtype=np.float32,
).astype(float)


def probs(*shape: int, seed: int = 0) -> Tensor:
    """Softmax probabilities (C, *spatial)."""
    return (2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))).softmax(0)


KINDS = {"tensor": lambda values: values, "numpy": Tensor.numpy, "meta": MetaTensor}
SHAPES = [(3, 40), (4, 9, 11), (3, 7, 6, 5)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_labels_are_those_of_rankseg_and_come_as_those_of_asdiscrete(
    kind: str, shape: tuple[int, ...]
) -> None:
    values = probs(*shape)
    given = KINDS[kind](values.clone())
    found = AsRankSEG(metric="dice")(given)
    official = AsDiscrete(argmax=True)(KINDS[kind](values.clone()))
    assert type(found) is type(official) is MetaTensor
    assert (found.shape, found.dtype) == (official.shape, official.dtype)
    assert torch.equal(found.as_tensor(), RankSEG("dice")(values[None]).float())
    assert np.array_equal(given, values), "the input is never modified"


@pytest.mark.parametrize("kind", KINDS)
def test_argmax_and_accuracy_are_asdiscrete(kind: str) -> None:
    values = KINDS[kind](probs(4, 9, 11))
    official = AsDiscrete(argmax=True)(values)
    for options in ({"solver": "argmax"}, {"metric": "acc"}):
        assert torch.equal(AsRankSEG(**options)(values), official)
    hot = AsDiscrete(argmax=True, to_onehot=5)(values)
    found = AsRankSEG(solver="argmax", to_onehot=5)(values)
    assert torch.equal(found, hot)
    assert found.dtype == hot.dtype


def test_masks_and_binary_labels() -> None:
    values = probs(3, 8, 8)
    masks = AsRankSEG(metric="iou", output_mode="multilabel")(values)
    assert torch.equal(masks.as_tensor(), RankSEG("iou", "multilabel")(values[None])[0].float())
    foreground = values[:1]
    one = AsRankSEG(pruning_prob=0.0)(foreground)
    other = AsRankSEG(pruning_prob=0.0, output_mode="multilabel")(foreground)
    assert one.shape == (1, 8, 8)
    assert torch.equal(one, other)
    assert 0 < one.sum() < 64
    hot = AsRankSEG(pruning_prob=0.0, to_onehot=2)(foreground)
    assert torch.equal(hot, torch.cat([1 - one, one]))


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_activation_reads_logits(activation: str) -> None:
    logits = 3 * torch.randn(3, 8, 9, generator=torch.Generator().manual_seed(1))
    found = AsRankSEG(activation=activation)(MetaTensor(logits))
    assert torch.equal(found[0].long(), RankSEG(activation=activation)(logits[None])[0])
    assert len(found.unique()) == 3


@pytest.mark.parametrize(
    "dtype", [torch.uint8, np.uint8, np.dtype("uint8"), "uint8", "torch.uint8"]
)
def test_dtype(dtype: Any) -> None:
    found = AsRankSEG(dtype=dtype)(probs(3, 8, 8))
    assert found.dtype == torch.uint8
    assert torch.equal(found.long()[0].as_tensor(), RankSEG("dice")(probs(3, 8, 8)[None])[0])


def test_a_dtype_that_would_change_a_label_is_refused() -> None:
    values = probs(300, 12, 12)
    with pytest.raises(ValueError, match=r"uint8 holds 0 to 255, and labels are \d+ to 299"):
        AsRankSEG(solver="argmax", dtype=torch.uint8)(values)
    assert AsRankSEG(solver="argmax", dtype=torch.int16)(values).max() == 299
    with pytest.raises(ValueError, match="bool holds 0 to 1"):
        AsRankSEG(dtype=torch.bool)(probs(3, 8, 8))
    with pytest.raises(ValueError, match="float16 holds -2048 to 2048"):
        AsRankSEG(unassigned_policy="void", void_index=5000, dtype=torch.float16)(0.5 * values)
    for wrong in (None, "foo", torch.complex64, 3):
        with pytest.raises(TypeError, match="dtype must be a type"):
            AsRankSEG(dtype=wrong)


def test_read_only_and_foreign_arrays_are_read() -> None:
    values = probs(3, 8, 8).numpy()
    want = AsRankSEG()(values)
    values.setflags(write=False)
    assert torch.equal(AsRankSEG()(values), want)
    assert torch.equal(AsRankSEG()(values.astype(">f4")), want)
    assert torch.equal(AsRankSEG()(values[:, ::-1])[:, range(7, -1, -1)], want)
    assert torch.equal(AsRankSEG()(torch.from_numpy(values.copy()).requires_grad_()), want)


def test_metadata_and_applied_operations_are_kept() -> None:
    image = MetaTensor(
        probs(3, 8, 8, 8), affine=torch.tensor(OBLIQUE), meta={"filename_or_obj": "a"}
    )
    image.push_applied_operation({"class": "Any", "id": 1})
    found = AsRankSEG()(image)
    assert found.applied_operations == image.applied_operations
    assert torch.equal(found.affine, image.affine)
    assert found.meta["filename_or_obj"] == "a"
    set_track_meta(False)
    try:
        assert type(AsRankSEG()(image)) is Tensor
    finally:
        set_track_meta(True)


def test_a_configured_rankseg_or_rule_decides() -> None:
    values = probs(3, 8, 8)
    ours = RankSEG("iou", pruning_prob=0.1)
    assert torch.equal(AsRankSEG(ours)(values)[0].long().as_tensor(), ours(values[None])[0])
    rule = ours.decide([probs(3, 8, 8, seed=seed)[None] for seed in range(3)])
    found = AsRankSEGd("pred", rule, to_onehot=3)({"pred": values})["pred"]
    assert torch.equal(found.argmax(0).as_tensor(), rule(values[None])[0])
    with pytest.raises(TypeError, match="got rankseg and metric, smooth: give either"):
        AsRankSEG(ours, metric="dice", smooth=1.0)
    with pytest.raises(TypeError, match=r"got str 'dice': options are given by name"):
        AsRankSEG("dice")  # type: ignore[arg-type]
    for given in ({"aggregation": "dataset"}, {"rankseg": RankSEG(aggregation="dataset")}):
        with pytest.raises(ValueError, match="aggregation='dataset' needs all images together"):
            AsRankSEG(**given)


@pytest.mark.parametrize("name", ["rounding", "argmax", "threshold", "sigmoid", "dim", "keepdim"])
def test_arguments_of_asdiscrete_that_do_not_exist_here_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"takes no parameter '{name}'; parameters: "):
        AsRankSEG(**{name: 1})
    with pytest.raises(ValueError, match=f"takes no parameter '{name}'; parameters: "):
        AsRankSEGd("pred", **{name: 1})


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"to_onehot": True}, TypeError, "to_onehot must be a number of classes"),
        ({"to_onehot": 0}, ValueError, "to_onehot must be at least 1"),
        ({"to_onehot": 3, "output_mode": "multilabel"}, ValueError, "one mask a class already"),
        ({"metric": "f1"}, ValueError, "metric must be one of 'dice', 'iou'"),
        ({"activation": "relu"}, ValueError, "activation must be one of 'none', 'softmax'"),
    ],
)
def test_wrong_arguments(wrong: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        AsRankSEG(**wrong)


def test_too_few_channels_for_one_hot() -> None:
    with pytest.raises(
        ValueError, match=r"to_onehot=2 is too small for labels of 3 classes, 0 to 2"
    ):
        AsRankSEG(to_onehot=2)(probs(3, 8, 8))


def test_void_pixels_have_no_channel() -> None:
    unsure = AsRankSEG(unassigned_policy="void", to_onehot=3)(probs(3, 16, 16) * 0.6)
    labels = AsRankSEG(unassigned_policy="void")(probs(3, 16, 16) * 0.6)
    assert torch.equal(unsure.sum(0, keepdim=True) == 0, labels == 255)
    assert 0 < (labels == 255).sum() < 256


# Values


@pytest.mark.parametrize("output_mode", ["multiclass", "multilabel"])
def test_rounding_of_an_interpolation_is_put_back(output_mode: str) -> None:
    values = probs(3, 8, 8)
    values[0, 0] = 1
    values[1:, 0] = 0
    rounded = values.clone()
    rounded[0, 0] += 2e-7
    rounded[1, 0] -= 1e-9
    with pytest.raises(ValueError, match="probs must lie in"):
        RankSEG("dice", output_mode)(rounded[None])
    transform = AsRankSEG(output_mode=output_mode)
    assert torch.equal(transform(rounded), transform(values))
    rounded[0, 0, 0] = 1.01
    with pytest.raises(ValueError, match=r"probs must lie in \[0, 1\], got min=.*max=1\.0"):
        transform(rounded)


def padded_organs() -> tuple[Tensor, Tensor]:
    """Probabilities in which background is rare, and the same, padded as ``Invertd`` pads."""
    logits = torch.randn(3, 12, 12, generator=torch.Generator().manual_seed(2))
    logits[0] -= 2
    logits[0, :3, :3] += 6
    inside = (2 * logits).softmax(0)
    return inside, nn.functional.pad(inside, (4, 4, 4, 4))


@pytest.mark.parametrize("assignment", ["published", "ascent"])
def test_padding_is_background_and_changes_nothing_inside(assignment: str) -> None:
    inside, padded = padded_organs()
    transform = AsRankSEG(assignment=assignment)
    found = transform(padded)
    assert torch.equal(found[:, 4:-4, 4:-4], transform(inside))
    frame = torch.ones(20, 20, dtype=torch.bool)
    frame[4:-4, 4:-4] = False
    assert not found[0, frame].any()
    core = RankSEG("dice", assignment=assignment)(padded[None])[0]
    assert core[frame].any(), "otherwise this test could not fail"
    rule = RankSEG("dice").decide(inside[None])
    assert not AsRankSEG(rule)(padded)[0, frame].any()
    void = AsRankSEG(unassigned_policy="void")(padded)
    assert (void[0, frame] == 255).all(), "who asks for void pixels gets them"
    nothing = AsRankSEG()(torch.zeros(3, 4, 4))
    assert not nothing.any()


@pytest.mark.parametrize("kind", KINDS)
def test_valid_mask(kind: str) -> None:
    values = probs(3, 8, 8)
    mask = torch.ones(1, 8, 8)
    mask[:, :3] = 0
    want = RankSEG("dice")(values[None], mask > 0)
    values[:, 0, 0] = torch.nan
    given = KINDS[kind](mask)
    found = AsRankSEG()(KINDS[kind](values), given)
    assert torch.equal(found.long().as_tensor(), want)
    assert (found[:, :3] == 255).all()
    data = {"pred": KINDS[kind](values), "roi": given}
    assert torch.equal(AsRankSEGd("pred", mask_key="roi")(data)["pred"], found)
    assert torch.equal(AsRankSEG()([values, values], [mask, mask[0]])[1], found)


def test_wrong_valid_masks() -> None:
    values = probs(3, 8, 8)
    with pytest.raises(ValueError, match=r"shape \(1, \*spatial\) or \(\*spatial\).*got \(8, 7\)"):
        AsRankSEG()(values, torch.ones(8, 7))
    with pytest.raises(TypeError, match="valid_mask must be a tensor or NumPy array; got list"):
        AsRankSEG()(values, [1])
    with pytest.raises(KeyError, match="Key `roi` of transform `AsRankSEGd` was missing"):
        AsRankSEGd("pred", mask_key="roi")({"pred": values})
    rule = RankSEG("dice").decide(values[None])
    for use in (lambda: AsRankSEGd("pred", rule, mask_key="a"), lambda: AsRankSEG(rule)(values, 1)):
        with pytest.raises(ValueError, match="takes no valid_mask or mask_key"):
            use()


# Items, keys, batches


def test_each_key_has_its_own_arguments() -> None:
    values = probs(3, 8, 8)
    transform = AsRankSEGd(
        ["a", "b"],
        metric=["dice", "iou"],
        output_mode=("multiclass", "multilabel"),
        to_onehot=[3, None],
        dtype=[torch.uint8, torch.float],
        pruning_prob=[(0.1, 0.2, 0.3), 0.0],
        class_weights=[None, (1, 2, 3)],
    )
    found = transform({"a": values, "b": values, "image": 3})
    want = RankSEG("dice", pruning_prob=(0.1, 0.2, 0.3))(values[None])[0]
    assert torch.equal(found["a"].argmax(0).as_tensor(), want)
    assert found["a"].dtype == torch.uint8
    want = RankSEG("iou", "multilabel", pruning_prob=0.0)(values[None])[0].float()
    assert torch.equal(found["b"].as_tensor(), want)
    assert found["image"] == 3
    assert AsRankSEGD is AsRankSEGd is AsRankSEGDict
    assert AsRankSEGd.backend == [TransformBackends.TORCH]


def test_numbers_for_each_class_with_one_key_and_with_several() -> None:
    def pruning(keys: Any, given: Any) -> list[Any]:
        made = AsRankSEGd(keys, pruning_prob=given)
        return [converter.rankseg.settings.pruning_prob for converter in made.converters]

    assert pruning("a", (0.1, 0.2, 0.3)) == [(0.1, 0.2, 0.3)]
    assert pruning("a", np.array([0.25, 0.5])) == [(0.25, 0.5)]
    assert pruning("a", [0.1]) == [0.1]
    assert pruning("a", [(0.1, 0.2)]) == [(0.1, 0.2)]
    assert pruning(["a", "b"], 0.1) == [0.1, 0.1]
    assert pruning(["a", "b"], [0.1, 0.2]) == [0.1, 0.2]
    assert pruning(["a", "b"], [(0.1, 0.2), 0.3]) == [(0.1, 0.2), 0.3]
    with pytest.raises(ValueError, match=r"pruning_prob has 3 .* \[\(0.1, 0.2, 0.3\)\] \* 2$"):
        pruning(["a", "b"], (0.1, 0.2, 0.3))
    weights = AsRankSEGd(["a", "b"], class_weights=[1, 2]).converters
    assert [converter.rankseg.settings.class_weights for converter in weights] == [(1, 2), (1, 2)]
    with pytest.raises(ValueError, match="metric has 3 entries for the 2 keys 'a', 'b': give one"):
        AsRankSEGd(["a", "b"], metric=["dice"] * 3)
    with pytest.raises(ValueError, match="mask_key has 1 entries for the 2 keys"):
        AsRankSEGd(["a", "b"], mask_key=["roi"])


def test_missing_keys() -> None:
    values = MetaTensor(probs(3, 8, 8), meta={"filename_or_obj": "case_07.nii.gz"})
    message = (
        "Key `pred` of transform `AsRankSEGd` was missing in the data of case_07.nii.gz and "
        "allow_missing_keys==False: the item has 'image', 'label'"
    )
    with pytest.raises(KeyError, match=re.escape(message)):
        AsRankSEGd("pred")({"image": values, "label": 1})
    found = AsRankSEGd(["pred", "image"], allow_missing_keys=True)({"image": values})
    assert list(found) == ["image"]
    assert found["image"].shape == (1, 8, 8)
    with pytest.raises(RuntimeError) as failure:
        Compose([AsRankSEGd("pred")])([{"pred": values}, {"image": values}])
    chain = failure.value
    while chain.__cause__ is not None:
        chain = chain.__cause__
    assert isinstance(chain, KeyError)


def test_the_item_with_nan_is_named() -> None:
    bad = probs(3, 8, 8)
    bad[1, 2, 3] = torch.nan
    items = [probs(3, 8, 8), bad, probs(3, 8, 8)]
    with pytest.raises(ValueError, match=r"^item 1 of a list of 3: probs contains NaN"):
        AsRankSEG()(items)
    with pytest.raises(ValueError, match=r"^item 1 of a list of 3: key 'pred': probs contains NaN"):
        AsRankSEGd("pred")([{"pred": item} for item in items])
    named = MetaTensor(bad, meta={"filename_or_obj": "case_07.nii.gz"})
    with pytest.raises(ValueError, match=r"^case_07.nii.gz: probs contains NaN, in 1 of 3"):
        AsRankSEG()(named)
    with pytest.raises(ValueError, match=r"^key 'pred' of case_07.nii.gz: probs contains NaN"):
        AsRankSEGd("pred")({"pred": named})
    with pytest.raises(ValueError, match=r"^key 'pred' of case_07.nii.gz: probs contains NaN"):
        AsRankSEGd("pred")({"pred": bad, "image": named})


def test_a_batch_is_noticed() -> None:
    items = [{"pred": MetaTensor(probs(3, 8, 8, seed=seed))} for seed in range(2)]
    batch = list_data_collate(items)
    with pytest.raises(ValueError, match=r"\(2, 3, 8, 8\): split it with monai.data.decollate_bat"):
        AsRankSEGd("pred")(batch)
    with pytest.raises(ValueError, match=r"got a batch of shape \(1, 3, 4, 4, 4\)"):
        AsRankSEG()(probs(3, 4, 4, 4)[None])
    found = AsRankSEGd("pred")(decollate_batch(batch))
    assert [type(item["pred"]) for item in found] == [MetaTensor] * 2
    assert torch.equal(found[1]["pred"], AsRankSEG()(items[1]["pred"]))
    both = AsRankSEG()(tuple(item["pred"] for item in items))
    assert torch.equal(both[1], found[1]["pred"])
    assert AsRankSEG()([]) == []


def test_what_is_no_item_is_refused() -> None:
    with pytest.raises(TypeError, match=r"must be a tensor, MetaTensor or NumPy array.*got str"):
        AsRankSEG()("case.nii.gz")
    with pytest.raises(TypeError, match="an item must be a dictionary; got Tensor: for arrays use"):
        AsRankSEGd("pred")(probs(3, 8, 8))
    with pytest.raises(TypeError, match=r"probs must be one of float16.*got int64"):
        AsRankSEG()(torch.zeros(3, 8, 8, dtype=torch.int64))
    with pytest.raises(ValueError, match="softmax over one channel"):
        AsRankSEG(activation="softmax")(torch.zeros(1, 8, 8))
    with pytest.raises(ValueError, match="empty class or spatial dimension"):
        AsRankSEG()(torch.zeros(3, 0, 8))


# In MONAI's machinery


def test_pickled_copied_threaded_and_the_same_every_time() -> None:
    transform = Compose([AsRankSEGd("pred", metric="iou", to_onehot=3)])
    items = [{"pred": probs(3, 16, 16, seed=seed)} for seed in range(8)]
    want = [transform(item)["pred"] for item in items]
    again = pickle.loads(pickle.dumps(transform))
    with ThreadPoolExecutor(4) as pool:
        found = [item["pred"] for item in pool.map(again, items)]
    assert all(map(torch.equal, found, want))


def test_compose_flattens_and_is_lazy() -> None:
    item = {"pred": MetaTensor(probs(3, 8, 8, 8), affine=torch.tensor(OBLIQUE))}
    want = AsRankSEGd("pred")(Spacingd("pred", (1, 1, 1))(item))["pred"]
    for lazy in (False, True, None):
        nested = Compose([Compose([Spacingd("pred", (1, 1, 1))]), AsRankSEGd("pred")], lazy=lazy)
        assert len(nested.flatten()) == 2
        assert torch.equal(nested(dict(item))["pred"], want)
    assert torch.equal(nested.flatten()(dict(item))["pred"], want)


@pytest.mark.filterwarnings("ignore:'pin_memory' argument")
def test_loader_workers() -> None:
    items = [{"pred": probs(3, 8, 8, seed=seed).numpy()} for seed in range(4)]
    loader = DataLoader(
        Dataset(items, AsRankSEGd("pred", metric="dice", dtype="uint8")),
        batch_size=2,
        num_workers=2,
    )
    found = torch.cat([batch["pred"] for batch in loader])
    want = RankSEG("dice")(torch.stack([torch.from_numpy(item["pred"]) for item in items]))
    assert torch.equal(found[:, 0].long(), want)


def test_dice_metric_reads_the_result() -> None:
    truth = torch.stack([probs(3, 8, 8, seed=seed).argmax(0) for seed in range(3)])
    post = AsRankSEG(to_onehot=3)
    pred = [post(probs(3, 8, 8, seed=seed)) for seed in range(3)]
    metric = DiceMetric(include_background=True, reduction="mean")
    metric(y_pred=pred, y=[nn.functional.one_hot(t, 3).movedim(-1, 0) for t in truth])
    labels = RankSEG("dice")(torch.stack([probs(3, 8, 8, seed=seed) for seed in range(3)]))
    mine, theirs = (nn.functional.one_hot(both, 3).movedim(-1, 1) for both in (labels, truth))
    overlap = 2 * (mine * theirs).sum((2, 3)) / (mine + theirs).sum((2, 3))
    assert metric.aggregate().item() == pytest.approx(overlap.mean().item(), abs=1e-6)
    assert 0.5 < overlap.mean() < 1


def test_a_bundle_makes_it(tmp_path: Path) -> None:
    RankSEG("iou").decide(probs(3, 8, 8)[None]).save(tmp_path / "rule.json")
    name = "rankseg_integrations.monai"
    config = {
        "options": {
            "_target_": f"{name}.AsRankSEGd",
            "keys": "pred",
            "metric": "dice",
            "activation": "softmax",
            "dtype": "uint8",
        },
        "object": {
            "_target_": f"{name}.AsRankSEG",
            "rankseg": {"_target_": "rankseg.RankSEG", "metric": "iou"},
        },
        "rule": {
            "_target_": f"{name}.AsRankSEG",
            "rankseg": f"$rankseg.DecisionRule.load('{tmp_path / 'rule.json'}')",
        },
        "imports": ["$import rankseg"],
        "inferer": {"_target_": f"{name}.SlidingWindowRankSEG", "roi_size": [8, 8]},
        "vista": {"_target_": f"{name}.VistaPostRankSEGd", "keys": "pred"},
    }
    parser = ConfigParser(config)
    parser.get_parsed_content("imports")
    logits = 3 * torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(3))
    found = parser.get_parsed_content("options")({"pred": logits})["pred"]
    assert torch.equal(found[0].long().as_tensor(), RankSEG("dice")(logits.softmax(0)[None])[0])
    assert parser.get_parsed_content("object").rankseg.settings.metric == "iou"
    assert isinstance(parser.get_parsed_content("rule").rankseg, DecisionRule)
    for other in ("inferer", "vista"):
        assert type(parser.get_parsed_content(other)).__module__.startswith(name)


def test_engine_postprocessing() -> None:
    pytest.importorskip("ignite")
    from monai.engines import SupervisedEvaluator
    from monai.handlers import MeanDice, from_engine

    images = [{"image": probs(1, 8, 8, seed=s) * 0 + torch.randn(1, 8, 8)} for s in range(3)]
    for item in images:
        item["label"] = (item["image"] > 0).float()
    torch.manual_seed(0)
    network = nn.Conv2d(1, 2, 1)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([-4.0, 4.0]).reshape(2, 1, 1, 1))
        network.bias.zero_()
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(images), batch_size=2),
        network=network,
        postprocessing=Compose(
            [
                AsRankSEGd("pred", metric="dice", activation="softmax", to_onehot=2),
                AsDiscreted("label", to_onehot=2),
            ]
        ),
        key_val_metric={"dice": MeanDice(output_transform=from_engine(["pred", "label"]))},
    )
    evaluator.run()
    assert evaluator.state.metrics["dice"] > 0.9


# Geometry


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """An oblique NIfTI volume."""
    values = np.random.default_rng(0).random((24, 19, 11)).astype(np.float32)
    volume = nib.Nifti1Image(values, OBLIQUE)
    volume.set_qform(OBLIQUE, 1)
    volume.set_sform(OBLIQUE, 1)
    nib.save(volume, tmp_path / "case.nii.gz")
    return tmp_path / "case.nii.gz"


def pipeline(folder: Path) -> tuple[Compose, Compose]:
    """What comes before a network, and what comes after it."""
    before = Compose(
        [
            LoadImaged("image"),
            EnsureChannelFirstd("image"),
            Orientationd("image", axcodes="RAS", labels=None),
            CenterSpatialCropd("image", roi_size=(14, 16, 9)),
            Spacingd("image", pixdim=(1.0, 1.0, 1.5)),
            DivisiblePadd("image", k=8),
        ]
    )
    after = Compose(
        [
            Activationsd("pred", softmax=True),
            Invertd("pred", before, orig_keys="image", nearest_interp=False),
            AsRankSEGd("pred", metric="dice", dtype="uint8"),
            SaveImaged(
                "pred",
                output_dir=folder,
                output_postfix="rankseg",
                output_dtype=np.uint8,
                separate_folder=False,
                print_log=False,
            ),
        ]
    )
    return before, after


def network(image: MetaTensor) -> MetaTensor:
    """Logits (3, *spatial) that depend on the image."""
    return torch.cat([20 * (0.45 - image), 1 + 0 * image, 20 * (image - 0.55)])


def test_geometry_comes_back_to_the_bit(scan: Path, tmp_path: Path) -> None:
    before, after = pipeline(tmp_path / "out")
    item = before({"image": str(scan)})
    assert item["image"].shape[1:] != (24, 19, 11)
    item["pred"] = network(item["image"])
    found = after(item)["pred"]
    written, original = (nib.load(path) for path in (tmp_path / "out/case_rankseg.nii.gz", scan))
    assert written.shape == original.shape == found.shape[1:]
    assert np.array_equal(written.affine, original.affine)
    assert np.array_equal(written.header.get_zooms(), original.header.get_zooms())
    assert nib.aff2axcodes(written.affine) == nib.aff2axcodes(original.affine)
    assert np.array_equal(np.asarray(written.dataobj), found[0].numpy())
    assert len(found.unique()) == 3
    assert found[0, 0, 0, 0] == 0, "outside of the crop"


def test_probabilities_are_decided_on_the_original_grid(scan: Path, tmp_path: Path) -> None:
    before, after = pipeline(tmp_path)
    item = before({"image": str(scan)})
    item["pred"] = network(item["image"])
    probabilities = Compose(after.transforms[:2])(dict(item))["pred"]
    outside = (probabilities == 0).all(0)
    assert 0 < outside.sum() < outside.numel()
    want = RankSEG("dice")(probabilities.as_tensor().clamp(0, 1)[None], ~outside[None].as_tensor())
    want[outside.as_tensor()[None]] = 0
    assert torch.equal(after(dict(item))["pred"].long().as_tensor(), want)


def test_a_folder_that_cannot_be_written_stops_with_its_name(scan: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the folder should be: read-only also for root")
    before, after = pipeline(blocked / "out")
    item = before({"image": str(scan)})
    item["pred"] = network(item["image"])
    with pytest.raises(RuntimeError) as failure:
        after(item)
    causes, error = [], failure.value
    while error is not None:
        causes.append(f"{type(error).__name__}: {error}")
        error = error.__cause__
    assert "SaveImaged" in causes[0]
    assert any("blocked" in cause for cause in causes), causes


# Without the framework


def test_without_monai_there_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "monai.py").write_text("raise ModuleNotFoundError('no monai', name='monai')\n")
    script = (
        "import sys\n"
        f"sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]\n"
        "import rankseg_integrations.monai as adapter\n"
        "for name in adapter.__all__:\n"
        "    try:\n"
        "        getattr(adapter, name)\n"
        "    except ImportError as error:\n"
        "        print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    lines = set(done.stdout.splitlines())
    assert lines == {'monai is needed here: pip install "monai>=1.4" "nibabel>=5.2"'}
    with pytest.raises(AttributeError, match="has no attribute 'AsRankSEGx'"):
        _ = rankseg_integrations.monai.AsRankSEGx
