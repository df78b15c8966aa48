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

shape, mode, dtype = eval(sys.argv[1]), sys.argv[2], getattr(torch, sys.argv[3])
torch.set_num_threads(1)
probs = torch.rand(shape, dtype=dtype)
decide = RankSEG(output_mode=mode, smooth=float(sys.argv[4]))
decide(torch.rand(1, 2, 600, 600, dtype=dtype))  # loads what is loaded late, warms the allocator

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
"""What the blocks may take: measured 12 to 25 MB with 2^18 elements a block."""


def memory(shape, mode, dtype="float32", smooth=0.0):
    """Bytes: peak above what was resident before the call, of the result, of the input.

    A plain copy of the input is measured the same way, to see that the measurement sees.
    """
    command = [sys.executable, "-c", PROGRAM, repr(shape), mode, dtype, str(smooth)]
    out = subprocess.run(command, capture_output=True, text=True, check=True)
    extra, result, probs, copied = (int(number) for number in out.stdout.split())
    assert copied > 0.9 * probs
    return extra, result, probs


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("shape", [(1, 150, 256, 256), (1, 1, 4096, 4096), (64, 12, 128, 128)])
@pytest.mark.parametrize("mode", ["multilabel", "multiclass"])
def test_extra_memory(shape, mode):
    extra, result, probs = memory(shape, mode)
    assert extra <= 3 * probs
    assert extra <= result + BLOCKS  # beyond the result: blocks, whatever the size of the input


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("dtype", "smooth"), [("float16", 0.0), ("float64", 0.0), ("float32", 1.0)]
)
def test_extra_memory_of_other_types_and_smoothing(dtype, smooth):
    extra, result, probs = memory((1, 20, 512, 512), "multilabel", dtype, smooth)
    assert extra <= 3 * probs
    assert extra <= result + BLOCKS
