"""MONAI on real data, NIfTI to NIfTI: load, reorient, resample, invert, decide, save.

The probabilities are those of grey and white matter in the MNI152 atlas, the average of 152 brains
(ICBM, nonlinear, symmetric, 2009a): of 152 people, how many have the tissue there. They are part of
PyPI's `nilearn` package; where it is not installed, its wheel is downloaded once with pip. No
network is used: the maps stand for its output, on a grid of its own. There is no single truth for a
population, so decisions are compared by their expected Dice.

    pip install ".[monai]" matplotlib
    python examples/monai_brain.py                  # half a minute on two cores
    python examples/monai_brain.py --spacing 4      # a coarser grid for the "network"
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import (
    AsDiscreted,
    Compose,
    ConcatItemsd,
    EnsureChannelFirstd,
    Invertd,
    LoadImaged,
    Orientationd,
    SaveImaged,
    ScaleIntensityRanged,
    Spacingd,
)

from rankseg import expected_score
from rankseg_integrations.monai import AsRankSEGd

TISSUES = ("other", "grey", "white")
DECISIONS = ("argmax", "rankseg", "ascent")
FILES = {
    tissue: f"mni_icbm152_{short}_tal_nlin_sym_09a_converted.nii.gz"
    for tissue, short in (("grey", "gm"), ("white", "wm"))
}
INSIDE = "nilearn/datasets/data"
CACHE = Path.home() / ".cache" / "rankseg" / "nilearn"


def fetch() -> Path:
    """Folder with the two files: in the installed package, or out of its wheel."""
    found = importlib.util.find_spec("nilearn")
    if found is not None and found.origin is not None:
        return Path(found.origin).parents[1] / INSIDE
    if not all((CACHE / name).is_file() for name in FILES.values()):
        CACHE.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", CACHE]
        subprocess.run([*pip, "--only-binary", ":all:", "nilearn"], check=True)
        (wheel,) = CACHE.glob("nilearn-*.whl")
        with zipfile.ZipFile(wheel) as archive:
            for name in FILES.values():
                (CACHE / name).write_bytes(archive.read(f"{INSIDE}/{name}"))
        wheel.unlink()
    return CACHE


def preparation(spacing: float) -> Compose:
    """From files to probabilities on the grid of the "network"."""
    tissues = list(FILES)
    return Compose(
        [
            LoadImaged(tissues),
            EnsureChannelFirstd(tissues),
            ScaleIntensityRanged(tissues, a_min=0, a_max=255, b_min=0, b_max=1),
            ConcatItemsd(tissues, name="image"),
            Orientationd("image", axcodes="LPS", labels=None),
            Spacingd("image", pixdim=(spacing,) * 3),
        ]
    )


def network(image: MetaTensor) -> MetaTensor:
    """Probabilities (3, *spatial): the maps, and what is neither."""
    other = 1 - image.sum(0, keepdim=True)
    return torch.cat([other.clamp(min=0), image])


def decide(item: dict, before: Compose, folder: Path) -> dict:
    """Every decision on the grid of the files, saved as NIfTI."""
    after = Compose(
        [
            Invertd("pred", before, orig_keys="image", nearest_interp=False),
            AsDiscreted("argmax", argmax=True),
            AsRankSEGd("rankseg", metric="dice"),
            AsRankSEGd("ascent", metric="dice", assignment="ascent"),
            *(
                SaveImaged(
                    name,
                    output_dir=folder,
                    output_postfix=name,
                    output_dtype=np.uint8,
                    separate_folder=False,
                    print_log=False,
                )
                for name in DECISIONS
            ),
        ]
    )
    inverted = after.transforms[0](item)
    return Compose(after.transforms[1:])(dict.fromkeys(("pred", *DECISIONS), inverted["pred"]))


def report(probs: torch.Tensor, decided: dict) -> None:
    """Expected Dice and volume of each tissue, before and after.

    By RMA, which takes one pass: in regions this large it differs from the exact expectation by
    less than 1e-5 (measured on every second voxel of each axis).
    """
    print(f"{'':8}" + "".join(f"{tissue:>20}" for tissue in TISSUES) + f"{'mean':>12}")
    print(f"{'':8}" + f"{'E[Dice]':>11}{'litres':>9}" * len(TISSUES) + f"{'E[Dice]':>12}")
    for name in DECISIONS:
        labels = decided[name].as_tensor().long()
        scores = expected_score(probs, labels, metric="dice", method="RMA")[0]
        litres = [(labels == tissue).sum().item() / 1e6 for tissue in range(len(TISSUES))]
        pairs = zip(scores.tolist(), litres, strict=True)
        cells = "".join(f"{score:11.4f}{litre:9.3f}" for score, litre in pairs)
        print(f"{name:8}{cells}{scores.mean().item():12.4f}")


def draw(probs: torch.Tensor, decided: dict, path: Path) -> None:
    """One coronal slice: the probability of grey matter, both decisions, what changed."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.colors import ListedColormap

    place = probs.shape[3] // 2
    before, after = (decided[name][0, :, place].as_tensor().T for name in ("argmax", "rankseg"))
    tissues = ListedColormap(["#10182b", "#d98c3f", "#f3ead7"])
    figure, axes = plt.subplots(1, 4, figsize=(16, 4.6), layout="constrained")
    axes[0].imshow(probs[0, 1, :, place].T, cmap="magma", vmin=0, vmax=1, origin="lower")
    axes[0].set_title("probability of grey matter")
    for axis, labels, title in ((axes[1], before, "argmax"), (axes[2], after, "RankSEG")):
        axis.imshow(labels, cmap=tissues, vmin=0, vmax=2, origin="lower", interpolation="nearest")
        axis.set_title(title)
    axes[3].imshow(before, cmap="Greys_r", vmin=0, vmax=6, origin="lower")
    changed = np.ma.masked_where(before == after, after)
    axes[3].imshow(changed, cmap=tissues, vmin=0, vmax=2, origin="lower", interpolation="nearest")
    axes[3].set_title("where they differ, and RankSEG's label")
    for axis in axes:
        axis.set_axis_off()
    figure.savefig(path, dpi=75)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with the two NIfTI files of nilearn")
    parser.add_argument("--spacing", type=float, default=2.0, help="mm, of the network's grid")
    parser.add_argument("--folder", type=Path, help="keep the NIfTI files here")
    parser.add_argument("--output", type=Path, default=Path("rankseg-brain.png"))
    arguments = parser.parse_args()

    data = arguments.data or fetch()
    before = preparation(arguments.spacing)
    item = before({tissue: str(data / name) for tissue, name in FILES.items()})
    item["pred"] = network(item["image"])
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        decided = decide(item, before, folder)
        original = nib.load(data / FILES["grey"])
        (written,) = (nib.load(path) for path in folder.glob("*_rankseg.nii.gz"))
        same = np.array_equal(written.affine, original.affine) and written.shape == original.shape
    grids = (tuple(item["pred"].shape[1:]), original.shape)
    print(f"network's grid {grids[0]}, file's grid {grids[1]}; affine of the result equal: {same}")
    probs = decided["pred"].as_tensor().clamp(0, 1)[None]
    report(probs, decided)
    draw(probs, decided, arguments.output)
    print(f"picture: {arguments.output}")


if __name__ == "__main__":
    main()
