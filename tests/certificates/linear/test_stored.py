"""Large matrices are read from a file block by block, with the same products, and memory holds only a block."""

import re
from pathlib import Path

import pytest
import torch

from thalweg.batch import Batch
from thalweg.certificates.levels import certify_objective
from thalweg.certificates.linear import last_layer, stored
from thalweg.certificates.linear.matrices import Features
from thalweg.certificates.linear.stored import Stored, blocks
from thalweg.errors import InputError
from thalweg.heads.softmax import Softmax
from thalweg.objective import Objective


def resident():
    """Return how many bytes of files memory holds for this process."""
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("there is no /proc")
    return 1024 * int(re.findall(r"RssFile:\s+(\d+)", status.read_text())[0])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_products_are_those_of_the_matrix_in_memory(dtype, monkeypatch):
    monkeypatch.setattr(stored, "BLOCK", 60)
    x, matrix = torch.randn(101, 7, dtype=torch.float64), Stored(101, 7)
    matrix.rows.copy_(x)
    features, plain = Features(matrix), Features(x)
    right, back, weights = (torch.randn(*size, dtype=dtype) for size in ((7, 3), (101, 3), (101,)))
    close = 1e-4 if dtype == torch.float32 else 1e-13
    for left, wanted in (
        (features.times(right), plain.times(right)),
        (features.adjoint(back), plain.adjoint(back)),
        (features.square_sums(weights), plain.square_sums(weights)),
    ):
        torch.testing.assert_close(left, wanted, rtol=close, atol=close)
    parts = ((part, back[part].double()) for part in blocks(101, 20))
    torch.testing.assert_close(features.adjoint_of_parts(parts), plain.adjoint(back.double()))
    torch.testing.assert_close(features.row_norms(), x.norm(dim=1))
    assert torch.equal(torch.as_tensor(features.arrays()["X"]), x)


def test_memory_holds_a_block():
    matrix = Stored(40_000, 256)  # 82 MB
    before = resident()
    for part in matrix.blocks():
        matrix.rows[part] = 1.0
    features = Features(matrix)
    assert resident() - before < 30e6
    assert features.times(torch.ones(256, 1, dtype=torch.float64)).sum() == matrix.rows.numel()
    features.square_sums(torch.ones(40_000))  # in float32
    assert resident() - before < 30e6
    assert matrix.rows.sum() == matrix.rows.numel()
    assert resident() - before > 60e6


def test_a_number_that_is_not_finite_is_refused():
    matrix = Stored(10, 2)
    matrix.rows[9, 1] = torch.nan
    with pytest.raises(ValueError, match="NaN or infinity"):
        Features(matrix)


def test_a_disk_without_room_leaves_the_head_out(monkeypatch):
    monkeypatch.setattr(stored.shutil, "disk_usage", lambda folder: stored.shutil._ntuple_diskusage(10, 10, 0))
    with pytest.raises(
        InputError,
        match=r"^0\.8 GB cannot be stored in the folder of temporary files \(TMPDIR\): No space left on device",
    ):
        Stored(1000, 100_000)
    monkeypatch.setattr(last_layer, "LEAST_BYTES", 0)
    found = certify_objective(objective([20]), seconds=5.0)
    assert "too large for memory. 0.0 GB cannot be stored" in found.left_out["head"]


@pytest.mark.parametrize("sizes", [[40], [3, 9, 25, 3], [1, 30, 60]])
def test_the_level_of_stored_features_is_that_of_features_in_memory(sizes, monkeypatch):
    levels = []
    for least in (2**28, 0):
        monkeypatch.setattr(last_layer, "LEAST_BYTES", least)
        monkeypatch.setattr(stored, "BLOCK", 50)
        found = certify_objective(objective(sizes), seconds=20.0)
        levels.append(next(level for level in found.levels if level.name == "head"))
    one, other = levels
    assert other.bound == pytest.approx(one.bound, rel=1e-8)
    assert other.reached == pytest.approx(one.reached, rel=1e-8)
    assert one.relative_gap > 1e-3


def objective(sizes):
    """Return one of several batches, whose rows are more or fewer than those of the first."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(5, 6), torch.nn.Tanh())
    data = [Batch({"input": torch.randn(size, 5)}, torch.arange(size) % 3) for size in sizes]
    return Objective(model, Softmax(6, 3), data, l2=1e-2)
