"""`RankSEGEvaluation` with real trainers, against plain sums and the metrics of torchmetrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_lightning import FILTERS, NAMESPACES, Items, Space, loader, probs_of, space
from torch import Tensor

from rankseg import RankSEG

segmentation = pytest.importorskip("torchmetrics.segmentation")
pytestmark = FILTERS
METRICS = ("dice", "iou")


@pytest.fixture(params=NAMESPACES)
def here(request: pytest.FixtureRequest) -> Space:
    return space(request.param)


@pytest.fixture
def lightning() -> Space:
    return space("lightning")


def step(batch: Any) -> Any:
    return {"probs": probs_of(batch["image"]), "loss": torch.tensor(0.0)}


def validate(here: Space, data: Any, step: Any = step, **arguments: Any) -> dict[str, float]:
    trainer = here.trainer(here.rankseg.RankSEGEvaluation(**arguments))
    found = trainer.validate(here.module(step), data, verbose=False)
    return found[0]  # type: ignore[no-any-return]


def plain(prediction: Tensor, truth: Tensor, level: str = "samplewise") -> Tensor:
    """Dice and IoU of masks (B, C, N), pixel by pixel; NaN where a class is nowhere: (2, C)."""
    rows = []
    for masks, target in zip(prediction.unbind(1), truth.unbind(1), strict=True):
        if level == "global":
            masks, target = masks.reshape(1, -1), target.reshape(1, -1)
        pairs = []
        for mask, real in zip(masks.tolist(), target.tolist(), strict=True):
            both = sum(a and b for a, b in zip(mask, real, strict=True))
            either = sum(a or b for a, b in zip(mask, real, strict=True))
            if either:
                pairs.append((2 * both / (both + either), both / either))
        rows.append(torch.tensor(pairs or [(torch.nan, torch.nan)]).double().mean(0))
    return torch.stack(rows, 1)


def one_hot(labels: Tensor, classes: int = 3) -> Tensor:
    return torch.stack([labels == index for index in range(classes)], 1).flatten(2)


def expected(
    metric: str = "dice",
    *,
    size: int = 7,
    keep: Any = lambda labels: torch.ones_like(labels, dtype=torch.bool),
    first: int = 0,
    level: str = "samplewise",
    truth: Tensor | None = None,
) -> dict[str, float]:
    """What is to be logged, but for its prefix, for labels of the loader's items."""
    items = Items(size)
    probs, truth = probs_of(items.images), items.labels if truth is None else truth
    valid = keep(truth).unsqueeze(1).flatten(2)
    rules = {"argmax": probs.argmax(1), "rankseg": RankSEG(metric)(probs)}
    scores = {
        rule: plain(one_hot(labels) & valid, one_hot(truth) & valid, level)[:, first:].nanmean(1)
        for rule, labels in rules.items()
    }
    scores["gain"] = scores["rankseg"] - scores["argmax"]
    return {
        f"{name}_{rule}": float(score[row])
        for rule, score in scores.items()
        for row, name in enumerate(METRICS)
    }


def assert_same(found: dict[str, float], wanted: dict[str, float], prefix: str) -> None:
    """Float32 is what Lightning logs."""
    assert set(found) == {prefix + name for name in wanted}
    for name, value in wanted.items():
        assert found[prefix + name] == pytest.approx(value, abs=1e-6, nan_ok=True)


@pytest.mark.parametrize("batch_size", [1, 3, 7])
def test_scores_of_both_rules(here: Space, batch_size: int) -> None:
    wanted = expected()
    assert wanted["dice_gain"] != 0
    assert_same(validate(here, loader(7, batch_size)), wanted, "val/")


def test_in_test_and_with_another_metric(here: Space) -> None:
    trainer = here.trainer(here.rankseg.RankSEGEvaluation(metric="iou"))
    (found,) = trainer.test(here.module(step), loader(), verbose=False)
    assert_same(found, expected("iou"), "test/")
    assert float(trainer.callback_metrics["test/iou_rankseg"]) == found["test/iou_rankseg"]


def test_counts_of_the_whole_data(lightning: Space) -> None:
    found = validate(lightning, loader(), aggregation_level="global")
    assert_same(found, expected(level="global"), "val/")
    assert found != validate(lightning, loader())


