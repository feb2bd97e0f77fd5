"""Fine-tuning a pretrained model: what a run begins with, keeps, and goes on from."""

import dataclasses
import shutil

import pytest
import torch
from safetensors.torch import load_file
from small_models import KINDS, save_small

import thalweg
from thalweg.errors import InputError
from thalweg.exports import export_onnx
from thalweg.training.folder import build
from thalweg.training.recipe.complete import complete
from thalweg.training.recipe.recipe import Options
from thalweg.training.session.optimizer import known_defaults


def train(data, out, **options):
    return thalweg.train(data, **{"out": out, "max_length": 32, "steps": 4, **options})


def weights_of(run):
    return load_file(run.folder / "model.safetensors")


@pytest.mark.parametrize(
    ("kind", "options"),
    [("bert", {}), ("bert", {"pooling": "cls"}), ("distilbert", {}), ("roberta", {}), ("gpt2", {}), ("llama", {}),
     ("t5", {}), ("marian", {}), ("bert", {"lora": 2}), ("gpt2", {"lora": 2}), ("t5", {"lora": 2})],
)  # fmt: skip
def test_every_kind_is_fine_tuned_and_read_back_without_its_folder(models, reviews, tmp_path, kind, options):
    name = models(kind)
    copied = tmp_path / "model"
    shutil.copytree(name.removeprefix("hf:"), copied)
    run = train(reviews, tmp_path / "runs", model=f"hf:{copied}", **options)
    assert run.recipe.training.optimizer == "adamw"
    expected = run.predict(["a good film", ""])
    shutil.rmtree(copied)
    assert thalweg.load(run.folder).predict(["a good film", ""]) == expected


def test_training_begins_with_the_weights_of_the_folder(models, reviews, tmp_path):
    run = train(reviews, tmp_path, model=models("bert"), lr=1e-30, steps=1, optimizer="sgd", weight_decay=0.0)
    own = load_file(f"{models('bert').removeprefix('hf:')}/model.safetensors")
    found = weights_of(run)
    assert {name for name in own if "pooler" not in name} == {
        name.removeprefix("model.model.") for name in found if name.startswith("model.")
    }
    for name, tensor in own.items():
        if "pooler" not in name:
            torch.testing.assert_close(found[f"model.model.{name}"], tensor, rtol=0, atol=1e-28)


def test_low_rank_matrices_leave_the_rest_alone_and_the_last_layers_what_is_below(models, reviews, tmp_path):
    own = load_file(f"{models('bert').removeprefix('hf:')}/model.safetensors")
    tuned = weights_of(train(reviews, tmp_path, model=models("bert"), lora=2, name="lora"))
    kept = {name.replace(".base_layer.", "."): tensor for name, tensor in tuned.items() if "lora_" not in name}
    assert all(torch.equal(kept[f"model.model.{name}"], own[name]) for name in own if "pooler" not in name)
    assert any(bool(tensor.any()) for name, tensor in tuned.items() if "lora_B" in name)
    last = weights_of(train(reviews, tmp_path, model=models("bert"), last_layers=1, name="last"))
    moved = {name for name in own if "pooler" not in name and not torch.equal(last[f"model.model.{name}"], own[name])}
    assert moved
    assert all(name.startswith("encoder.layer.1.") for name in moved)


@pytest.mark.parametrize(
    "options", [{}, {"lora": 2}, {"last_layers": 1}, {"unfreeze_every": 0.4}, {"layer_decay": 0.7}]
)
def test_an_interrupted_run_ends_with_the_same_bits(models, reviews, tmp_path, options):
    whole = train(
        reviews, tmp_path / "whole", model=models("bert"), steps=8, batch_size=16, evaluate_every=3, **options
    )
    given = {"model": models("bert"), "steps": 8, "batch_size": 16, "evaluate_every": 3, **options}
    seen = []

    def stop(entry):
        seen.append(entry)
        if entry["event"] == "step" and entry["step"] == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(reviews, tmp_path / "parts", watch=stop, **given)
    resumed = train(reviews, tmp_path / "parts", **given)
    assert resumed.folder.name == whole.folder.name
    assert (resumed.folder / "model.safetensors").read_bytes() == (whole.folder / "model.safetensors").read_bytes()


