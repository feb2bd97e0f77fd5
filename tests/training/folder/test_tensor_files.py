"""Files of tensors: shards of several processes, whole and damaged ones."""

import pytest
import safetensors.torch
import torch
from thirds import write_thirds

from thalweg.errors import InputError
from thalweg.storage.ledger import Ledger
from thalweg.training.folder import checkpoint
from thalweg.training.folder.tensor_files import SHARD, is_shard


def test_all_rows_are_read_by_one_process(tmp_path):
    saved, rows = write_thirds(tmp_path)
    assert torch.equal(checkpoint.load(saved)["x"], rows)
    assert [name for name in sorted(Ledger(saved).sums) if is_shard(name)] == [SHARD.format(k, 3) for k in (1, 2, 3)]


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (lambda path: path.unlink(), "shard-00002-of-00003.safetensors is missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "shard-00002-of-00003.safetensors is damaged"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"?"), "shard-00002-of-00003.safetensors is damaged"),
    ],
)
def test_a_damaged_shard_is_named(tmp_path, harm, told):
    saved, _ = write_thirds(tmp_path)
    harm(saved / SHARD.format(2, 3))
    with pytest.raises(InputError, match=told):
        checkpoint.load(saved)


def test_shards_that_do_not_belong_together_are_refused(tmp_path):
    saved, rows = write_thirds(tmp_path)
    Ledger(saved).write({SHARD.format(2, 3): safetensors.torch.save({"x": rows[2:3].contiguous()})})
    with pytest.raises(InputError, match="the shards have other rows of 'x' than it needs"):
        checkpoint.load(saved)
    Ledger(saved).write({}, removed=[SHARD.format(3, 3)])
    with pytest.raises(InputError, match="its shards are shard-00001-of-00003"):
        checkpoint.load(saved)