def absent(labels: Tensor) -> Tensor:
    """Class 2 is in one image only, class 1 in none."""
    changed = labels.clone()
    changed[changed == 1] = 0
    changed[1:][changed[1:] == 2] = 0
    return changed


def test_absent_classes(lightning: Space) -> None:
    def sparse(batch: Any) -> Any:
        probs = probs_of(batch["image"])
        probs[:, 1] = 0  # predicted nowhere, in truth nowhere
        return {"probs": probs, "target": absent(Items(7).labels)}

    found = validate(lightning, loader(7, 7), sparse, per_class=True)
    assert found["val/dice_rankseg/1"] != found["val/dice_rankseg/1"]  # NaN
    values = [found[f"val/dice_rankseg/{index}"] for index in (0, 2)]
    assert found["val/dice_rankseg"] == pytest.approx(sum(values) / 2, abs=1e-6)
    # Predicted where it is not, the class scores 0 in those images.
    assert 0 < found["val/dice_argmax/2"] < 0.2


@pytest.mark.parametrize("include_background", [True, False])
def test_torchmetrics_says_the_same(lightning: Space, include_background: bool) -> None:
    """Its per-class scores; where it says -1, a class is nowhere, and here it is NaN."""
    found = validate(
        lightning,
        loader(),
        step=lambda batch: {**step(batch), "target": absent(batch["target"])},
        per_class=["ground", "tumour", "organ"],
        include_background=include_background,
    )
    labels = {"argmax": RankSEG("acc"), "rankseg": RankSEG(include_background=include_background)}
    truth = torch.cat([absent(batch["target"]) for batch in loader()])
    probs = torch.cat([step(batch)["probs"] for batch in loader()])
    for rule, decision in labels.items():
        masks = (one_hot(decision(probs)), one_hot(truth))
        dice = segmentation.DiceScore(3, average="none")(*masks)
        iou = segmentation.MeanIoU(3, per_class=True)(*masks)
        for metric, scores in (("dice", dice), ("iou", torch.where(iou < 0, torch.nan, iou))):
            for name, score in zip(("ground", "tumour", "organ"), scores.tolist(), strict=True):
                value = found[f"val/{metric}_{rule}/{name}"]
                assert value == pytest.approx(score, abs=1e-6, nan_ok=True)
            mean = scores[0 if include_background else 1 :].nanmean().item()
            assert found[f"val/{metric}_{rule}"] == pytest.approx(mean, abs=1e-6)


def test_pixels_without_a_class(lightning: Space) -> None:
    """They count for nothing, whatever was predicted there; a class can be one, too."""

    def void(batch: Any) -> Any:
        target = batch["target"].clone()
        target[:, :3] = 255
        return {**step(batch), "target": target}

    truth = Items(7).labels.clone()
    truth[:, :3] = 255
    wanted = expected(truth=truth, keep=lambda labels: labels != 255)
    assert_same(validate(lightning, loader(), void, ignore_index=255), wanted, "val/")
    wanted = expected(keep=lambda labels: labels != 0)
    assert_same(validate(lightning, loader(), ignore_index=0), wanted, "val/")


def test_masks_of_several_labels(lightning: Space) -> None:
    """The usual rule is the 0.5 cut; 255 stands where an annotator did not look."""
    items = Items(7)
    logits, truth = 2 * items.images.repeat(1, 2, 1, 1), torch.stack([items.labels] * 2, 1) % 2
    truth[:, 1, :2] = 255
    masks = {"cut": logits.sigmoid() > 0.5}
    options = {"output_mode": "multilabel", "activation": "sigmoid", "metric": "iou"}
    masks["rankseg"] = RankSEG(**options)(logits)
    found = validate(
        lightning,
        loader(7, 7),
        lambda _: {"probs": logits, "target": truth.float()},
        ignore_index=255,
        **options,
    )
    scores = {
        rule: plain((mask & (truth != 255)).flatten(2), (truth == 1).flatten(2)).mean(1)
        for rule, mask in masks.items()
    }
    scores["gain"] = scores["rankseg"] - scores["cut"]
    wanted = {
        f"{name}_{rule}": s[row] for rule, s in scores.items() for row, name in enumerate(METRICS)
    }
    assert_same(found, {name: float(value) for name, value in wanted.items()}, "val/")


