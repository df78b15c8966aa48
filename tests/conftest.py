"""Settings shared by all tests."""

import os

import interpreted_numba
import pytest
import torch
from hypothesis import settings

# Deadlines measure a shared machine, not the code. In CI the examples are the same every time.
settings.register_profile("rankseg", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("rankseg")

if "PYTEST_XDIST_WORKER" in os.environ:
    # One thread a worker: threads of several workers that wait for each other cost minutes.
    os.environ["OMP_NUM_THREADS"] = "1"  # for the processes that tests start
    torch.set_num_threads(1)

if interpreted_numba.INTERPRETED:
    interpreted_numba.interpret()


def pytest_configure(config: pytest.Config) -> None:
    if interpreted_numba.INTERPRETED:  # numpy says what processors do without a word
        config.addinivalue_line("filterwarnings", "ignore:.*encountered in:RuntimeWarning")
    if torch.__version__ < "2.6":  # warns, exporting, of what it does itself
        config.addinivalue_line("filterwarnings", "ignore:At pre-dispatch tracing:UserWarning")
        config.addinivalue_line("filterwarnings", "ignore:You are using `torch.load`:FutureWarning")
