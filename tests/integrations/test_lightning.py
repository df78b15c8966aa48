"""`RankSEGCallback` with real trainers of both names of Lightning."""

from __future__ import annotations

import subprocess
import sys
from collections import namedtuple
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch
from tiny_lightning import FILTERS, NAMESPACES, Space, loader, probs_of, space

from rankseg import RankSEG
from rankseg._require import pip_line

pytest.importorskip("torchmetrics")
pytestmark = FILTERS
ROOT = Path(__file__).parents[2]
LOGITS = {"activation": "softmax", "metric": "iou"}


@pytest.fixture(params=NAMESPACES)
def here(request: pytest.FixtureRequest) -> Space:
    return space(request.param)


@pytest.fixture
def lightning() -> Space:
    return space("lightning")


def wanted(rankseg: RankSEG | None = None, size: int = 7) -> list[torch.Tensor]:
    """Prediction of each batch of the loader."""
    return [(rankseg or RankSEG("dice"))(probs_of(batch["image"])) for batch in loader(size)]


def same(found: list[torch.Tensor], expected: list[torch.Tensor]) -> bool:
    return len(found) == len(expected) and all(map(torch.equal, found, expected))


def test_a_tensor_becomes_the_prediction(here: Space) -> None:
    module = here.module(lambda batch: probs_of(batch["image"]))
    found = here.trainer(here.rankseg.RankSEGCallback()).predict(module, loader())
    assert same(found, wanted())
    assert found[0].dtype == torch.int64
    assert "predict_step" not in vars(module), "the module is as it was"


def test_a_dict_gets_the_prediction(here: Space) -> None:
    module = here.module(lambda batch: {"probs": probs_of(batch["image"]), "name": batch["name"]})
    found = here.trainer(here.rankseg.RankSEGCallback(metric="iou")).predict(module, loader())
    assert same([outputs["prediction"] for outputs in found], wanted(RankSEG("iou")))
    assert [set(outputs) for outputs in found] == [{"probs", "name", "prediction"}] * 3
    assert found[0]["probs"].dtype == torch.float32


def test_probabilities_are_dropped(lightning: Space) -> None:
    module = lightning.module(lambda batch: {"scores": probs_of(batch["image"])})
    callback = lightning.rankseg.RankSEGCallback("scores", "labels", drop_probs=True)
    found = lightning.trainer(callback).predict(module, loader())
    assert [set(outputs) for outputs in found] == [{"labels"}] * 3
    assert same([outputs["labels"] for outputs in found], wanted())


def test_a_key_may_be_replaced(lightning: Space) -> None:
    module = lightning.module(lambda batch: {"probs": probs_of(batch["image"])})
    callback = lightning.rankseg.RankSEGCallback("probs", "probs", drop_probs=True)
    found = lightning.trainer(callback).predict(module, loader())
    assert same([outputs["probs"] for outputs in found], wanted())


Named = namedtuple("Named", ["loss", "probs"])


@pytest.mark.parametrize(
    ("wrap", "key"),
    [
        (lambda probs: (0.5, probs), 1),
        (lambda probs: [probs, "x"], -2),
        (lambda probs: Named(0.5, probs), "probs"),
    ],
    ids=["tuple", "list", "named"],
)
def test_an_entry_of_a_tuple_is_replaced(lightning: Space, wrap: Any, key: Any) -> None:
    module = lightning.module(lambda batch: wrap(probs_of(batch["image"])))
    callback = lightning.rankseg.RankSEGCallback(key)
    found = lightning.trainer(callback).predict(module, loader())
    assert type(found[0]) is type(wrap(None))
    get = getattr if isinstance(key, str) else lambda outputs, at: outputs[at]
    assert same([get(outputs, key) for outputs in found], wanted())


def test_the_returned_dict_of_a_step_is_not_copied(lightning: Space) -> None:
    """Other callbacks listed later see the prediction, as does the module's own hook."""
    seen: list[Any] = []
    module = lightning.module(lambda batch: {"probs": probs_of(batch["image"])})
    module.on_predict_batch_end = lambda outputs, batch, batch_idx: seen.append(set(outputs))

    class Later(lightning.pl.Callback):  # type: ignore[name-defined,misc]
        def on_predict_batch_end(self, trainer: Any, module: Any, outputs: Any, *rest: Any) -> None:
            seen.append(set(outputs))

    callbacks = (lightning.rankseg.RankSEGCallback(), Later())
    lightning.trainer(*callbacks).predict(module, loader(3))
    assert seen == [{"probs", "prediction"}] * 2


