"""A network and its decision leave this process, and decide the same elsewhere."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import oracles
import pytest
import torch
from torch import nn

from rankseg import Calibrator, RankSEG

ALONE = """
import sys, torch
{also}
model = torch.export.load(sys.argv[1]).module()
given, expected = torch.load(sys.argv[2])
assert torch.equal(model(given), expected)
assert ("rankseg" in sys.modules) == {ours}
"""


def image(batch=2, height=12, width=10, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, 3, height, width, generator=generator) * 9


def network(end, channels=4, layer=nn.Conv2d):
    torch.manual_seed(0)
    return nn.Sequential(layer(3, channels, 3, padding=1), end).eval()


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("end", ["operator", "head"])
def test_a_saved_program_runs_in_another_process(end, strict, tmp_path):
    decide = RankSEG(activation="softmax")
    model = network(decide if end == "operator" else decide.head(passes=4))
    batch, height, width = (torch.export.Dim(name, min=1, max=512) for name in "bhw")
    free = ({0: batch, 2: height, 3: width},)
    program = torch.export.export(model, (image(),), dynamic_shapes=free, strict=strict)
    torch.export.save(program, tmp_path / "model.pt2")
    given = image(3, 33, 21)
    torch.save((given, model(given)), tmp_path / "case.pt")
    ours = end == "operator"
    script = ALONE.format(also="import rankseg" if ours else "", ours=ours)
    files = [str(tmp_path / name) for name in ("model.pt2", "case.pt")]
    command = [sys.executable, "-W", "ignore", "-c", script, *files]
    subprocess.run(command, check=True, cwd=tmp_path if not ours else None, timeout=120)


@pytest.mark.parametrize(
    "options", [{}, {"metric": "iou", "output_mode": "multilabel"}, {"assignment": "ascent"}]
)
def test_one_compiled_graph_serves_every_size(options):
    torch._dynamo.reset()
    decide = RankSEG(backend="torch", **options)
    head = decide.head(passes=4)
    graphs = []

    def count(graph, _):
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(head, fullgraph=True, dynamic=True, backend=count)
    for size in (12, 20, 33):
        given = torch.randn(2, 4, size, size + 3).softmax(1)
        assert torch.equal(compiled(given), head(given))
    assert len(graphs) == 1


def session(model, example, free):
    """Under onnxruntime; torch is not asked any more."""
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    buffer = io.BytesIO()
    torch.onnx.export(
        model.eval(), (example,), buffer, dynamo=True, dynamic_shapes=(free,), verbose=False
    )
    found = runtime.InferenceSession(buffer.getvalue(), providers=["CPUExecutionProvider"])
    name = found.get_inputs()[0].name
    return lambda given: found.run(None, {name: given.numpy()})[0]


FREE = {0: "batch", 2: "height", 3: "width"}
ONNX = [
    ({}, torch.float32, 4),
    ({"metric": "iou", "output_mode": "multilabel"}, torch.float16, 4),
    ({"activation": "softmax", "unassigned_policy": "void"}, torch.float32, 4),
    ({"activation": "sigmoid", "metric": "iou", "smooth": 1.0}, torch.float32, 1),
    ({"empty": 1}, torch.float32, 3),
    # a cut just below the peak, in float64: float32 has no number there
    ({"metric": "fbeta", "beta": 0.0, "output_mode": "multilabel"}, torch.float64, 2),
]
SLOW = [
    ({"assignment": "ascent"}, torch.float32, 4),
    ({"smooth": 1.0}, torch.float32, 3),
    ({"solver": "argmax"}, torch.float16, 3),
    ({"class_weights": (1, 2, 0, 4)}, torch.float32, 4),
    ({"metric": "tversky", "alpha": 0.3, "beta": 0.7}, torch.float32, 2),
    ({"metric": "tversky", "alpha": 1.0, "beta": 0.0}, torch.float32, 2),
    # no float32 is 0.3 or 1.7: parameters are rounded there, and only ties notice
    ({"metric": "tversky", "alpha": 0.3, "beta": 1.7}, torch.float64, 2),
]


def check_onnx(options, kind, classes):
    decide = RankSEG(backend="torch", **options)

    def values(seed, *shape):
        logits = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 2
        return (logits if "activation" in options else logits.sigmoid()).to(kind)

    run = session(decide.head(passes=6), values(0, 2, classes, 8, 9), FREE)
    differ = pixels = 0
    for seed in range(30):
        given = values(seed, 1 + seed % 3, classes, 4 + 2 * seed, 41)
        found, expected = run(given), decide(given).numpy()
        assert found.dtype == expected.dtype
        differ, pixels = differ + (found != expected).sum(), pixels + expected.size
    # from probabilities no rounding lies between; softmax and sigmoid are each library's own
    assert differ <= (pixels * 1e-5 if "activation" in options else 0)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(("options", "kind", "classes"), ONNX, ids=str)
def test_onnxruntime_decides_the_same(options, kind, classes):
    check_onnx(options, kind, classes)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(("options", "kind", "classes"), SLOW, ids=str)
def test_onnxruntime_decides_the_same_with_other_options(options, kind, classes):
    check_onnx(options, kind, classes)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_calibrated_zeros_under_onnx(kind):
    """Logarithms of zeros are infinite there, too, and what becomes of them is zero."""
    decide = RankSEG(calibrator=Calibrator(kind, (0.3, 0.6, 1.2), (0.1, 0.0, -0.2)))
    given = torch.randn(2, 3, 20, 31, generator=torch.Generator().manual_seed(0)).softmax(1)
    given[..., 20:] = given[:, 1, :5] = 0.0
    run = session(decide.head(passes=6), given[:, :, :9, :7], FREE)
    assert np.array_equal(run(given), decide(given).numpy())


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_network_for_volumes_under_onnx():
    """Judged by regret: the network's own rounding may move a pixel at the cut."""
    decide = RankSEG(output_mode="multilabel", activation="sigmoid")
    model = network(decide.head(passes=6), channels=2, layer=nn.Conv3d)
    shape = {0: "batch", 2: "depth", 3: "height", 4: "width"}
    run = session(model, torch.rand(2, 3, 4, 5, 6), shape)
    given = torch.rand(1, 3, 9, 8, 11, generator=torch.Generator().manual_seed(1)) * 9
    found = run(given)
    with torch.no_grad():
        probs = model[0](given).double().sigmoid().numpy()
    for row, mask in zip(probs[0], found[0], strict=True):
        best = oracles.best_rma("dice", row.ravel())
        assert best - oracles.score_of_mask("dice", row.ravel(), mask.ravel()) <= 1e-6
    assert np.unique(found).size == 2


def test_onnx_of_the_operator_says_what_to_do():
    pytest.importorskip("onnxscript")
    with pytest.raises(Exception, match=r"end the network in RankSEG\(...\).head\(\)"):
        torch.onnx.export(
            network(RankSEG(activation="softmax")),
            (image(),),
            io.BytesIO(),
            dynamo=True,
            verbose=False,
        )
