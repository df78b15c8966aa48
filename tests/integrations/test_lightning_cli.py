"""The callbacks in a configuration file of LightningCLI: ``class_path`` and ``init_args``."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
from tiny_lightning import FILTERS, NAMESPACES, Items, Space, loader, probs_of, space

from rankseg import Calibrator, RankSEG
from rankseg.solvers import METRICS, SOLVERS

pytest.importorskip("torchmetrics")
pytest.importorskip("jsonargparse")

ALSO = [
    pytest.mark.filterwarnings("ignore:LightningCLI's args parameter"),
    pytest.mark.filterwarnings("ignore:\\s*(By default only one Jsonargparse|.*was deprecated)"),
]

pytestmark = [*FILTERS, *ALSO]

TRAINER = """
seed_everything: false
trainer:
  accelerator: cpu
  logger: false
  enable_checkpointing: false
  enable_progress_bar: false
  enable_model_summary: false
  callbacks:
"""


@pytest.fixture(params=NAMESPACES)
def here(request: pytest.FixtureRequest) -> Space:
    return space(request.param)


def configured(here: Space, folder: Path, callbacks: str) -> Any:
    """What LightningCLI makes of a file with these callbacks."""
    cli = importlib.import_module(f"{here.pl.__name__}.cli").LightningCLI
    root = here.rankseg.__name__
    (folder / "config.yaml").write_text(TRAINER + callbacks.replace("ROOT", root))
    kind = type(here.module(lambda batch: {"probs": probs_of(batch["image"])}))
    module = type("Module", (kind,), {"predict_step": lambda self, batch, *rest: probs(batch)})
    return cli(
        module, run=False, args=["--config", str(folder / "config.yaml")], save_config_callback=None
    )


def probs(batch: Any) -> Any:
    return {"probs": probs_of(batch["image"])}


def test_a_file_configures_all_three(here: Space, tmp_path: Path) -> None:
    callbacks = f"""
    - class_path: ROOT.RankSEGCallback
      init_args: {{metric: iou, drop_probs: true, pruning_prob: [0.5, 0.2, 0.2]}}
    - class_path: ROOT.RankSEGWriter
      init_args: {{folder: {tmp_path / "masks"}, name_key: name, file_format: npz}}
    - class_path: ROOT.RankSEGEvaluation
      init_args: {{target_key: 1, per_class: [a, b, c], assignment: ascent, ignore_index: 255}}
"""
    cli = configured(here, tmp_path, callbacks)
    decides, writes, evaluates = cli.trainer.callbacks
    assert decides.rankseg.settings == RankSEG("iou", pruning_prob=[0.5, 0.2, 0.2]).settings
    assert evaluates.rankseg.settings == RankSEG(assignment="ascent").settings
    assert (evaluates.target_key, evaluates.per_class) == (1, ("a", "b", "c"))
    assert writes.folder == tmp_path / "masks"
    cli.trainer.predict(cli.model, loader(2), return_predictions=False)
    wanted = decides.rankseg(probs_of(Items(2).images)).numpy()
    for number in range(2):
        found = np.load(tmp_path / "masks" / f"image {number}.npz")["labels"]
        assert (found == wanted[number]).all()


def test_a_saved_rule_and_a_ready_made_configuration(here: Space, tmp_path: Path) -> None:
    rule = RankSEG("iou").decide([probs(batch)["probs"] for batch in loader()])
    rule.save(tmp_path / "rule.json")
    callbacks = f"""
    - class_path: ROOT.RankSEGCallback
      init_args: {{rankseg: {tmp_path / "rule.json"}}}
    - class_path: ROOT.RankSEGEvaluation
      init_args:
        rankseg: {{class_path: rankseg.RankSEG, init_args: {{metric: iou, solver: auto}}}}
"""
    decides, evaluates = configured(here, tmp_path, callbacks).trainer.callbacks
    assert decides.rankseg == rule
    assert evaluates.rankseg.settings == RankSEG("iou", solver="auto").settings


def test_a_saved_calibrator_and_a_coupling(here: Space, tmp_path: Path) -> None:
    calibrator = Calibrator("softmax", (0.5,) * 3, (0.0,) * 3)
    calibrator.save(tmp_path / "c.json")
    callbacks = f"""
    - class_path: ROOT.RankSEGCallback
      init_args: {{solver: coupled, coupling: 0.25, calibrator: {tmp_path / "c.json"}}}
"""
    (decides,) = configured(here, tmp_path, callbacks).trainer.callbacks
    wanted = RankSEG(solver="coupled", coupling=0.25, calibrator=calibrator)
    assert decides.rankseg.settings == wanted.settings


@pytest.mark.parametrize("name", ["RankSEGCallback", "RankSEGWriter", "RankSEGEvaluation"])
@pytest.mark.parametrize(
    ("arguments", "texts"),
    [
        ("metric: dise", ["'metric'", "dise", "'dice', 'iou', 'acc', 'fbeta', 'tversky'"]),
        ("nonsense: 1", ["nonsense"]),
        ("pruning_prob: much", ["pruning_prob", "much"]),
        ("pruning_prob: 2", ["pruning_prob must lie in [0, 1]"]),
        ("solver: TR", ["solver='TR' makes no sense with output_mode='multiclass'"]),
        ("aggregation: dataset", ["aggregation"]),
    ],
)
def test_what_is_wrong_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, arguments: str, texts: list[str]
) -> None:
    folder = f"folder: {tmp_path}, " if name == "RankSEGWriter" else ""
    line = f"    - {{class_path: ROOT.{name}, init_args: {{{folder}{arguments}}}}}\n"
    try:
        configured(space("lightning"), tmp_path, line)
    except SystemExit:
        said = capsys.readouterr().err
    except ValueError as error:  # by RankSEG, from values of the right type
        said = str(error)
    else:
        pytest.fail("nothing was said")
    assert all(text in said for text in texts), said


def test_every_option_of_rankseg_is_typed() -> None:
    """Names and choices of a configuration file are those of the core, and all of them."""
    from rankseg_integrations._lightning.options import PredictOptions

    hints = get_type_hints(PredictOptions)
    for name, choices in (("metric", METRICS), ("solver", SOLVERS)):
        assert set(get_args(hints[name])) == set(choices)
    own = {name for entry in SOLVERS.values() for mode in entry.modes.values() for name in mode}
    own |= {name for parameters in METRICS.values() for name in parameters}
    own |= set(RankSEG.__init__.__annotations__) - {"return", "solver_params", "aggregation"}
    assert set(hints) == own
