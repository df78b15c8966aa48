"""`SlidingWindowRankSEG` is `SlidingWindowInferer` and `AsRankSEG`, without the buffer."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from rankseg import RankSEG

pytest.importorskip("monai")

from monai.data import MetaTensor, decollate_batch, list_data_collate
from monai.inferers import SlidingWindowInferer

from rankseg_integrations.monai import AsRankSEG, SlidingWindowRankSEG


@pytest.fixture(scope="module")
def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Conv3d(1, 4, 3, padding=1).eval()


def images(*size: int, batch: int = 1) -> Tensor:
    noise = torch.randn(batch, 1, *size, generator=torch.Generator().manual_seed(1))
    return 3 * nn.functional.avg_pool3d(noise, 3, 1, 1)


def buffered(given: dict[str, Any], volumes: Tensor, network: Any) -> Tensor:
    with torch.no_grad():
        return SlidingWindowInferer(**given)(volumes, network)


PLACES: dict[str, dict[str, Any]] = {
    "no overlap": {"roi_size": 8, "overlap": 0},
    "gaussian": {"roi_size": 12, "overlap": 0.5, "mode": "gaussian"},
    "uneven": {"roi_size": (7, 12, 9), "overlap": (0.25, 0.6, 0.3), "mode": "gaussian"},
    "sigma": {"roi_size": 10, "mode": "gaussian", "sigma_scale": (0.1, 0.2, 0.3)},
    "whole axes": {"roi_size": (10, -1, 40), "padding_mode": "reflect"},
    "padded": {"roi_size": 24, "overlap": 0.4, "cval": 1.5},
}


@pytest.mark.parametrize("slab_dim", [0, 1, -1])
@pytest.mark.parametrize("places", PLACES)
def test_slabs_are_the_buffer_cut_up(places: str, slab_dim: int, network: nn.Module) -> None:
    """Sums are made in MONAI's order along the first axis, so there they agree to the bit."""
    volumes = images(19, 14, 22)
    inferer = SlidingWindowRankSEG(**PLACES[places], slab_dim=slab_dim)
    with torch.no_grad():
        slabs = list(inferer.windows.on(volumes).slabs(network))
    found, want = torch.cat(slabs, slab_dim % 3 + 2), buffered(PLACES[places], volumes, network)
    if slab_dim == 0:
        assert torch.equal(found, want)
    torch.testing.assert_close(found, want, rtol=0, atol=2e-6)  # sums of some eight floats
    assert len(slabs) > 1 or places in ("padded", "whole axes")


OPTIONS: dict[str, dict[str, Any]] = {
    "labels": {"activation": "softmax", "pruning_prob": 0.3},
    "ascent": {"activation": "softmax", "metric": "iou", "assignment": "ascent"},
    "masks": {"activation": "sigmoid", "output_mode": "multilabel"},
    "void": {"activation": "sigmoid", "unassigned_policy": "void"},
}


@pytest.mark.parametrize("keep", ["memory", "disk", "nothing"])
@pytest.mark.parametrize("options", OPTIONS)
def test_result_is_that_of_asrankseg_on_the_buffer(
    options: str, keep: str, network: nn.Module
) -> None:
    given = {"roi_size": (8, 12, 12), "overlap": 0.5, "mode": "gaussian"}
    volumes = images(20, 12, 17, batch=2)
    buffer = buffered(given, volumes, network)
    want = torch.stack(AsRankSEG(**OPTIONS[options])(list(buffer)))
    inferer = SlidingWindowRankSEG(**given, keep=keep, **OPTIONS[options])
    found = inferer(volumes, network)
    assert (found.shape, found.dtype) == (want.shape, torch.uint8)
    assert torch.equal(found.float(), want.as_tensor())
    assert len(want.unique()) > 1
    assert torch.equal(inferer(volumes, network), found)
    assert torch.equal(inferer(volumes[1:], network), found[1:]), "each image by itself"