def test_none_is_left_alone(here: Space) -> None:
    module = here.module(lambda batch: None)
    assert here.trainer(here.rankseg.RankSEGCallback()).predict(module, loader()) == [None] * 3


def test_half_precision_logits_and_a_mixed_precision_trainer(lightning: Space) -> None:
    def step(batch: Any) -> torch.Tensor:
        return probs_of(batch["image"]).log().bfloat16()

    expected = [RankSEG(**LOGITS)(step(batch)) for batch in loader()]
    callback = lightning.rankseg.RankSEGCallback(**LOGITS)
    trainer = lightning.trainer(callback, precision="bf16-mixed")
    assert same(trainer.predict(lightning.module(step), loader()), expected)


def test_several_loaders_nest_lists(here: Space) -> None:
    module = here.module(lambda batch: probs_of(batch["image"]))
    trainer = here.trainer(here.rankseg.RankSEGCallback())
    found = trainer.predict(module, [loader(), loader(4)])
    assert len(found) == 2
    assert same(found[0], wanted())
    assert same(found[1], wanted(size=4))


def test_two_callbacks_decide_two_entries(lightning: Space) -> None:
    callback = lightning.rankseg.RankSEGCallback
    module = lightning.module(lambda batch: (probs_of(batch["image"]), probs_of(-batch["image"])))
    trainer = lightning.trainer(callback(0), callback(1, metric="iou"))
    found = trainer.predict(module, loader(3))[0]
    images = next(iter(loader(3)))["image"]
    assert torch.equal(found[0], RankSEG("dice")(probs_of(images)))
    assert torch.equal(found[1], RankSEG("iou")(probs_of(-images)))
    assert "predict_step" not in vars(module)


def test_masks_a_ready_made_configuration_and_a_saved_rule(
    lightning: Space, tmp_path: Path
) -> None:
    masks = RankSEG("iou", "multilabel", pruning_prob=0.2)
    rule = masks.decide(loader_of_probs())
    rule.save(tmp_path / "rule.json")
    module = lightning.module(lambda batch: probs_of(batch["image"]))
    for given, decision in ((masks, masks), (rule, rule), (str(tmp_path / "rule.json"), rule)):
        callback = lightning.rankseg.RankSEGCallback(rankseg=given)
        found = lightning.trainer(callback).predict(module, loader())
        assert found[0].dtype == torch.bool
        assert same(found, [decision(probs_of(batch["image"])) for batch in loader()])


def loader_of_probs() -> list[torch.Tensor]:
    return [probs_of(batch["image"]) for batch in loader()]


def test_a_step_that_torch_compile_put_there_comes_back(lightning: Space) -> None:
    module = lightning.module(lambda batch: probs_of(batch["image"]))
    own = module.predict_step
    module.predict_step = own
    found = lightning.trainer(lightning.rankseg.RankSEGCallback()).predict(module, loader())
    assert same(found, wanted())
    assert vars(module)["predict_step"] is own


# --- what is refused -------------------------------------------------------------------------


def message(here: Space, step: Any, *callbacks: Any, error: Any = ValueError) -> str:
    module = here.module(step)
    with pytest.raises(error) as caught:
        here.trainer(*callbacks).predict(module, loader())
    assert "predict_step" not in vars(module), "the module is as it was, after an error too"
    return str(caught.value)


def test_a_batch_without_the_key(here: Space) -> None:
    calls: list[None] = []

    def step(batch: Any) -> Any:
        calls.append(None)
        return {"probs" if len(calls) == 1 else "scores": probs_of(batch["image"])}

    text = message(here, step, here.rankseg.RankSEGCallback())
    assert text == (
        "predict_step, batch 1: there is no entry 'probs' in dict(scores: Tensor(3, 3, 8, 8)): "
        "say which entry to take with key=..."
    )


@pytest.mark.parametrize(
    ("outputs", "error", "text"),
    [
        ("masks", TypeError, "expected a tensor, dict or tuple, got str"),
        ((1, 2), ValueError, r"no entry 'probs' in tuple(int, int)"),
        ({"probs": None}, TypeError, "entry 'probs' must be a tensor; got NoneType"),
        ({"probs": torch.ones(1, 2, 3), "prediction": 0}, ValueError, "has an entry 'prediction'"),
        (MappingProxyType({"probs": torch.ones(1, 2, 3)}), TypeError, "added to a mappingproxy"),
        (torch.full((2, 2, 3), 7.0), ValueError, "probs must lie in [0, 1]"),
        (torch.ones(2, 2, 3, dtype=torch.int64), TypeError, "got int64: pass probabilities"),
        (torch.ones(3), ValueError, "(B, C, *spatial)"),
    ],
    ids=["text", "tuple", "None", "taken", "frozen", "range", "integers", "shape"],
)
def test_outputs_that_make_no_sense(lightning: Space, outputs: Any, error: Any, text: str) -> None:
    found = message(lightning, lambda _: outputs, lightning.rankseg.RankSEGCallback(), error=error)
    assert found.startswith("predict_step, batch 0: ")
    assert text in found


