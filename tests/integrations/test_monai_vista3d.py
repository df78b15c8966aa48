"""VISTA3D's convention, held against MONAI's own post transform and network."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from rankseg import RankSEG

pytest.importorskip("monai")

from monai.apps.vista3d.transforms import VistaPostTransformd
from monai.data import MetaTensor

from rankseg_integrations.monai import (
    AsRankSEGd,
    VistaPostRankSEGD,
    VistaPostRankSEGd,
    VistaPostRankSEGDict,
)


def sure_logits(objects: int = 3) -> Tensor:
    """Logits (objects, 12, 12, 12) of balls apart; sure enough that 0.5 is the best cut."""
    grid = torch.stack(torch.meshgrid(*[torch.arange(12.0)] * 3, indexing="ij"))
    centres = torch.linspace(2, 10, objects)
    distance = torch.stack([(grid - centre).norm(dim=0) for centre in centres])
    return 40 * (2.1 - distance)


def official(logits: Tensor, **data: Any) -> Tensor:
    found: Tensor = VistaPostTransformd("pred")({"pred": logits.clone(), **data})["pred"]
    return found


@pytest.mark.parametrize("objects", [1, 2, 3])
@pytest.mark.parametrize("prompted", [False, True])
def test_sure_logits_give_the_official_labels(objects: int, prompted: bool) -> None:
    logits = sure_logits(objects)
    data = {"label_prompt": torch.tensor([4, 117, 9])[:objects]} if prompted else {}
    found = VistaPostRankSEGd("pred")({"pred": MetaTensor(logits), **data})["pred"]
    want = official(logits, **data)
    assert (found.shape, found.dtype) == (want.shape, want.dtype)
    assert torch.equal(found.as_tensor(), want)
    assert len(want.unique()) == objects + 1
    assert torch.equal(logits, sure_logits(objects)), "the input is never modified"


def test_unsure_logits_give_the_labels_of_rankseg() -> None:
    logits = sure_logits() / 40
    data = {"pred": logits, "label_prompt": [[5], [6], [7]]}
    found = VistaPostRankSEGd("pred", metric="iou")(data)["pred"]
    core = RankSEG("iou", unassigned_policy="void", void_index=-1)(logits.sigmoid()[None])
    assert torch.equal(found.as_tensor(), torch.tensor([0, 5, 6, 7])[core + 1].float())
    assert (found > 0).sum() > (official(logits, label_prompt=torch.tensor([5, 6, 7])) > 0).sum()
    assert 0 in found
    alone = VistaPostRankSEGd("pred")({"pred": logits[:1], "label_prompt": torch.tensor([5])})
    masks = RankSEG("dice", "multilabel")(logits[:1].sigmoid()[None])[0]
    assert torch.equal(alone["pred"].as_tensor(), 5.0 * masks)


def test_pixels_without_a_window_are_background() -> None:
    """MONAI's point inferer leaves NaN there, and its forward pass -9999."""
    logits = sure_logits()
    logits[:, :2] = torch.nan
    logits[:, 2:3] = -9999
    found = VistaPostRankSEGd("pred")({"pred": logits})["pred"]
    assert not found[:, :3].any()
    assert torch.equal(found[:, 3:].as_tensor(), official(logits)[:, 3:])
    with pytest.raises(ValueError, match="logits contain NaN"):
        AsRankSEGd("pred", activation="sigmoid")({"pred": logits})
    nothing = VistaPostRankSEGd("pred")({"pred": torch.full((2, 4, 4, 4), -9999.0)})["pred"]
    assert not nothing.any()


