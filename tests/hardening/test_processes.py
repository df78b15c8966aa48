"""Processes that are forked, spawned or interrupted."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

import pytest
from hardening.programs import QUESTIONS, ROOT, run

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="forks, or sends SIGINT")


@POSIX
def test_a_fork_after_everything_was_used():
    """The parent has compiled code, our threads and torch's; the child has none of the threads."""
    program = """
    import os, warnings
    torch.set_num_threads(2)
    image = probs(shape=(1, 4, 300, 301))
    expected = answers(image)
    torch.rand(500, 500) @ torch.rand(500, 500)  # torch's own threads
    warnings.simplefilter("ignore")  # Python's, about forks of processes with threads
    for _ in range(5):
        child = os.fork()
        if child == 0:
            torch.set_num_threads(1)  # torch's own threads survive no fork, ours are made anew
            first = same(answers(image), expected)
            os._exit(0 if first and torch.equal(RankSEG()(image), expected[0]) else 1)
        print(os.waitpid(child, 0)[1], end="")
    print(same(answers(image), expected))
    """
    assert run(program) == "00000True\n"


@POSIX
def test_our_threads_in_a_fork():
    """Compiled passes use threads of ours, which a child makes for itself."""
    program = """
    import os, threading, warnings
    torch.set_num_threads(2)
    image = probs(shape=(1, 4, 600, 601))
    expected = RankSEG(output_mode="multilabel")(image)
    warnings.simplefilter("ignore")
    child = os.fork()
    if child == 0:
        found = RankSEG(output_mode="multilabel")(image)
        torch.set_num_threads(1)  # those of torch itself survive no fork: comparing would wait
        made = any(thread.name.startswith("rankseg") for thread in threading.enumerate())
        os._exit(0 if made and torch.equal(found, expected) else 1)
    print(os.waitpid(child, 0)[1])
    """
    assert run(program) == "0\n"


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_pools_of_processes(method, tmp_path):
    """Settings and results travel; every worker decides the same."""
    module = tmp_path / "at_work.py"
    module.write_text(QUESTIONS + "\ndef work(job):\n    return job[0](probs(job[1]))\n")
    program = f"""
    import multiprocessing, sys, warnings
    sys.path.insert(0, {str(tmp_path)!r})
    import at_work
    if __name__ == "__main__":
        torch.set_num_threads(1)
        jobs = [(RankSEG(metric), seed) for metric in ("dice", "iou") for seed in range(3)]
        expected = [decide(probs(seed)) for decide, seed in jobs]
        warnings.simplefilter("ignore")
        with multiprocessing.get_context({method!r}).Pool(2) as pool:
            print(same(pool.map(at_work.work, jobs), expected))
    """
    if method == "fork" and sys.platform == "win32":
        pytest.skip("forks")
    assert run(program, PYTHONPATH=str(tmp_path)) == "True\n"


INTERRUPTED = """
import signal
torch.set_num_threads(2)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
image = probs(shape=(1, 4, 200, 201))
calls = [
    lambda: RankSEG(solver="exact", pruning_prob=0.0)(image),
    lambda: RankSEG(solver="TRNA", pruning_prob=0.0)(image),
    lambda: RankSEG(solver="coupled", pruning_prob=0.0)(image),
    lambda: RankSEG("iou", assignment="ascent", backend="torch").solve(image),
    lambda: expected_score(image, image.argmax(1)),
    lambda: RankSEG().decide([image[..., :90, :], image[..., 90:, :]]),
]
expected = answers(image)
print("ready", flush=True)
for call in calls:
    try:
        print("again", flush=True)
        while True:
            call()
    except KeyboardInterrupt:
        assert same(answers(image), expected)
        print("stopped", flush=True)
"""


@POSIX
def test_interrupts_in_every_kind_of_search():
    """Ctrl-C in the middle: the process goes on, and its next results are right."""
    command = [sys.executable, "-c", QUESTIONS + INTERRUPTED]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        hung = threading.Timer(240, process.kill)  # a line that never comes is an empty one
        hung.start()
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        for pause in (0.2, 0.11, 0.3, 0.15, 0.25, 0.1):
            assert process.stdout.readline() == "again\n"  # from here on it is caught
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(pause)
            process.send_signal(signal.SIGINT)
            assert process.stdout.readline() == "stopped\n"
        assert process.wait(60) == 0
        hung.cancel()
