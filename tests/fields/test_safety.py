"""The compiled passes under threads, forks, interrupts and read-only folders."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

import rankseg
from rankseg import RankSEG
from rankseg.fields import threads

SHAPE = (1, 6, 200, 201)


def probs(seed=0):
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed)).mul(3).softmax(1)


@pytest.fixture(autouse=True)
def _two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_eight_threads_at_once():
    decide = RankSEG()
    images = [probs(seed) for seed in range(8)]
    expected = [decide(image) for image in images]
    together = threading.Barrier(8)

    def work(index):
        torch.set_num_threads(2)
        together.wait()
        return all(torch.equal(decide(images[index]), expected[index]) for _ in range(20))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))


def test_pools_within_pools():
    """Workers that decide wait for helpers of their own; there must be no circle."""
    decide = RankSEG("iou", "multilabel")
    image, expected = probs(), decide(probs())

    def inner(_):
        return torch.equal(decide(image), expected)

    def outer(_):
        with ThreadPoolExecutor(3) as pool:
            return all(pool.map(inner, range(6)))

    with ThreadPoolExecutor(3) as pool:
        assert all(pool.map(outer, range(6)))


def test_threads_are_as_many_as_torch_is_set_to_use(monkeypatch):
    seen = set()
    work = threads.run

    def watched(piece, pieces):
        def note(number):
            seen.add(threading.get_ident())
            piece(number)

        work(note, pieces)

    monkeypatch.setattr("rankseg.fields.numba_cpu.run", watched)
    torch.set_num_threads(1)
    RankSEG()(probs())
    assert seen == {threading.get_ident()}
    torch.set_num_threads(3)
    for _ in range(20):
        RankSEG()(probs())
    assert 2 <= len(seen) <= 3


class Images(Dataset):
    """Decides in the worker, as post-processing in a data loader does."""

    decide = RankSEG()

    def __init__(self):
        self.images = [probs(seed) for seed in range(6)]  # torch's own threads survive no fork

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        torch.set_num_threads(2)  # loaders set 1
        return self.decide(self.images[index])[0]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_fork_while_another_thread_decides():
    """No lock may be held while a mask is decided: the child would wait for it for ever."""
    decide, image = RankSEG(), probs()
    expected, stop = decide(image), threading.Event()

    def keep_deciding():
        while not stop.is_set():
            decide(image)

    busy = threading.Thread(target=keep_deciding)
    busy.start()
    try:
        for _ in range(20):
            child = os.fork()
            if child == 0:
                torch.set_num_threads(1)
                os._exit(0 if np.array_equal(decide(image).numpy(), expected.numpy()) else 1)
            assert _exit_status(child) == 0
    finally:
        stop.set()
        busy.join()


def _exit_status(child, patience=20.0):
    """Exit status of a process; None if it hangs."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