def test_components_without_a_positive_point_are_dropped() -> None:
    pytest.importorskip("skimage")
    logits = torch.full((1, 12, 6, 6), -8.0)
    logits[:, 1:4, 1:4, 1:4] = 9
    logits[:, 7:10, 2:5, 2:5] = 9
    data = {
        "points": torch.tensor([[[2.0, 2, 2], [8, 3, 3]]]),
        "point_labels": torch.tensor([[1, 0]]),
    }
    found = VistaPostRankSEGd("pred")({"pred": logits, **data})["pred"]
    assert torch.equal(found, official(logits, **data))
    assert found.sum() == 27
    prompted = {**data, "label_prompt": torch.tensor([1])}
    assert VistaPostRankSEGd("pred")({"pred": logits, **prompted})["pred"].sum() == 54
    twice = torch.cat([logits, logits.flip(1)])
    both = {"points": data["points"].reshape(2, 1, 3), "point_labels": torch.tensor([[1], [1]])}
    found = VistaPostRankSEGd("pred", assignment="ascent")({"pred": twice, **both})["pred"]
    assert torch.equal(found, official(twice, **both))
    assert [(found == label).sum() for label in (1, 2)] == [27, 27]


def test_it_is_a_map_transform() -> None:
    assert VistaPostRankSEGD is VistaPostRankSEGd is VistaPostRankSEGDict
    affine = torch.diag(torch.tensor([2.0, 2, 3, 1]))
    item = MetaTensor(sure_logits(), affine=affine, meta={"filename_or_obj": "case_07"})
    found = VistaPostRankSEGd(["pred", "other"], allow_missing_keys=True)({"pred": item})
    assert torch.equal(found["pred"].affine, affine.double())
    with pytest.raises(KeyError, match="`other` of transform `VistaPostRankSEGd` was missing"):
        VistaPostRankSEGd(["pred", "other"])({"pred": item})
    with pytest.raises(ValueError, match=r"key 'pred' of case_07: label_prompt must have a"):
        VistaPostRankSEGd("pred")({"pred": item, "label_prompt": torch.tensor([1, 2])})
    with pytest.raises(ValueError, match="without a batch axis"):
        VistaPostRankSEGd("pred")({"pred": sure_logits()[None]})


@pytest.mark.parametrize("name", ["output_mode", "activation", "ignore_index", "void_index"])
def test_what_the_convention_settles_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is settled by VISTA3D's convention"):
        VistaPostRankSEGd("pred", **{name: "softmax"})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"metric": "acc"}, "use VistaPostTransformd itself"),
        ({"solver": "argmax"}, "use VistaPostTransformd itself"),
        ({"aggregation": "dataset"}, "needs all images together"),
        ({"threshold": 0.5}, "takes no parameter 'threshold'"),
    ],
    ids=str,
)
def test_wrong_options(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VistaPostRankSEGd("pred", **wrong)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_the_network_itself() -> None:
    """A tiny VISTA3D, never trained: its output, transposed and decollated, is what is decided."""
    pytest.importorskip("einops")
    from monai.networks.nets.segresnet_ds import SegResNetDS2
    from monai.networks.nets.vista3d import VISTA3D, ClassMappingClassify, PointMappingSAM

    torch.manual_seed(0)
    encoder = SegResNetDS2(
        in_channels=1,
        blocks_down=(1, 1),
        norm="instance",
        out_channels=8,
        init_filters=8,
        dsdepth=1,
    )
    model = VISTA3D(
        image_encoder=encoder,
        class_head=ClassMappingClassify(n_classes=16, feature_size=8, use_mlp=True),
        point_head=PointMappingSAM(feature_size=8, n_classes=16, last_supported=8),
    ).eval()
    classes = torch.tensor([[2], [5], [7]])
    with torch.no_grad():
        logits = model(torch.randn(1, 1, 32, 32, 32), class_vector=classes, transpose=True)
    assert logits.shape == (1, 3, 32, 32, 32)
    item = {"pred": 30 * logits[0], "label_prompt": classes[:, 0]}
    found = VistaPostRankSEGd("pred")(item)["pred"]
    assert found.shape == (1, 32, 32, 32)
    assert set(found.unique().tolist()) <= {0, 2, 5, 7}
    probs = item["pred"].sigmoid()
    claimed = probs.amax((1, 2, 3)) > 0.5
    core = RankSEG("dice", unassigned_policy="void", void_index=-1)(probs[None])
    assert claimed.any()
    assert torch.equal(found.as_tensor(), torch.tensor([0, 2, 5, 7])[core + 1].float())
