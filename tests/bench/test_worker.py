"""The measuring process: maps, answers, failures, memory. Real processes."""

import sys
from contextlib import closing

import pytest
import torch

from rankseg.bench import memory
from rankseg.bench.cases import Contender
from rankseg.bench.process import Worker, WorkerError
from rankseg.bench.worker import Bench, logits

RANKSEG = {"name": "RankSEG", "input": "probs", "options": {"metric": "dice"}}
NO_OPTION = {**RANKSEG, "options": {"metric": "nothing"}}
COPY = {"name": "copy", "input": "probs"}
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture(scope="module")
def worker():
    with closing(Worker(sys.executable)) as one:
        yield one


def make(worker, shape=(1, 2, 16, 16), threads=1):
    maps = {"shape": shape, "maps": "noise", "threads": threads, "device": "cpu"}
    worker.ask("make", **maps, inputs=["probs"])


@pytest.mark.parametrize("shape", [(2, 3, 40), (1, 5, 40, 33), (1, 3, 20, 24, 17)])
@pytest.mark.parametrize("maps", ["noise", "smooth"])
def test_maps_are_the_same_on_every_run(shape, maps):
    found = logits(shape, maps)
    assert found.shape == shape
    assert found.dtype == torch.float32
    assert found.isfinite().all()
    assert torch.equal(found, logits(shape, maps))


def test_smooth_maps_have_regions_and_noise_has_none():
    def alike(maps):  # share of neighbours with the same label; ten classes by chance: 0.1
        labels = logits((1, 10, 128, 128), maps).argmax(1)
        return (labels[..., 1:] == labels[..., :-1]).float().mean().item()

    assert alike("noise") < 0.12
    assert alike("smooth") > 0.8


@pytest.mark.parametrize(("classes", "total"), [(4, 1.0), (1, None)])
def test_probabilities_come_from_the_logits(classes, total):
    bench = Bench()
    bench.make([1, classes, 8, 8], "noise", 1, "cpu", ["probs", "logits"])
    probs, scores = bench.inputs["probs"], bench.inputs["logits"]
    if total:
        torch.testing.assert_close(probs.sum(1), torch.full((1, 8, 8), total))
        torch.testing.assert_close(probs, scores.softmax(1))
    else:
        torch.testing.assert_close(probs, scores.sigmoid())


def test_time_is_of_one_call(worker):
    make(worker)
    one, many = (worker.ask("time", call=RANKSEG, number=n) for n in (1, 50))
    assert 0 < many < 0.1
    assert one > 0


def test_this_package_is_measured_and_no_other(tmp_path, monkeypatch):
    (tmp_path / "rankseg").mkdir()
    (tmp_path / "rankseg" / "__init__.py").write_text("raise ImportError('the wrong one')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with closing(Worker(sys.executable)) as worker:
        make(worker)
        assert worker.ask("time", call=RANKSEG, number=1) > 0
    with closing(Worker(sys.executable, package=str(tmp_path))) as worker:
        make(worker)
        with pytest.raises(WorkerError, match="the wrong one"):
            worker.ask("time", call=RANKSEG, number=1)


def test_a_failed_request_says_why_and_the_next_one_works(worker):
    make(worker)
    with pytest.raises(WorkerError, match=r"^ValueError: metric must be one of"):
        worker.ask("time", call=NO_OPTION, number=1)
    assert worker.ask("time", call=RANKSEG, number=1) > 0


def test_what_libraries_print_does_not_disturb(tmp_path):
    (tmp_path / "rankseg.py").write_text(
        "class RankSEG:\n    predict = len\n"
        "    def __init__(self, **o): print('hello', flush=True)\n"
    )
    with closing(Worker(sys.executable, package=str(tmp_path))) as worker:
        make(worker)
        assert worker.ask("time", call=RANKSEG, number=1) > 0


def test_a_process_that_dies_leaves_its_last_words(tmp_path):
    (tmp_path / "rankseg.py").write_text("import os\nos.write(2, b'out of luck\\n')\nos._exit(3)")
    with closing(Worker(sys.executable, package=str(tmp_path))) as worker:
        make(worker)
        for _ in range(2):
            with pytest.raises(WorkerError, match="process ended: out of luck"):
                worker.ask("time", call=RANKSEG, number=1)


@pytest.mark.parametrize("call", [COPY, RANKSEG])
@linux
def test_the_result_is_counted_apart(call):
    found = memory_of(call, (1, 8, 512, 512))
    assert found.input == 4 * 8 * 512 * 512
    assert found.result == (found.input if call is COPY else 8 * 512 * 512)
    assert 0 <= found.share < 0.15  # what the project promises


@linux
def test_memory_beyond_the_result_is_seen(tmp_path):
    (tmp_path / "rankseg.py").write_text(
        "class RankSEG:\n    def __init__(self, **o): pass\n"
        "    def predict(self, x):\n        y = x + 1\n        return y + 1\n"
    )
    assert 0.9 < memory_of(RANKSEG, (1, 8, 512, 512), package=str(tmp_path)).share < 1.1


def memory_of(call, shape, **options):
    """Memory of one call in a new process."""
    one = Contender(call["name"], call, (call["name"],))
    maps = {"shape": shape, "maps": "noise", "threads": 1, "device": "cpu"}

    def start(environment):
        return Worker(sys.executable, environment=environment, **options)

    return memory.measure("case", one, start, **maps)


def test_memory_that_is_not_seen_is_not_reported():
    class Blind:
        def ask(self, do, **request):
            return {"peak": 10, "result": 100, "input": 100}

        def close(self):
            pass

    one = Contender("x", {"name": "x", "input": "probs"}, ("x",))
    with pytest.raises(WorkerError, match="does not tell"):
        memory.measure("case", one, lambda environment: Blind())


def test_where_memory_cannot_be_measured(monkeypatch):
    assert memory.why_not((1, 2, 64, 64), "cpu") == "too small for memory to be seen"
    monkeypatch.setattr(memory.os, "access", lambda *_: False)
    assert memory.why_not((1, 19, 512, 512), "cpu") == "memory is measured on Linux only"
    assert memory.why_not((1, 19, 512, 512), "cuda") is None
