"""What every test starts from: a fixed seed, and one thread a process so that times stay sane and sums are the same."""

import gc
import itertools
import os
import time

# For processes that tests start, too: with two workers, a second thread in each only waits for the others.
os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"

import pytest
import torch
from hypothesis import settings

# What is imported and collected stays: the garbage collector would look through a million objects again and again.
gc.disable()

# The networks of the tests are so small that a second thread only adds waiting.
torch.set_num_threads(1)

# Limits of time count the process's own seconds: a level that fits into them does so on a loaded machine, too.
time.perf_counter = time.process_time

# No test's file has to survive a power cut, and a disk takes milliseconds for each of the thousands that are saved.
# A descriptor that could not be synchronized is an error all the same.
os.fsync = os.fstat

# A loaded machine is no failure, and every run of the suite tries the same examples.
settings.register_profile("thalweg", deadline=None, derandomize=True, database=None)
settings.load_profile("thalweg")


def pytest_collection_modifyitems(items):
    """Files with slow tests come first: at the end, one of two processes would wait for them."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish():
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def _fixed_seed():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def _caches(tmp_path_factory):
    return tmp_path_factory.mktemp("caches"), itertools.count()


@pytest.fixture(autouse=True)
def _own_cache(_caches, monkeypatch):
    """What a test keeps for other runs is its own; no folder is made where nothing is kept, which most tests do not."""
    folder, numbers = _caches
    monkeypatch.setenv("THALWEG_CACHE", str(folder / str(next(numbers))))


@pytest.fixture
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