def test_weights_that_changed_since_the_recipe_was_made_are_refused(reviews, tmp_path):
    folder = save_small("bert", tmp_path / "model")
    run = train(reviews, tmp_path / "runs", model=f"hf:{folder}")
    assert run.recipe.model.model.startswith(f"hf:{folder}#")
    save_small("bert", folder, seed=1)
    with pytest.raises(InputError, match="has changed: its files have the checksum"):
        thalweg.train(str(run.folder / "recipe.toml"), out=tmp_path / "again")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"max_length": 65}, "--max-length 65: the pretrained model reads 64 tokens at most"),
        ({"max_length": 2}, "--max-length 2: the pretrained model puts 2 tokens around a text"),
        ({"last_layers": 3}, "--last-layers 3: the pretrained model has 2 layers"),
        ({"model": "hf:nowhere"}, "hf:nowhere: there is no such folder"),
        ({"tokenizer": "bpe"}, "the tokenizer is the pretrained model's own"),
        ({"task": "language"}, "needs a pretrained model with a decoder, such as GPT-2; got a bert model"),
        ({"task": "forecast"}, "Task 'forecast' takes no pretrained model"),
        ({"lora": 2, "last_layers": 1}, "--lora trains low-rank matrices alone"),
        ({"pooling": "most"}, "There is no pooling 'most'"),
        ({"init": "he"}, "would replace weights of the pretrained model"),
        ({"layer_decay": 1.5}, r"--layer-decay must lie in \(0, 1\]; got 1.5"),
        ({"layer_decay": 0.5, "optimizer": "newton-cg"}, "--layer-decay is for optimizers that make one step"),
        ({"shard": True}, "--shard is for the models of this package"),
        ({"model": "bag", "freeze": True}, "--freeze is for a pretrained model"),
        ({"model": "lstm", "tokenizer": "pretrained"}, "is the one of a pretrained model"),
    ],
)
def test_what_cannot_be_is_told(models, reviews, tmp_path, options, match):
    with pytest.raises(InputError, match=match):
        train(reviews, tmp_path, **{"model": models("bert"), **options})
    assert not list(tmp_path.glob("*/recipe.toml"))


def test_pairs_are_read_in_one_sequence_or_each_by_itself(models, scored, tmp_path):
    options = {"task": "score", "text_column": "first", "other_column": "second", "label_column": "number"}
    cross = train(scored, tmp_path, model=models("bert"), name="cross", **options)
    assert cross.task.is_crossed
    pair = ("a fine film 3", "dull script")
    one, other = (run.predict([pair])[0]["score"] for run in (cross, thalweg.load(cross.folder)))
    assert one == other
    bi = train(scored, tmp_path, model=models("roberta"), name="bi", pairs="bi", **options)
    assert not bi.task.is_crossed
    assert bi.task.shape().config is not None
    single = train(scored, tmp_path, model=models("bert"), name="one", task="score", text_column="first",
                   label_column="number", other_column="none")  # fmt: skip
    assert isinstance(single.predict(["a fine film"])[0]["score"], float)


def test_a_pretrained_model_has_no_onnx_graph(models, reviews, tmp_path):
    run = train(reviews, tmp_path, model=models("bert"))
    with pytest.raises(InputError, match="is of a pretrained model, which has no ONNX graph here"):
        export_onnx(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_defaults_follow_from_the_model(models, tmp_path):
    given = Options(task="classify", source="docstrings", model=models("bert"))
    recipe = complete(given, known_defaults(given))
    assert (recipe.data.max_length, recipe.data.tokenizer, recipe.data.normalize) == (64, "pretrained", ())
    assert (recipe.training.lr, recipe.training.batch_size, recipe.training.epochs) == (2.4e-3, 32, 3.0)
    low = given.with_(lora=4)
    assert complete(low, known_defaults(low)).training.lr == pytest.approx(10 * recipe.training.lr)


@pytest.mark.parametrize("kind", KINDS)
def test_the_rate_fits_the_width_however_a_configuration_names_it(models, kind):
    assert known_defaults(Options(task="classify", source="docstrings", model=models(kind)))["lr"] == 2.4e-3


def test_a_stored_run_of_another_network_is_refused(models, reviews, tmp_path):
    run = train(reviews, tmp_path, model=models("bert"))
    other = run.recipe.with_(last_layers=1)
    shape = dataclasses.replace(run.task.shape(), config={**run.task.shape().config, "hidden_size": 32})
    assert shape.config["hidden_size"] == 32
    model, head = build.build_networks(other, run.task, fresh=False)
    with pytest.raises(InputError, match="is from another model"):
        build.put_weights(model, head, {"model.model.other": torch.zeros(1)}, "x")


def test_fine_tuning_begins_with_an_output_layer_that_is_fitted(models, reviews, scored, tmp_path):
    said = []
    run = train(reviews, tmp_path, model=models("bert"), lr=1e-30, steps=1, optimizer="sgd", weight_decay=0.0,
                name="start", say=said.append)  # fmt: skip
    assert any("The output layer begins at its optimum for" in sentence for sentence in said)
    assert load_file(run.folder / "start.safetensors").keys() == weights_of(run).keys()
    frozen = thalweg.train(reviews, out=tmp_path, max_length=32, model=models("bert"), freeze=True, name="frozen")
    texts = [row["text"] for row in reviews]
    wanted = [row["label"] for row in reviews]
    right = [
        sum(answer["label"] == label for answer, label in zip(one.predict(texts), wanted, strict=True)) / len(texts)
        for one in (run, frozen)
    ]
    assert right[0] > 0.5
    assert abs(right[0] - right[1]) < 0.25
    shutil.rmtree(run.folder.parent / "frozen")


def test_a_text_task_that_has_no_fitted_layer_begins_all_the_same(models, reviews, tmp_path):
    rows = [{"text": row["text"], "label": [row["label"], *["both"] * (i % 5 == 0)]} for i, row in enumerate(reviews)]
    run = train(rows, tmp_path, model=models("bert"), task="classify")
    assert run.task.multilabel
    assert set(run.predict(["a good film"])[0]["labels"]) <= {"yes", "no", "both"}