@pytest.mark.parametrize("output_mode", ["multiclass", "multilabel"])
@pytest.mark.parametrize("channel", [True, False])
def test_one_class_is_a_mask(lightning: Space, output_mode: Any, channel: bool) -> None:
    probs, truth = Items(7).images.sigmoid(), Items(7).labels % 2
    target = truth.unsqueeze(1) if channel else truth
    found = validate(
        lightning,
        loader(7, 7),
        lambda _: {"probs": probs, "target": target},
        output_mode=output_mode,
    )
    assert set(found) == {f"val/{m}_{rule}" for m in METRICS for rule in ("cut", "rankseg", "gain")}
    for rule, masks in (("cut", probs > 0.5), ("rankseg", RankSEG("dice", "multilabel")(probs))):
        dice, iou = plain(masks.flatten(2), truth.bool().unsqueeze(1).flatten(2)).flatten().tolist()
        assert found[f"val/dice_{rule}"] == pytest.approx(dice, abs=1e-6)
        assert found[f"val/iou_{rule}"] == pytest.approx(iou, abs=1e-6)


def test_loaders_are_told_apart(here: Space) -> None:
    trainer = here.trainer(here.rankseg.RankSEGEvaluation())
    found = trainer.validate(here.module(step), [loader(), loader(4)], verbose=False)
    for number, size in enumerate((7, 4)):
        prefix = f"val/dataloader_{number}/"
        own = {name: value for name, value in found[number].items() if name.startswith(prefix)}
        assert_same(own, expected(size=size), prefix)


def test_tuples_tensors_rules_and_names(lightning: Space) -> None:
    """Batches and outputs that are no dicts; a rule found before; two callbacks at once."""
    rule = RankSEG("iou").decide([probs_of(batch["image"]) for batch in loader()])
    kind = lightning.rankseg.RankSEGEvaluation
    data = torch.utils.data.TensorDataset(Items(7).images, Items(7).labels.unsqueeze(1))
    module = lightning.module(lambda batch: probs_of(batch[0]))
    trainer = lightning.trainer(kind(target_key=1, name="plain"), kind(target_key=-1, rankseg=rule))
    (found,) = trainer.validate(
        module, torch.utils.data.DataLoader(data, batch_size=2), verbose=False
    )
    own = {name: value for name, value in found.items() if name.startswith("val/plain/")}
    assert_same(own, expected(), "val/plain/")
    items = Items(7)
    dice, _ = plain(one_hot(rule(probs_of(items.images))), one_hot(items.labels)).mean(1).tolist()
    assert found["val/dice_rankseg"] == pytest.approx(dice, abs=1e-6)


def test_the_usual_logger_and_early_stopping_see_it(here: Space, tmp_path: Path) -> None:
    """The sanity check leaves nothing behind, and each epoch starts anew."""
    name = "lightning" if here.pl.__name__ == "lightning.pytorch" else here.pl.__name__
    stopping = here.pl.callbacks.EarlyStopping("val/dice_gain", patience=1)
    logger = here.pl.loggers.CSVLogger(tmp_path, name)
    trainer = here.trainer(
        here.rankseg.RankSEGEvaluation(),
        stopping,
        max_epochs=5,
        num_sanity_val_steps=1,
        logger=logger,
        log_every_n_steps=1,
    )
    trainer.fit(here.module(step), loader(), loader())
    assert stopping.stopped_epoch == 1
    header, *rows = (Path(logger.log_dir) / "metrics.csv").read_text().splitlines()
    columns = header.split(",")
    logged = [dict(zip(columns, row.split(","), strict=True)) for row in rows]
    assert len(logged) == 2
    for row in logged:
        own = {key: float(value) for key, value in row.items() if key.startswith("val/")}
        assert_same(own, expected(), "val/")


