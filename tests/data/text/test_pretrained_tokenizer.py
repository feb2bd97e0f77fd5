"""A pretrained model's own tokenizer and folder, compared with the library that made them."""

import json
import shutil

import numpy as np
import pytest
from small_models import TEXTS, save_small, small_tokenizer

from thalweg.data.text import pretrained_folder
from thalweg.data.text.pretrained_folder import PretrainedFolder, checksum, located, with_checksum
from thalweg.data.text.pretrained_tokenizer import PretrainedTokenizer
from thalweg.errors import InputError

KINDS = ["bert", "gpt2", "t5"]
ODD = ["", " ", "naïve café", "\ud83d", "a\nb", "x" * 300, "日本語", "<s> </s> <pad>", *TEXTS]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {kind: save_small(kind, tmp_path_factory.mktemp(kind)) for kind in (*KINDS, "roberta", "llama", "marian")}


@pytest.mark.parametrize("kind", KINDS)
def test_ids_are_those_of_the_library(folders, kind):
    from transformers import PreTrainedTokenizerFast

    theirs = PreTrainedTokenizerFast(tokenizer_file=str(folders[kind] / "tokenizer.json"))
    own = PretrainedFolder.open(str(folders[kind])).tokenizer
    texts = [text for text in ODD if text and text != "\ud83d"]
    values, lengths = own.encode_many(texts)
    assert values.tolist() == [token for text in texts for token in theirs(text)["input_ids"]]
    assert lengths.tolist() == [len(theirs(text)["input_ids"]) for text in texts]
    assert own.decode(own.encode("naïve café")) == "naïve café"


def test_a_text_without_ids_gets_the_end_and_bare_ids_have_no_frame(folders):
    gpt2, bert = (PretrainedFolder.open(str(folders[kind])).tokenizer for kind in ("gpt2", "bert"))
    assert gpt2.encode("") == [gpt2.end]
    assert bert.encode("") == [2, 3] == [*bert.frame[0], *bert.frame[1]]
    assert bert.bare().encode("a") == bert.encode("a")[1:-1]
    assert bert.bare().encode("") == []
    assert bert.encode("a\ud83d") == bert.encode("a?")


def test_pairs_are_cut_like_the_library_cuts_them(folders):
    from transformers import PreTrainedTokenizerFast

    theirs = PreTrainedTokenizerFast(tokenizer_file=str(folders["bert"] / "tokenizer.json"))
    own = PretrainedFolder.open(str(folders["bert"])).tokenizer
    first, second = list(TEXTS), list(reversed(TEXTS))
    found = own.encode_pairs(first, second, 12)
    options = {"truncation": "longest_first", "max_length": 12, "return_token_type_ids": True}
    expected = [theirs(a, b, **options) for a, b in zip(first, second, strict=True)]
    assert found.values.tolist() == [token for one in expected for token in one["input_ids"]]
    assert found.kinds.tolist() == [kind for one in expected for kind in one["token_type_ids"]]
    assert found.num_cut == 4
    assert own.encode("a b c")  # the tokenizer itself still cuts nothing
    assert len(own.encode(TEXTS[0] * 5)) > 12


def test_words_have_at_least_one_id_each(folders):
    own = PretrainedFolder.open(str(folders["bert"])).tokenizer
    words = own.encode_words(["the", "", "film"])
    assert [len(ids) >= 1 for ids in words] == [True] * 3
    assert own.decode(np.concatenate([words[0], words[2]])) == "the film"


@pytest.mark.parametrize(
    ("kind", "positions", "is_decoder", "is_translator", "pooling"),
    [("bert", 64, False, False, "mean"), ("roberta", 65, False, False, "mean"), ("gpt2", 64, True, False, "last"),
     ("llama", 64, True, False, "last"), ("t5", None, False, True, "mean"), ("marian", 64, False, True, "mean")],
)  # fmt: skip
def test_a_folder_tells_what_its_model_is(folders, tmp_path, kind, positions, is_decoder, is_translator, pooling):
    found = PretrainedFolder.open(f"hf:{folders[kind]}")
    assert (found.num_positions, found.is_decoder, found.is_translator) == (positions, is_decoder, is_translator)
    assert found.pooling == pooling
    assert found.tokenizer.vocabulary_size == 300
    for name, content in found.files().items():
        (tmp_path / name).write_bytes(content)
    again = PretrainedFolder.load(tmp_path)
    assert (again.config, again.pooling) == (found.config, found.pooling)
    assert again.tokenizer.encode(TEXTS[0]) == found.tokenizer.encode(TEXTS[0])
    assert again.tokenizer.specials == found.tokenizer.specials


