"""A network that ends in RankSEG can be compiled and exported."""

import pytest
import torch
from torch import nn

from rankseg import RankSEG, operator
from rankseg_integrations.torch import RankSEGHead, RankSEGModel

OPTIONS = [
    {},
    {"output_mode": "multilabel"},
    {"metric": "iou", "solver": "exact"},
    {"unassigned_policy": "void", "void_index": 9},
    {"metric": "tversky", "alpha": 0.3, "beta": 0.7, "smooth": 1.0},
    {"activation": "softmax"},
    {"pruning_prob": (0.1, 0.2, 0.3, 0.4)},
    {"class_weights": (1, 2, 0, 4), "include_background": False},
    {"empty": "nan"},
    {"empty": 1, "output_mode": "multilabel"},
]


@pytest.fixture(autouse=True)
def _compiled_anew():
    """Dynamo compiles a function for so many configurations only, then gives up."""
    torch._dynamo.reset()


class Network(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3, padding=1)
        self.decide = RankSEG(**options)
        self.logits = "activation" in options

    def forward(self, image):
        logits = self.layer(image)
        return self.decide(logits if self.logits else logits.softmax(1))


def network(**options):
    torch.manual_seed(0)
    return Network(**options).eval()


def image(size=12):
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(1)) * 9


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_compiles_without_a_graph_break(options):
    model = network(**options)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    for size in (12, 20):
        assert torch.equal(compiled(image(size)), model(image(size)))


def test_solve_compiles_behind_a_network_that_could_be_trained():
    model = network()
    assert any(weight.requires_grad for weight in model.parameters())

    def solve(x):
        return model.decide.solve(model.layer(x).softmax(1)).expected_score

    compiled = torch.compile(solve, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(image()), solve(image()))


@pytest.mark.filterwarnings("ignore:.torch.jit.* is deprecated")
def test_traces():
    """``torch.jit.trace`` cannot follow compiled passes either; the operator is one node."""
    model = network().requires_grad_(False)
    traced = torch.jit.trace(model, image())
    assert torch.equal(traced(image(20)), model(image(20)))


@pytest.mark.slow
def test_compiles_to_machine_code():
    model = network()
    compiled = torch.compile(model, fullgraph=True)
    assert (compiled(image()) != model(image())).sum() <= 1  # the network's own rounding


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_solve_compiles_too(options):
    decide = RankSEG(**options)
    probs = torch.randn(2, 4, 9, 9).softmax(1)
    found = torch.compile(decide.solve, fullgraph=True, backend="aot_eager")(probs)
    expected = decide.solve(probs)
    for name, number in vars(expected).items():
        torch.testing.assert_close(getattr(found, name), number, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_exports_with_any_size(options, tmp_path):
    model = network(**options)
    batch, height, width = (torch.export.Dim(name, min=1, max=64) for name in "bhw")
    shapes = {"image": {0: batch, 2: height, 3: width}}
    program = torch.export.export(model, (image(),), dynamic_shapes=shapes, strict=True)
    torch.export.save(program, tmp_path / "model.pt2")
    loaded = torch.export.load(tmp_path / "model.pt2").module()
    for size in (12, 31):
        assert torch.equal(loaded(image(size)), model(image(size)))


@pytest.mark.parametrize("strict", [True, False])
def test_exports_without_tracing_into_the_search(strict):
    program = torch.export.export(network(), (image(),), strict=strict)
    names = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert names.count("rankseg.predict.default") == 1
    assert torch.equal(program.module()(image()), network()(image()))


@pytest.mark.parametrize("resize_to_input", [False, True])
def test_head_and_wrapper(resize_to_input):
    torch.manual_seed(0)
    body = nn.Conv2d(3, 4, 3, stride=2 if resize_to_input else 1, padding=1)
    model = RankSEGModel(body, RankSEGHead("softmax"), resize_to_input=resize_to_input).eval()
    expected = model(image())
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(image()), expected)
    assert torch.equal(torch.export.export(model, (image(),)).module()(image()), expected)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_operators_keep_their_word(options):
    """Torch's own checks of shapes, types, aliasing and dispatch."""
    text = operator.as_text(RankSEG(**options).settings)
    probs = torch.randn(2, 4, 5, 6).softmax(1)
    tests = ("test_schema", "test_faketensor")
    for valid_mask in ([], [torch.rand(2, 5, 6) < 0.5]):
        arguments = (probs, text, *valid_mask)
        torch.library.opcheck(torch.ops.rankseg.predict.default, arguments, test_utils=tests)
        torch.library.opcheck(torch.ops.rankseg.solve.default, arguments, test_utils=tests)


def test_errors_are_those_of_eager_mode():
    compiled = torch.compile(RankSEG(), fullgraph=True, backend="aot_eager")
    with pytest.raises(ValueError, match="probs must lie in"):
        compiled(torch.full((1, 3, 8), 1.5))


class Masked(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.decide = RankSEG(**options)

    def forward(self, probs, valid):
        return self.decide(probs, valid)


@pytest.mark.parametrize("options", [{"ignore_index": 7}, {"output_mode": "multilabel"}], ids=str)
def test_a_valid_mask_goes_along(options):
    probs = torch.randn(2, 4, 9, 9).softmax(1)
    valid = torch.rand(2, 9, 9) < 0.5
    model = Masked(**options).eval()
    expected = model(probs, valid)
    assert torch.equal(
        torch.compile(model, fullgraph=True, backend="aot_eager")(probs, valid), expected
    )
    assert torch.equal(torch.export.export(model, (probs, valid)).module()(probs, valid), expected)

    def solve(probs, valid):
        return model.decide.solve(probs, valid).expected_score

    compiled = torch.compile(solve, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(probs, valid), solve(probs, valid))