@pytest.mark.parametrize("sw_batch_size", [1, 3])
@pytest.mark.parametrize("slab_dim", [0, 2])
def test_few_pixels_differ_where_sums_have_another_order(
    slab_dim: int, sw_batch_size: int, network: nn.Module
) -> None:
    given = {"roi_size": 12, "sw_batch_size": sw_batch_size, "overlap": 0.5, "mode": "gaussian"}
    volumes = images(25, 21, 30)
    want = AsRankSEG(activation="softmax")(buffered(given, volumes, network)[0])
    found = SlidingWindowRankSEG(**given, slab_dim=slab_dim, activation="softmax")(volumes, network)
    assert (found[0].float() != want).float().mean() < 1e-4


def test_probabilities_that_rounding_moved_and_pixels_without_any(network: nn.Module) -> None:
    def probabilities(windows: Tensor) -> Tensor:
        probs = network(windows).softmax(1)
        sure = torch.where(windows < -1, (probs == probs.amax(1, keepdim=True)).float(), probs)
        return torch.where(windows > 0.8, 0, sure * 1.0000002)

    given = {"roi_size": 10, "overlap": 0.5}
    volumes = images(25, 21, 30)
    buffer = buffered(given, volumes, probabilities)
    assert (buffer == 0).all(1).any()
    assert buffer.max() > 1
    want = AsRankSEG(assignment="ascent")(buffer[0])
    found = SlidingWindowRankSEG(**given, assignment="ascent")(volumes, probabilities)
    assert torch.equal(found[0].float(), want.as_tensor())


def test_two_dimensions_and_other_types() -> None:
    torch.manual_seed(0)
    flat = nn.Conv2d(2, 3, 3, padding=1).double().eval()
    volumes = torch.randn(2, 2, 30, 20, dtype=torch.float64)
    given = {"roi_size": (8, 8), "sw_batch_size": 4}
    want = torch.stack(AsRankSEG(activation="softmax")(list(buffered(given, volumes, flat))))
    found = SlidingWindowRankSEG(**given, activation="softmax", dtype="float32")(volumes, flat)
    assert found.dtype == torch.float32
    assert torch.equal(found, want.as_tensor())


def test_the_network_runs_as_often_as_documented(network: nn.Module) -> None:
    volumes = images(25, 21, 30)
    runs: list[int] = []

    def counted(windows: Tensor) -> Tensor:
        runs.append(len(windows))
        return network(windows)

    def passes(**given: Any) -> float:
        runs.clear()
        SlidingWindowRankSEG(12, activation="softmax", **given)(volumes, counted)
        return sum(runs) / windows

    buffered({"roi_size": 12}, volumes, counted)
    windows = sum(runs)
    assert passes() == passes(keep="disk") == 1
    assert 5 <= passes(keep="nothing") <= 7
    masks = {"output_mode": "multilabel", "keep": "nothing"}
    assert 5 <= passes(**masks) <= 6
    assert passes(**masks, one_pass=True) == 2


def test_one_pass_is_nearly_as_good(network: nn.Module) -> None:
    volumes = images(25, 21, 30)
    given = {"activation": "softmax", "output_mode": "multilabel"}
    coarse = SlidingWindowRankSEG(12, one_pass=True, keep="nothing", **given)(volumes, network)
    exact = SlidingWindowRankSEG(12, **given)(volumes, network)
    assert 0 < (coarse != exact).float().mean() < 1e-3 or torch.equal(coarse, exact)
    assert coarse.any()


def test_a_rule_of_a_data_set_is_applied_in_one_visit(network: nn.Module) -> None:
    volumes = images(25, 21, 30, batch=2)
    buffer = buffered({"roi_size": 12}, volumes, network)
    rule = RankSEG("dice", activation="softmax").decide(buffer)
    runs = []
    found = SlidingWindowRankSEG(12, rankseg=rule)(volumes, lambda w: runs.append(w) or network(w))
    assert torch.equal(found[:, 0].long(), rule(buffer))
    once = len(runs)
    buffered({"roi_size": 12}, volumes, lambda w: runs.append(w) or network(w))
    assert len(runs) == 2 * once