# --- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "arguments", "error", "text"),
    [
        ({"probs": None}, {}, TypeError, "validation_step, batch 0: entry 'probs' must be a te"),
        ({}, {"key": "scores"}, ValueError, "batch 0: there is no entry 'scores' in dict(probs"),
        ({}, {"target_key": "y"}, ValueError, "'y' in outputs dict(probs: Tensor(3, 3, 8, 8), lo"),
        ({}, {"target_key": 1}, ValueError, "no entry 1 in the batch dict(image: Tensor(3, 1, 8,"),
        ({"target": "x"}, {}, TypeError, "the target must be a tensor; got str"),
        ({"target": torch.zeros(3, 8)}, {}, ValueError, "shape (3, 8, 8) or (3, 1, 8, 8), as the"),
        ({"target": torch.full((3, 8, 8), 255)}, {}, ValueError, "from 0 to 2; got 255"),
        ({"target": torch.full((3, 8, 8), 0.5)}, {}, ValueError, "integers from 0 to 2; got 0.5"),
        (
            {"target": torch.full((3, 8, 8), -1)},
            {"ignore_index": 255},
            ValueError,
            "from 0 to 2 or ignore_index=255; got -1",
        ),
        ({}, {"per_class": ["a"]}, ValueError, "per_class must name every class, 3; it names 1"),
    ],
)
def test_what_does_not_fit(
    lightning: Space, change: Any, arguments: Any, error: Any, text: str
) -> None:
    with pytest.raises(error) as caught:
        validate(lightning, loader(), lambda batch: {**step(batch), **change}, **arguments)
    assert text in str(caught.value)


def test_a_sample_with_nan_is_named(here: Space) -> None:
    def broken(batch: Any) -> Any:
        probs = probs_of(batch["image"])
        probs[-1, 0, 0, 0] = float("nan")
        return {"probs": probs}

    with pytest.raises(ValueError, match="validation_step, batch 0: sample 2: 1 of its 192"):
        validate(here, loader(), broken)


def test_steps_that_return_nothing(here: Space) -> None:
    """Some may; if all do, nothing would be logged."""
    calls: list[None] = []

    def sometimes(batch: Any) -> Any:
        calls.append(None)
        return None if len(calls) == 1 else step(batch)

    assert "val/dice_rankseg" in validate(here, loader(), sometimes)
    with pytest.raises(ValueError, match="validation_step returned None for every batch"):
        validate(here, loader(), lambda _: None)


def test_two_callbacks_of_one_name(lightning: Space) -> None:
    kind = lightning.rankseg.RankSEGEvaluation
    with pytest.raises(ValueError, match="2 callbacks would log scores under the same names"):
        lightning.trainer(kind(), kind(metric="iou")).validate(lightning.module(step), loader())


def test_classes_that_change(lightning: Space) -> None:
    def changing(batch: Any) -> Any:
        probs = probs_of(batch["image"])
        return {"probs": probs if len(probs) == 3 else torch.cat([probs, probs], 1) / 2}

    with pytest.raises(ValueError, match="batch 2: the number of classes is 6, in batches b"):
        validate(lightning, loader(), changing)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"aggregation_level": "image"}, ValueError, "one of 'samplewise', 'global'"),
        ({"include_background": "no"}, TypeError, "include_background must be True or False"),
        ({"ignore_index": "255"}, TypeError, "ignore_index must be an integer"),
        ({"per_class": "tumour"}, TypeError, "per_class must be True, False or names"),
        ({"name": 3}, TypeError, "name must be a str"),
        ({"metric": "dise"}, ValueError, "metric must be one of"),
        ({"rankseg": RankSEG(), "metric": "iou"}, ValueError, "got metric as well"),
    ],
)
def test_arguments_are_checked_when_it_is_made(
    lightning: Space, arguments: Any, error: Any, text: str
) -> None:
    with pytest.raises(error, match=text):
        lightning.rankseg.RankSEGEvaluation(**arguments)


def test_a_configuration_of_ones_own_keeps_its_background(lightning: Space) -> None:
    kind = lightning.rankseg.RankSEGEvaluation
    assert not kind(include_background=False).rankseg.settings.include_background
    given = RankSEG("dice")
    assert kind(rankseg=given, include_background=False).rankseg is given
