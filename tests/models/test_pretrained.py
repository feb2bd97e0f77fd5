"""Pretrained models: a module handed in, and the messages for what is missing."""

import importlib
import types

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_models import save_small
from torch import nn

from thalweg.data.text.pretrained_folder import PretrainedFolder
from thalweg.errors import InputError
from thalweg.models import pool
from thalweg.models.pretrained import Pretrained, dropouts, network_of, read_weights


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


@pytest.mark.parametrize("kind", ["bert", "distilbert", "roberta", "gpt2", "llama"])
def test_a_folder_gives_the_states_that_its_library_gives(tmp_path, kind):
    from transformers import AutoModel

    folder = save_small(kind, tmp_path)
    tokens = torch.tensor([[2, 70, 80, 3], [2, 90, 3, 0]])
    mask = tokens != 0
    expected = AutoModel.from_pretrained(folder)(input_ids=tokens, attention_mask=mask.long()).last_hidden_state
    model = Pretrained(folder).eval()
    torch.testing.assert_close(model(tokens, mask), expected.masked_fill(~mask.unsqueeze(-1), 0.0))
    network = network_of(PretrainedFolder.open(str(folder)).config).eval()
    read_weights(network, folder)
    torch.testing.assert_close(Pretrained(network, pooling=pool.first)(tokens, mask), expected[:, 0])


def test_dropout_takes_the_place_of_probabilities_above_zero(tmp_path):
    config = {"model_type": "bert", "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.0}
    assert dropouts(config, 0.3) == {"hidden_dropout_prob": 0.3}
    assert dropouts(config, None) == {}


@pytest.mark.parametrize(
    ("config", "match"),
    [
        ({"model_type": "nonsense"}, "cannot build a 'nonsense' model"),
        ({}, "cannot build a None model"),
        ({"model_type": "bert", "hidden_size": -3}, "cannot build a 'bert' model"),
    ],
)
def test_a_configuration_that_cannot_be_built_is_told(config, match):
    with pytest.raises(InputError, match=match):
        network_of(config)


def test_weights_that_lack_a_tensor_or_have_other_sizes_are_refused(tmp_path):
    folder = save_small("bert", tmp_path)
    config = PretrainedFolder.open(str(folder)).config
    weights = load_file(folder / "model.safetensors")
    name = "encoder.layer.1.output.dense.weight"
    save_file({key: tensor for key, tensor in weights.items() if key != name}, folder / "model.safetensors")
    with pytest.raises(InputError, match=f"its weights lack '{name}'"):
        read_weights(network_of(config), folder)
    save_file(weights | {name: torch.full((16, 32), torch.nan)}, folder / "model.safetensors")
    with pytest.raises(InputError, match="NaN or infinite"):
        read_weights(network_of(config), folder)
    (folder / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(InputError, match="cannot be read"):
        read_weights(network_of(config), folder)
