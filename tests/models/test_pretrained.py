"""Pretrained models: a module handed in, and the messages for what is missing."""

import importlib
import types

import pytest
import torch
from torch import nn

from thalweg.errors import InputError
from thalweg.models import pool
from thalweg.models.pretrained import Pretrained


class Fake(nn.Module):
    """Has the interface of a Hugging Face encoder."""

    def __init__(self):
        super().__init__()
        self.config = types.SimpleNamespace(hidden_size=3)
        self.embedding = nn.Embedding(10, 3)

    def forward(self, input_ids, attention_mask=None):
        assert attention_mask is None or attention_mask.dtype == torch.int64
        return types.SimpleNamespace(last_hidden_state=self.embedding(input_ids))


TOKENS = torch.tensor([[1, 2, 0], [3, 4, 5]])
MASK = torch.tensor([[True, True, False], [True, True, True]])


def test_hidden_states_come_from_the_model():
    fake = Fake()
    model = Pretrained(fake)
    assert model.width == 3
    torch.testing.assert_close(model(TOKENS), fake.embedding(TOKENS))
    pooled = Pretrained(fake, pooling=pool.mean)(TOKENS, MASK)
    torch.testing.assert_close(pooled[0], fake.embedding.weight[1:3].mean(0))


def test_its_parameters_can_be_trained():
    model = Pretrained(Fake(), pooling=pool.mean)
    model(TOKENS, MASK).sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is not None] == ["model.embedding.weight"]


def test_a_missing_folder_is_told(tmp_path):
    with pytest.raises(InputError, match="nowhere: expected a folder with a pretrained model"):
        Pretrained(tmp_path / "nowhere")


def test_a_missing_package_is_told_with_its_extra(tmp_path, monkeypatch):
    def refuse(name):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(InputError, match=r"pip install 'thalweg\[hub\]'"):
        Pretrained(tmp_path)


def test_a_folder_is_loaded_without_network(tmp_path, monkeypatch):
    calls = []

    def from_pretrained(folder, **options):
        calls.append((folder, options))
        return Fake()

    library = types.SimpleNamespace(AutoModel=types.SimpleNamespace(from_pretrained=from_pretrained))
    monkeypatch.setattr(importlib, "import_module", lambda name: library)
    assert Pretrained(tmp_path).width == 3
    assert calls == [(tmp_path, {"local_files_only": True, "use_safetensors": True})]