@pytest.mark.parametrize("wrap", [lambda p: p, lambda p: {"probs": p}], ids=["tensor", "dict"])
def test_the_sample_with_nan_is_named(here: Space, wrap: Any) -> None:
    def step(batch: Any) -> Any:
        probs = probs_of(batch["image"])
        if "image 4" in batch["name"]:
            probs[1, 2, 5] = float("nan")
        return wrap(probs)

    text = message(here, step, here.rankseg.RankSEGCallback())
    assert text == (
        "predict_step, batch 1: sample 1: 8 of its 192 probabilities are NaN; "
        "check the model's output"
    )


def test_a_writer_listed_before_is_refused(here: Space) -> None:
    class Writer(here.pl.callbacks.BasePredictionWriter):  # type: ignore[name-defined,misc]
        def write_on_batch_end(self, *arguments: Any) -> None:
            seen.append(arguments[2])

        def write_on_epoch_end(self, *arguments: Any) -> None:
            seen.extend(arguments[2])

    seen: list[Any] = []
    callback = here.rankseg.RankSEGCallback
    for interval in ("batch", "batch_and_epoch"):
        text = message(here, lambda _: 1 / 0, Writer(interval), callback())
        assert text.startswith("Writer is listed before RankSEGCallback and would write what is")
        assert "callbacks=[RankSEGCallback(...), Writer(...)]" in text
    module = here.module(lambda batch: {"probs": probs_of(batch["image"])})
    for order in ([callback(), Writer("batch")], [Writer("epoch"), callback()]):
        seen.clear()
        here.trainer(*order).predict(module, loader())
        assert same([outputs["prediction"] for outputs in seen], wanted())


@pytest.mark.parametrize("name", ["RankSEGCallback", "RankSEGWriter", "RankSEGEvaluation"])
def test_a_trainer_of_the_other_name_is_refused(name: str, tmp_path: Path) -> None:
    for own, other in (NAMESPACES, NAMESPACES[::-1]):
        kind = getattr(space(own).rankseg, name)
        foreign = kind(tmp_path) if name == "RankSEGWriter" else kind()
        module = space(other).module(lambda batch: probs_of(batch["image"]))
        trainer = space(other).trainer(foreign)
        run = trainer.validate if name == "RankSEGEvaluation" else trainer.predict
        with pytest.raises(
            TypeError, match=f"trainers of {own}; got {other}.*take ranks"
        ) as caught:
            run(module, loader())
        assert str(caught.value).endswith(f"take rankseg_integrations.{other}.{name}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"metric": "dise"}, ValueError, "metric must be one of 'dice', 'iou'"),
        ({"nonsense": 1}, ValueError, "takes no parameter 'nonsense'"),
        ({"rankseg": RankSEG(), "metric": "iou"}, ValueError, "got metric as well"),
        ({"rankseg": 3}, TypeError, "must be a RankSEG, a DecisionRule or the path"),
        ({"rankseg": "nowhere.json"}, FileNotFoundError, "nowhere.json"),
        ({"aggregation": "dataset"}, ValueError, "one at a time"),
        ({"rankseg": RankSEG(aggregation="dataset")}, ValueError, "one at a time"),
        ({"key": None}, TypeError, "key must be a str"),
        ({"key": True}, TypeError, "key must be a str"),
        ({"output_key": 1}, TypeError, "output_key must be a str"),
        ({"drop_probs": "no"}, TypeError, "drop_probs must be True or False"),
    ],
)
def test_arguments_are_checked_when_it_is_made(
    lightning: Space, arguments: Any, error: Any, text: str
) -> None:
    with pytest.raises(error) as caught:
        lightning.rankseg.RankSEGCallback(**arguments)
    assert text in str(caught.value)


@pytest.mark.parametrize("name", NAMESPACES)
def test_without_the_framework_one_line_says_what_to_install(name: str) -> None:
    script = (
        f"import sys; sys.modules[{name!r}] = None\n"
        "import rankseg_integrations; assert 'torchmetrics' not in sys.modules\n"
        f"try:\n    from rankseg_integrations.{name} import RankSEGWriter\n"
        "except ImportError as error:\n    print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    extra = name.replace("_", "-")
    assert done.stdout == f"{name} is needed here: {pip_line(extra)}\n"