@pytest.mark.parametrize("start", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_data_loader_workers(start):
    images = Images()
    expected = [images[index] for index in range(len(images))]  # our threads run before the fork
    loader = DataLoader(images, batch_size=None, num_workers=2, multiprocessing_context=start)
    for found, label in zip(loader, expected, strict=True):
        assert torch.equal(found, label)


INTERRUPTED = """
import signal, torch
from rankseg import RankSEG

torch.set_num_threads(2)
decide = RankSEG("dice", "multilabel", pruning_prob=0.0)
image = torch.rand(1, 8, 1500, 1500)
expected = decide(image)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
print("ready", flush=True)
stopped = 0
while stopped < 3:
    try:
        while True:
            decide(image)
    except KeyboardInterrupt:
        stopped += 1
        assert torch.equal(decide(image), expected)
        print("stopped", flush=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_interrupt_leaves_everything_usable():
    command = [sys.executable, "-c", INTERRUPTED]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        for _ in range(3):
            time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            assert process.stdout.readline() == "stopped\n"
        assert process.wait(60) == 0


def in_a_helper(then):
    """Two pieces at a time, one of them in the caller's thread; the other does something more."""
    torch.set_num_threads(2)
    caller, both = threading.get_ident(), threading.Barrier(2)

    def work(piece):
        both.wait(60)
        if threading.get_ident() != caller:
            then(piece)

    threads.run(work, 2)


def test_the_caller_waits_for_its_helpers():
    done = []
    in_a_helper(lambda piece: (time.sleep(0.2), done.append(piece)))
    assert len(done) == 1


def test_an_error_in_a_helper_reaches_the_caller():
    with pytest.raises(ZeroDivisionError):
        in_a_helper(lambda piece: piece / 0)
    done = []
    threads.run(done.append, 10)
    assert sorted(done) == list(range(10))


def test_at_exit_the_caller_does_it_alone():
    code = """
    import atexit, torch
    from rankseg import RankSEG

    torch.set_num_threads(2)
    image = torch.rand(1, 6, 300, 300)
    RankSEG()(image)
    atexit.register(lambda: print(int(RankSEG()(image).shape[-1])))
    """
    found = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    assert found.stdout == "300\n"


def a_copy_that_cannot_keep_compiled_code(folder):
    """The package with a file where its cache would be; works for root too, whom modes stop not."""
    package = folder / "rankseg"
    shutil.copytree(
        Path(rankseg.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__")
    )
    (package / "fields" / "__pycache__").touch()
    return package


DECIDE = """
import time, torch, rankseg

image = torch.arange(24.0).reshape(1, 2, 12) / 24
start = time.perf_counter()
print(rankseg.__file__)
print(rankseg.RankSEG(output_mode="multilabel")(image).sum().item())
print(time.perf_counter() - start)
"""


def run_copy(folder, **environment):
    clean = {k: v for k, v in os.environ.items() if k != "NUMBA_CACHE_DIR"}
    command = [sys.executable, "-c", DECIDE]
    found = subprocess.run(
        command, cwd=folder, env=clean | environment, capture_output=True, text=True, check=True
    )
    file, count, seconds = found.stdout.splitlines()
    assert Path(file).parent.parent == folder
    assert count == str(RankSEG(output_mode="multilabel")(image_of_copy()).sum().item())
    return float(seconds), found.stderr


def image_of_copy():
    return torch.arange(24.0).reshape(1, 2, 12) / 24


def test_installed_where_nothing_can_be_written(tmp_path):
    """Compiled code goes to the user's cache folder; a second process finds it there."""
    a_copy_that_cannot_keep_compiled_code(tmp_path)
    home = tmp_path / "home"
    home.mkdir()
    first, said = run_copy(tmp_path, HOME=str(home), XDG_CACHE_HOME=str(home))
    assert not said
    assert list(home.rglob("numba_kernels*.nbi"))
    second, said = run_copy(tmp_path, HOME=str(home), XDG_CACHE_HOME=str(home))
    assert not said
    assert second < first / 3  # measured: 4 s and 0.3 s


def test_no_folder_at_all_is_said_once(tmp_path):
    a_copy_that_cannot_keep_compiled_code(tmp_path)
    nowhere = str(tmp_path / "rankseg" / "fields" / "__pycache__")
    _, said = run_copy(tmp_path, HOME=nowhere, XDG_CACHE_HOME=nowhere)
    assert said.count("let NUMBA_CACHE_DIR name a folder that can be written") == 1


@pytest.mark.parametrize("trouble", ["missing", "broken"])
def test_without_numba_plain_torch_decides(tmp_path, trouble):
    """A missing numba is a choice and silent; a broken one is said."""
    (tmp_path / "numba").mkdir()
    reason = "raise ModuleNotFoundError('no numba', name='numba')"
    if trouble == "broken":
        reason = "raise ImportError('Numba needs NumPy 9')"
    (tmp_path / "numba" / "__init__.py").write_text(reason)
    code = """
    import torch
    from rankseg import RankSEG
    from rankseg.fields import field_for

    image = torch.rand(1, 3, 8)
    print(RankSEG()(image).shape, type(field_for(image)).__name__)
    try:
        RankSEG(backend="numba")(image)
    except ImportError as error:
        print(error)
    """
    found = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    shape, said = found.stdout.splitlines()
    assert shape == "torch.Size([1, 8]) TensorField"
    assert said.startswith("backend='numba' needs numba, which cannot be imported (")
    assert ("plain torch decides, more slowly" in found.stderr) == (trouble == "broken")


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_no_pass_leaves_its_arrays():
    """Numba checks no index by itself: the tests of the passes once more, with its checks."""
    here = Path(__file__).parent
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-x"]
    files = [str(here / "test_numba.py"), str(here / "test_activation.py")]
    found = subprocess.run(
        [*command, *files],
        env=os.environ | {"NUMBA_BOUNDSCHECK": "1"},
        cwd=here.parent.parent,
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stdout[-3000:]


@pytest.mark.slow
@pytest.mark.skipif(
    not hasattr(os, "sysconf") or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") < 18e9,
    reason="takes 16 GB",
)
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("output_mode", ["multilabel", "multiclass"])
def test_more_elements_than_31_bits_count(output_mode):
    """2^31 + 8 values: known pixels at both ends and in the middle, nothing else is selected."""
    total = 2**31 + 8
    classes = 1 if output_mode == "multilabel" else 2
    image = torch.zeros(1, classes, total // classes, dtype=torch.float16)
    places = torch.tensor([0, 7, image.shape[2] // 2, image.shape[2] - 1])
    image[:, classes - 1, places] = 0.875
    if classes == 2:
        image[:, 0] = 1 - image[:, 1]
    found = RankSEG("dice", output_mode).solve(image)
    assert found.volume[0, -1] == len(places)
    chosen = found.prediction.flatten().nonzero().flatten()
    assert torch.equal(chosen, places)
    assert found.expected_score[0, -1].item() == pytest.approx(2 * 3.5 / (4 + 3.5 + 1), rel=1e-12)
