"""A checkpoint that three processes have written, each its rows of one tensor."""

import json

import safetensors.torch
import torch

from thalweg.storage.ledger import Ledger
from thalweg.training.folder import checkpoint
from thalweg.training.folder.tensor_files import SHARD


def write_thirds(folder):
    """Write a checkpoint that three processes have made of a tensor with four rows."""
    saved = checkpoint.save(folder, 7, {"x": torch.zeros(1)})
    rows = torch.arange(8.0).view(4, 2)
    tree = {"!": "dict", "items": [["x", {"!": "tensor", "name": "x", "shape": [4, 2]}]]}
    files = {checkpoint.TREE: json.dumps(tree).encode(), checkpoint.TENSORS: safetensors.torch.save({})}
    for number, part in enumerate((rows[:2], rows[2:], rows[4:])):
        files[SHARD.format(number + 1, 3)] = safetensors.torch.save({"x": part.contiguous()})
    Ledger(saved).write(files)
    return saved, rows
