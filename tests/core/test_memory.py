"""Extra memory stays small beside the input, however many classes there are."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys, torch
from rankseg import RankSEG

def status(field):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))

shape, mode, dtype, smooth, backend, activation = eval(sys.argv[1])
torch.set_num_threads(2)
probs = torch.rand(shape, dtype=getattr(torch, dtype))
decide = RankSEG(output_mode=mode, smooth=smooth, backend=backend, activation=activation)
for small in (torch.rand(1, 2, 600, 600), torch.rand(1, 20, 60, 60)):
    decide(small.to(probs))  # loads what is loaded late, warms the allocator

def start():
    open("/proc/self/clear_refs", "w").write("5")  # the peak is counted from here
    return status("VmRSS")

before = start()
probs.clone()
copied = status("VmHWM") - before
before = start()
result = decide(probs)
print(status("VmHWM") - before, result.nbytes, probs.nbytes, copied)
"""

BLOCKS = 32e6
"""What plain torch's blocks may take: measured 12 to 25 MB with 2^18 elements a block."""

SHARE = 0.15
"""What compiled passes may take beside the result, of the size of the probabilities."""

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def memory(shape, mode, dtype="float32", smooth=0.0, backend="auto", activation="none"):
    """Bytes: peak above what was resident before the call, of the result, of the input.

    A plain copy of the input is measured the same way, to see that the measurement sees.
    """
    arguments = repr((shape, mode, dtype, smooth, backend, activation))
    command = [sys.executable, "-c", PROGRAM, arguments]
    out = subprocess.run(command, capture_output=True, text=True, check=True)
    extra, result, probs, copied = (int(number) for number in out.stdout.split())
    assert copied > 0.9 * probs
    return extra, result, probs


def nightly(*shape):
    """A shape that tells little that the others do not; each measurement takes a process."""
    return pytest.param(shape, marks=pytest.mark.slow)


@linux
@pytest.mark.parametrize(
    "shape", [(1, 150, 256, 256), nightly(1, 1, 4096, 4096), (64, 12, 128, 128)]
)
@pytest.mark.parametrize("mode", ["multilabel", "multiclass"])
def test_plain_torch(shape, mode):
    extra, result, _ = memory(shape, mode, backend="torch")
    assert extra <= result + BLOCKS  # whatever the size of the input


@linux
@pytest.mark.parametrize(
    "shape",
    [
        (1, 19, 512, 1024),
        nightly(2, 21, 512, 512),
        (1, 150, 512, 512),
        nightly(1, 2, 1024, 1024),
        nightly(1, 3, 128, 128, 128),
        (1, 1, 2048, 2048),
    ],
)
@pytest.mark.parametrize("mode", ["multilabel", "multiclass"])
def test_compiled_passes(shape, mode):
    extra, result, probs = memory(shape, mode)
    assert extra <= result + SHARE * probs


@linux
@pytest.mark.parametrize(
    ("dtype", "smooth"), [("float16", 0.0), ("bfloat16", 0.0), ("float64", 0.0), ("float32", 1.0)]
)
def test_other_types_and_smoothing(dtype, smooth):
    extra, result, probs = memory((1, 20, 512, 512), "multilabel", dtype, smooth)
    assert extra <= result + SHARE * probs


@linux
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize(
    "shape", [(1, 19, 512, 1024), (1, 2, 1024, 1024), nightly(1, 3, 128, 128, 128)]
)
@pytest.mark.parametrize("mode", ["multilabel", "multiclass"])
def test_logits(shape, activation, mode):
    """No array of probabilities: for a softmax two numbers a pixel, for many classes two rows."""
    extra, result, logits = memory(shape, mode, activation=activation)
    pixels = logits / shape[1]
    kept = 2 * pixels if activation == "softmax" and shape[1] > 2 else 0
    assert extra <= result + kept + SHARE * logits
