"""The Triton field: run under its interpreter, compiled for GPUs that need not be there, chosen."""

import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

from rankseg import RankSEG
from rankseg.fields import LabelRule, TensorField, choose
from rankseg.objectives import Dice

triton_cuda = pytest.importorskip("rankseg.fields.triton_cuda")
TritonField = triton_cuda.TritonField


@pytest.mark.timeout(900)  # half a minute of work each
@pytest.mark.parametrize(
    "part",
    [
        *("reductions or layouts or sizes", "logits and 32 or surface or many_classes", "others"),
        pytest.param("logits", marks=pytest.mark.slow),
    ],
)
def test_interpreted(part):
    """``interpreted_triton.py``, in a process in which triton interprets."""
    file = Path(__file__).with_name("interpreted_triton.py")
    others = "not (reductions or layouts or sizes or logits or surface or many_classes)"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider"]
    traced = {"COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START"}  # `make test-kernels` does that
    environment = {name: value for name, value in os.environ.items() if name not in traced}
    done = subprocess.run(
        [*command, str(file), "-k", others if part == "others" else part],
        cwd=Path(__file__).parents[2],
        env={**environment, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 20


class Compiler:
    """Compiles what the field would launch, as the arguments specialise it, and runs nothing."""

    def __init__(self, capability, monkeypatch, folder):
        from triton.backends.compiler import GPUTarget
        from triton.runtime.driver import driver

        class Absent:
            """Driver of a GPU that is not there."""

            get_current_device = staticmethod(lambda: capability)
            get_current_stream = staticmethod(lambda device: 0)
            get_current_target = staticmethod(lambda: GPUTarget("cuda", capability, 32))

        self.kernels = {}
        monkeypatch.setenv("TRITON_CACHE_DIR", str(folder))  # compile, do not remember
        monkeypatch.setattr(driver, "_active", Absent())
        monkeypatch.setattr(triton_cuda.kernels, "INTERPRETED", True)  # takes CPU tensors
        monkeypatch.setattr(TritonField, "_launch", self._compile)

    def _compile(self, kernel, programs, *arguments, **constants):
        options = triton_cuda.OPTIONS
        compiled = kernel.warmup(*arguments, grid=(programs,), **constants, **options)
        self.kernels.setdefault(kernel.fn.__name__, []).append(compiled)

    def everything(self, values, activation, monkeypatch):
        """Every kernel that a field of these values can launch."""
        field = TritonField(values, activation)
        none = torch.zeros(field.shape, dtype=torch.float64)
        field.above(none)
        field.claimed_once(none)
        field.select(none)
        field.measure(torch.zeros(field.batch, *field.spatial, dtype=torch.int64))
        field.within(values > 0)
        field.assign(LabelRule(none, none > 0, none, none, none, 255))
        with monkeypatch.context() as patch:  # nothing runs, so the state says nothing
            patch.setattr(torch.Tensor, "any", lambda tensor: False)
            for start in (None, none):
                field.maximise(Dice(none).ratio, none > 0, start)
        if activation != "none":
            field._row_values(0, 0)


def resources(compiled):
    """Registers and bytes of spilled registers, as NVIDIA's tool reads them in the machine code."""
    from triton import knobs

    path = next(path for name, path in compiled.metadata_group.items() if name.endswith(".cubin"))
    command = [knobs.nvidia.cuobjdump.path, "-res-usage", path]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    registers, stack = re.search(r"REG:(\d+) STACK:(\d+)", out).groups()
    return int(registers), int(stack)


CASES = [
    (80, torch.float32, "none", False),
    (80, torch.float16, "softmax", True),
    (90, torch.float32, "none", True),
    (90, torch.float32, "softmax", False),
    (90, torch.bfloat16, "none", False),
    (90, torch.float64, "sigmoid", False),
]


@pytest.mark.parametrize(("capability", "dtype", "activation", "channels_last"), CASES, ids=str)
def test_compiles_to_machine_code(
    capability, dtype, activation, channels_last, monkeypatch, tmp_path
):
    values = torch.rand(1, 19, 64, 128).to(dtype)
    if channels_last:
        values = values.contiguous(memory_format=torch.channels_last)
    compiler = Compiler(capability, monkeypatch, tmp_path)
    compiler.everything(values, activation, monkeypatch)
    expected = {"totals", "extremes", "finish", "above", "within", "select", "claimed_once"}
    expected |= {"measure", "assign", "set_out", "advance"}
    expected |= {"copy_row"} if activation != "none" else set()
    expected |= {"normalise"} if activation == "softmax" else set()
    assert set(compiler.kernels) == expected
    for name, versions in compiler.kernels.items():
        for compiled in versions:
            assert compiled.asm["cubin"][:4] == b"\x7fELF"
            registers, stack = resources(compiled)
            print(name, registers, "registers")
            assert stack == 0, f"{name} spills registers"
            if dtype != torch.float64 or activation == "none":  # its exp is NVIDIA's library's
                assert_rounding_of_the_reference(compiled.asm["ptx"], activation)
    wide = {torch.float32: "v4.b32", torch.bfloat16: "v2.b32|v4.b32"}
    if dtype in wide and not channels_last:
        assert re.search(rf"ld\.global\.({wide[dtype]})", compiler.kernels["above"][0].asm["ptx"])


def assert_rounding_of_the_reference(code, activation):
    """No approximate instruction, no flushing, and no contraction that nobody asked for."""
    assert not re.search(r"approx|\.ftz|div\.full", code)
    assert not re.search(r"fma\.rn\.f64", code)
    if activation == "none":
        assert "fma.rn" not in code


def test_contraction_would_be_seen(monkeypatch, tmp_path):
    compiler = Compiler(90, monkeypatch, tmp_path)
    monkeypatch.setattr(triton_cuda, "OPTIONS", {})
    compiler.everything(torch.rand(1, 3, 64), "none", monkeypatch)
    assert "fma.rn.f64" in compiler.kernels["assign"][0].asm["ptx"]


def test_asked_for_by_name_it_works_or_raises():
    with pytest.raises(ValueError, match="needs values on a GPU; got cpu"):
        TritonField(torch.rand(1, 1, 4))


def test_where_no_kernel_runs_plain_torch_decides_and_says_so_once(monkeypatch):
    here = torch.device("cpu")  # no kernel runs there: any failure will do
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    triton_cuda._runs_on.cache_clear()
    with pytest.warns(RuntimeWarning, match=r"does not run on cpu .*plain torch decides"):
        assert not triton_cuda._runs_on(here)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not triton_cuda._runs_on(here)
    triton_cuda._runs_on.cache_clear()


@pytest.mark.parametrize(("hip", "capability"), [("6.4", (9, 4)), (None, (7, 5))])
def test_devices_that_are_not_tried(hip, capability, monkeypatch):
    monkeypatch.setattr(torch.version, "hip", hip)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    triton_cuda._runs_on.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not triton_cuda._runs_on(torch.device("cpu"))
    triton_cuda._runs_on.cache_clear()


def test_the_backend_of_cuda_tensors():
    assert choose._fastest("cuda") is TritonField
    assert choose._fastest("mps") is TensorField


def test_by_name_on_the_cpu():
    with pytest.raises(ValueError, match=r"'triton' runs on NVIDIA GPUs, and the tensor is"):
        RankSEG(backend="triton")(torch.rand(1, 3, 4))


@pytest.mark.parametrize("trouble", ["missing", "broken"])
def test_without_triton_plain_torch_decides(trouble, monkeypatch):
    """A missing Triton is a choice and silent; a broken one is said."""
    error = {"missing": ModuleNotFoundError, "broken": ImportError}[trouble]

    def fail(name):
        raise error("no libcuda")

    monkeypatch.setattr(choose, "import_module", fail)
    choose._fastest.cache_clear()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert choose._fastest("cuda") is TensorField
    choose._fastest.cache_clear()
    assert [warning.category for warning in said] == [RuntimeWarning] * (trouble == "broken")