def test_the_pooling_that_a_sentence_encoder_was_made_with_is_taken(folders, tmp_path):
    shutil.copytree(folders["bert"], tmp_path / "m")
    (tmp_path / "m" / "1_Pooling").mkdir()
    (tmp_path / "m" / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    assert PretrainedFolder.open(str(tmp_path / "m")).pooling == "cls"


def test_a_checksum_names_the_weights(folders, tmp_path):
    shutil.copytree(folders["bert"], tmp_path / "m")
    name = with_checksum(f"hf:{tmp_path / 'm'}")
    assert name == f"hf:{tmp_path / 'm'}#{checksum(tmp_path / 'm')}"
    assert with_checksum(name) == name
    (tmp_path / "m" / "config.json").write_text((tmp_path / "m" / "config.json").read_text() + " ")
    with pytest.raises(InputError, match="has changed: its files have the checksum"):
        with_checksum(name)


def test_a_name_is_looked_up_in_the_hubs_cache(folders, monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    found = {"org/small": str(folders["bert"] / "config.json")}
    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda name, file: found.get(name))
    assert located("hf:org/small") == folders["bert"]
    with pytest.raises(InputError, match=r"hf:org/other: there is no such folder, and no such model"):
        located("hf:org/other")


def _break(folder, kind):
    if kind == "pickle":
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    elif kind == "no weights":
        (folder / "model.safetensors").unlink()
    elif kind == "no config":
        (folder / "config.json").unlink()
    elif kind == "no json":
        (folder / "config.json").write_text("{")
    elif kind == "a list":
        (folder / "config.json").write_text("[]")
    elif kind == "no type":
        (folder / "config.json").write_text("{}")
    elif kind == "other tokenizer":
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 50}))
    elif kind == "damaged tokenizer":
        (folder / "tokenizer.json").write_text('{"model": 3}')
    elif kind == "no tokenizer":
        (folder / "tokenizer.json").unlink()
        (folder / "tokenizer_config.json").unlink()


@pytest.mark.parametrize(
    ("kind", "match"),
    [
        ("pickle", "weights in pytorch_model.bin alone, a format that can run code"),
        ("no weights", "has no weights: expected a file model.safetensors"),
        ("no config", "not the folder of a pretrained model: it has no config.json"),
        ("no json", "config.json cannot be read"),
        ("a list", "is not an object of JSON"),
        ("no type", "names no model_type"),
        ("other tokenizer", "has 300 entries, and the model has vectors for 50"),
        ("damaged tokenizer", "is not a tokenizer of the `tokenizers` library"),
        ("no tokenizer", "has no tokenizer.json, and none can be made of its other files"),
    ],
)
def test_what_is_no_pretrained_model_is_told(folders, tmp_path, kind, match):
    shutil.copytree(folders["bert"], tmp_path / "m")
    _break(tmp_path / "m", kind)
    with pytest.raises(InputError, match=match):
        PretrainedFolder.open(str(tmp_path / "m"))


def test_a_place_that_is_no_folder_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    for name, match in (("hf:", "needs a folder"), (f"hf:{tmp_path / 'file'}", "got a file"), ("hf:x y", "no such")):
        with pytest.raises(InputError, match=match):
            located(name)


def test_code_that_a_configuration_names_is_left_out(folders, tmp_path):
    shutil.copytree(folders["bert"], tmp_path / "m")
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    named = config | {"auto_map": {"AutoModel": "evil--code.Model"}}
    (tmp_path / "m" / "config.json").write_text(json.dumps(named))
    assert "auto_map" not in PretrainedFolder.open(str(tmp_path / "m")).config


def test_a_tokenizer_without_an_entry_for_a_special_id_is_refused(tmp_path):
    small_tokenizer("bert").save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(InputError, match="has no entry for eos"):
        PretrainedTokenizer.load(tmp_path / "tokenizer.json", {"eos": 10**6})
    with pytest.raises(InputError, match="is missing"):
        PretrainedTokenizer.load(tmp_path / "nowhere.json", {})
    assert pretrained_folder.is_pretrained("hf:x")