def test_arguments_reach_the_network_and_coordinates_too(network: nn.Module) -> None:
    seen: list[Any] = []

    def shifted(windows: Tensor, places: Any, by: float, *, scale: float) -> Tensor:
        seen.extend(places)
        return scale * network(windows) + by

    given = {"roi_size": 12, "with_coord": True, "sw_batch_size": 2}
    volumes = images(25, 21, 30)
    inferer = SlidingWindowRankSEG(**given, activation="softmax")
    found = inferer(volumes, shifted, 0.5, scale=2.0)
    ours, seen[:] = list(seen), []
    with torch.no_grad():
        buffer = SlidingWindowInferer(**given)(volumes, shifted, 0.5, scale=2.0)
    assert [list(place) for place in ours] == [list(place) for place in seen]
    assert torch.equal(found[0].float(), AsRankSEG(activation="softmax")(buffer[0]).as_tensor())


def test_metadata_is_passed_on(network: nn.Module) -> None:
    affine = torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0], dtype=torch.float64))
    items = [
        {"image": MetaTensor(image, affine=affine, meta={"filename_or_obj": f"case_{place}"})}
        for place, image in enumerate(images(20, 16, 18, batch=2))
    ]
    batch = list_data_collate(items)["image"]
    found = SlidingWindowRankSEG(12, activation="softmax")(batch, network)
    assert isinstance(found, MetaTensor)
    parts = decollate_batch(found)
    assert [part.meta["filename_or_obj"] for part in parts] == ["case_0", "case_1"]
    assert torch.equal(parts[1].affine, affine)
    assert not found.requires_grad


