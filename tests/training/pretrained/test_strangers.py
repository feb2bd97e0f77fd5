"""Folders of pretrained models from a stranger, or damaged: a sentence, before memory is taken or anything is run."""

import json
import os
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_models import KINDS

import thalweg
from thalweg.data.text.pretrained_folder import PretrainedFolder, checksum, weight_files
from thalweg.errors import InputError
from thalweg.models.pretrained import network_of

CONFIGS = {
    "a width": ({"hidden_size": 2_000_000}, "is larger than its weights"),
    "positions": ({"max_position_embeddings": 10**12}, "is larger than its weights"),
    "layers": ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000; expected 0 to 10,000"),
    "no layers": ({"num_hidden_layers": -1}, "num_hidden_layers is -1"),
    "fewer layers": ({"num_hidden_layers": 1}, "config.json has no layer for 'encoder.layer.1"),
    "more names": ({"vocab_size": 590}, "its weights have other sizes than config.json says"),
    "text": ({"hidden_size": "16"}, "cannot build a 'bert' model"),
    "no heads": ({"num_attention_heads": 0}, "cannot build a 'bert' model"),
    "kinds": ({"type_vocab_size": "two"}, "type_vocab_size is 'two'"),
    "numbers": ({"architectures": [1]}, "architectures are no names"),
    "quantized": ({"quantization_config": {"bits": 4}}, "has quantized weights"),
    "escapes": ({"model_type": "be\x1b[31mrt"}, r"cannot build a 'be\\x1b\[31mrt' model"),
}


@pytest.fixture
def copied(models, tmp_path):
    """Return a function that copies the folder of a kind, with changes of its configuration."""

    def copy(kind="bert", **changes):
        folder = shutil.copytree(models(kind).removeprefix("hf:"), tmp_path / "model")
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **changes}))
        return folder

    return copy


def train(folder, rows, tmp_path, **options):
    return thalweg.train(rows, out=tmp_path / "runs", model=f"hf:{folder}", fast=True, **options)


@pytest.mark.parametrize("freeze", [True, False])
@pytest.mark.parametrize("case", CONFIGS)
def test_a_configuration_that_is_no_network_of_the_weights_is_refused(copied, reviews, tmp_path, case, freeze):
    changes, match = CONFIGS[case]
    with pytest.raises(InputError, match=match):
        train(copied(**changes), reviews, tmp_path, freeze=freeze)


@pytest.mark.parametrize("kind", ["gpt2", "distilbert", "llama"])
def test_layers_that_a_configuration_leaves_out_are_told(copied, reviews, tmp_path, kind):
    name = next(name for name in KINDS[kind][1] if name.endswith(("layers", "n_layer")))
    with pytest.raises(InputError, match="has no layer for"):
        train(copied(kind, **{name: 1}), reviews, tmp_path)


def test_code_and_kernels_that_a_configuration_names_are_left_out(copied):
    folder = copied(
        attn_implementation="kernels-community/flash-attn",
        auto_map={"AutoModel": "evil.Model"},
        num_labels=10**9,
        part={"_attn_implementation": "kernels-community/flash-attn", "size": 1},
    )
    config = PretrainedFolder.open(str(folder)).config
    assert not {"attn_implementation", "auto_map", "num_labels"} & config.keys()
    assert config["part"] == {"size": 1}
    network_of(config)


def test_nesting_without_end_is_told(copied):
    folder = copied()
    (folder / "config.json").write_text('{"model_type": "bert", "a": ' + '{"a":' * 900 + "1" + "}" * 901)
    with pytest.raises(InputError, match=r"is nested too deeply|cannot be read"):
        PretrainedFolder.open(str(folder))


def test_an_adapter_is_told(copied):
    folder = copied()
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "elsewhere"}')
    with pytest.raises(InputError, match=r"has an adapter .* merge it into the model"):
        PretrainedFolder.open(str(folder))


def test_weights_as_small_whole_numbers_are_told(copied, reviews, tmp_path):
    folder = copied()
    weights = {name: (100 * tensor).to(torch.int8) for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(InputError, match=r"has quantized weights .* in I8"):
        train(folder, reviews, tmp_path)


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe", b"{", b"[]"])
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"])
def test_a_damaged_file_is_named(copied, reviews, tmp_path, name, damage):
    folder = copied()
    (folder / name).write_bytes(damage)
    with pytest.raises(InputError, match=str(folder / name)):
        train(folder, reviews, tmp_path)


def test_a_vocabulary_that_fills_memory_is_told(copied):
    folder = copied()
    saved = json.loads((folder / "tokenizer.json").read_text())
    saved["model"]["vocab"]["far"] = 2**32 - 2
    (folder / "tokenizer.json").write_text(json.dumps(saved))
    with pytest.raises(InputError, match="it has 4,294,967,295 entries; expected at most"):
        PretrainedFolder.open(str(folder))


def sharded(folder, second):
    """Divide the weights of a folder among two files, and return the folder."""
    weights = load_file(folder / "model.safetensors")
    names = sorted(weights)
    first = "model-00001-of-00002.safetensors"
    files = {name: first if place % 2 else second for place, name in enumerate(names)}
    for file in (first, second):
        part = {name: weights[name] for name in names if files[name] == file}
        save_file(part, folder / file, metadata={"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))
    os.remove(folder / "model.safetensors")
    return folder


def test_weights_in_several_files_are_those_of_one(copied, models, reviews, tmp_path):
    folder = sharded(copied(), "model-00002-of-00002.safetensors")
    assert len(weight_files(folder)) == 2
    run = train(folder, reviews, tmp_path, name="several", freeze=True)
    other = train(models("bert").removeprefix("hf:"), reviews, tmp_path, name="one", freeze=True)
    assert run.predict(["a fine film"]) == other.predict(["a fine film"])


@pytest.mark.parametrize("second", ["evil.bin", "../elsewhere.safetensors"])
def test_an_index_that_names_other_files_is_refused(copied, second):
    with pytest.raises(InputError, match="expected a file in safetensors beside it"):
        PretrainedFolder.open(str(sharded(copied(), second)))


@pytest.mark.parametrize("name", ["tokenizer_config.json", "1_Pooling/config.json", "config.json", "tokenizer.json"])
def test_the_checksum_is_of_every_file_that_is_read(copied, name):
    folder = copied()
    before = checksum(folder)
    (folder / "1_Pooling").mkdir()
    (folder / name).write_text('{"pooling_mode_cls_token": true}')
    assert checksum(folder) != before