def test_progress_is_shown(network: nn.Module, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tqdm")
    SlidingWindowRankSEG(12, activation="softmax", progress=True)(images(14, 14, 14), network)
    assert "100%" in capsys.readouterr().err


# Memory


class Alive(TorchDispatchMode):
    """Bytes of the tensors that are alive, and the most there were at once."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, int] = {}
        self.peak = 0

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(found):
            if isinstance(leaf, Tensor):
                storage = leaf.untyped_storage()
                if id(storage) not in self.alive:
                    self.alive[id(storage)] = storage.nbytes()
                    weakref.finalize(storage, self.alive.pop, id(storage), None)
        self.peak = max(self.peak, sum(self.alive.values()))
        return found


def peak_bytes(run: Callable[[], Any]) -> int:
    """Most bytes of tensors, but for those that were there before; decisions in plain torch."""
    with Alive() as alive:
        run()
    return alive.peak


def test_there_is_no_buffer_of_all_probabilities(network: nn.Module) -> None:
    volumes = images(200, 32, 32)
    given: dict[str, Any] = {"roi_size": (16, 32, 32), "overlap": 0.1}
    buffer = 4 * volumes.nbytes

    def peak(**options: Any) -> int:
        inferer = SlidingWindowRankSEG(**given, activation="softmax", **options)
        return peak_bytes(lambda: inferer(volumes, network)) - volumes.nbytes

    whole = peak_bytes(
        lambda: AsRankSEG(activation="softmax")(buffered(given, volumes, network)[0])
    )
    assert whole - volumes.nbytes > buffer, "what is measured can be seen"
    assert peak(keep="disk") < 0.6 * buffer
    assert peak(keep="nothing") < 0.6 * buffer
    assert peak() > buffer, "keep='memory' keeps them all, on the CPU"


# Failure


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"solver": "exact"}, "solver='exact' needs all pixels of a class in memory at once"),
        ({"empty": 1}, "empty=1 needs the probability that a class is absent"),
        ({"one_pass": True}, "one_pass=True decides masks"),
        ({"folder": "somewhere"}, "folder is written with keep='disk'; got keep='memory'"),
        ({"keep": "gpu"}, "keep must be one of 'memory', 'disk', 'nothing'; got 'gpu'"),
        ({"mode": "cubic"}, "Unsupported option 'cubic'"),
        ({"padding_mode": "none"}, "Unsupported option 'none'"),
        ({"overlap": (0.5, 1)}, "overlap must be at least 0 and below 1"),
        ({"sw_batch_size": 0}, "sw_batch_size must be at least 1; got 0"),
        ({"argmax": True}, "takes no parameter 'argmax'"),
        (
            {"unassigned_policy": "void", "void_index": -1},
            "uint8 holds 0 to 255, and labels are -1",
        ),
        ({"aggregation": "dataset"}, "aggregation='dataset' needs all images together"),
    ],
    ids=str,
)
def test_wrong_arguments(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SlidingWindowRankSEG(8, **wrong)


def test_a_rule_leaves_nothing_to_keep() -> None:
    rule = RankSEG("dice").decide(torch.rand(1, 3, 8, 8).softmax(1))
    for given in ({"keep": "disk"}, {"one_pass": True}):
        with pytest.raises(ValueError, match="leave keep and one_pass out"):
            SlidingWindowRankSEG(8, rankseg=rule, **given)


def test_wrong_inputs_and_outputs(network: nn.Module) -> None:
    volumes = images(16, 16, 16)
    inferer = SlidingWindowRankSEG(8, activation="softmax")

    def refuses(error: type[Exception], message: str, *given: Any) -> None:
        with pytest.raises(error, match=message):
            inferer(*given)

    refuses(TypeError, "inputs must be a tensor or MetaTensor; got list", [volumes], network)
    refuses(ValueError, "floating-point images of shape", volumes.int(), network)
    refuses(ValueError, "floating-point images of shape", volumes[:0], network)
    refuses(TypeError, "must return a tensor for a window; got tuple", volumes, lambda w: (w, w))
    refuses(ValueError, r"return shape \(1, C, 8, 8, 8\); got", volumes, lambda w: w[..., ::2])
    refuses(ValueError, "uint8 holds 0 to 255, and labels are 0 to 299", volumes, many_classes)
    with pytest.raises(ValueError, match=r"roi_size=\(8, 8\) has 2 axes"):
        SlidingWindowRankSEG((8, 8))(volumes, network)
    with pytest.raises(ValueError, match="slab_dim=3 is no spatial axis"):
        SlidingWindowRankSEG(8, slab_dim=3)(volumes, network)


def many_classes(windows: Tensor) -> Tensor:
    return windows.expand(-1, 300, -1, -1, -1)


def test_a_network_that_changes_its_mind_is_noticed(network: nn.Module) -> None:
    torch.manual_seed(0)
    dropout = nn.Sequential(network, nn.Dropout(0.5).train())
    volumes = images(16, 16, 16)
    with pytest.raises(ValueError, match=r"tiles changed between two visits.*switch off dropout"):
        SlidingWindowRankSEG(8, keep="nothing", activation="softmax")(volumes, dropout)
    SlidingWindowRankSEG(8, activation="softmax")(volumes, dropout)  # it runs once


def test_the_image_with_nan_is_named(network: nn.Module) -> None:
    volumes = images(16, 16, 16, batch=3)
    volumes[1, 0, 3, 3, 3] = torch.nan
    inferer = SlidingWindowRankSEG(8, activation="softmax")
    with pytest.raises(ValueError, match=r"^image 1 of a batch of 3: softmax of the logits"):
        inferer(volumes, network)
    items = [
        {"image": MetaTensor(image, meta={"filename_or_obj": f"case_{place}.nii.gz"})}
        for place, image in enumerate(volumes)
    ]
    with pytest.raises(ValueError, match=r"^image 1 of a batch of 3 \(case_1.nii.gz\): softmax"):
        inferer(list_data_collate(items)["image"], network)


def test_a_folder_that_cannot_be_written_stops_before_the_network_runs(tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the folder should be: read-only also for root")
    inferer = SlidingWindowRankSEG(8, keep="disk", folder=blocked, activation="softmax")

    def never(windows: Tensor) -> Tensor:
        raise AssertionError("the network ran")

    with pytest.raises(OSError, match="blocked"):
        inferer(images(16, 16, 16), never)


def test_files_are_gone_afterwards(tmp_path: Path, network: nn.Module) -> None:
    seen: list[int] = []

    def watched(windows: Tensor) -> Tensor:
        seen.append(len(list(tmp_path.rglob("*.pt"))))
        return network(windows)

    inferer = SlidingWindowRankSEG(8, keep="disk", folder=tmp_path, activation="softmax")
    inferer(images(24, 8, 8), watched)
    assert max(seen) > 0
    assert not list(tmp_path.iterdir())
    with pytest.raises(ZeroDivisionError):
        inferer(images(24, 8, 8), lambda windows: windows / (1 // 0))
    assert not list(tmp_path.iterdir())
