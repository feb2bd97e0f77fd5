"""Training that starts from another run's weights: what is taken by name, what is new, and what is refused."""

import json
import math
import random
import shutil
import zlib

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from thalweg.data.arrays.ragged import Ragged
from thalweg.data.containers.opening import open_any
from thalweg.data.text.features import BagFeatures
from thalweg.data.text.tokenizer import Tokenizer
from thalweg.errors import InputError
from thalweg.status import Status
from thalweg.tasks.growing import Growth, grown, names_from, tokenizer_from
from thalweg.training.folder import build
from thalweg.training.folder.again import read_again
from thalweg.training.folder.run import Run
from thalweg.training.folder.starting import carried
from thalweg.training.recipe.recipe import Options
from thalweg.training.session.api import train
from thalweg.training.session.finish import finish
from thalweg.training.session.loop import train as train_loop
from thalweg.training.session.prepare import Request, prepare

OLD = ["river", "stone", "light", "water", "field", "cloud"]
NEW = ["zebra", "quartz", "violin"]


def rows_of(task, words, labels, count=40):
    """Rows of a task whose words and labels are these."""
    random_words = random.Random(1)
    rows = []
    for number in range(count):
        text = " ".join([*random_words.choices(words, k=4), words[number % len(words)]])
        label = labels[number % len(labels)]
        rows.append({
            "classify": {"text": text, "label": label},
            "score": {"text": text, "number": str(number % 7 + 0.5 * len(labels))},
            "tag": {"tokens": (split := text.split()), "tags": [labels[sum(map(ord, w)) % len(labels)] for w in split]},
            "language": {"text": text},
            "translate": {"source": text, "target": text.upper()},
        }[task])  # fmt: skip
    return rows


def series(start, count=80):
    return {"level": [start + math.sin(number) for number in range(count)]}


SMALL = {"width": 4, "hidden": 4, "max_length": 8, "seed": 3, "dropout": 0.0}
CASES = {
    "classify lstm": ("classify", {"model": "lstm", **SMALL, "steps": 3}),
    "classify bag": ("classify", {"model": "bag", "width": 4, "steps": 3, "optimizer": "adamw"}),
    "classify proved": ("classify", {"model": "linear", "l2": 0.01}),
    "score lstm": ("score", {"model": "lstm", **SMALL, "steps": 3}),
    "score proved": ("score", {"model": "linear", "l2": 0.01}),
    "tag lstm": ("tag", {"model": "lstm", **SMALL, "steps": 3, "head": "crf"}),
    "tag linear": ("tag", {"model": "linear", "steps": 3}),
    "language transformer": (
        "language",
        {"model": "transformer", **SMALL, "layers": 1, "heads": 2, "steps": 3, "tokenizer": "word"},
    ),
    "translate lstm": ("translate", {"model": "lstm", **SMALL, "steps": 3, "tokenizer": "word"}),
}


def write(rows, folder):
    text = "".join(json.dumps(row) + "\n" for row in rows)
    folder.mkdir(exist_ok=True, parents=True)
    path = folder / f"rows-{zlib.crc32(text.encode())}.jsonl"
    path.write_text(text)
    return str(path)


def begun(rows, out, **options):
    """A session before its first step, and what was said."""
    said = []
    session = prepare(Request(Options(source=write(rows, out), **options), out), said.append)
    return session, said


def trained(name, out, **more):
    task, options = CASES[name]
    rows = write(rows_of(task, OLD, ["a", "b"]), out)
    return train(rows, **{"task": task, "out": out, "name": "old", **options, **more})


def outputs(task, model, head, examples):
    batch = task.batch(examples, np.arange(len(examples)))
    dtype = next(model.parameters()).dtype
    model.eval()
    head.eval()
    with torch.no_grad():
        return head(model(**batch.to(torch.device("cpu"), dtype).inputs))


@pytest.mark.parametrize("name", CASES)
def test_the_first_weights_are_the_old_ones_by_name(name, tmp_path):
    task, old = CASES[name][0], trained(name, tmp_path)
    changed = rows_of(task, [*NEW, *OLD], ["c", "b", "a"])
    session, said = begun(changed, tmp_path, start_from=str(old.folder), name="new")
    own, before = build.get_weights(session.model, session.head), load_file(old.folder / "model.safetensors")
    assert any(sentence.startswith(f"Starting from {old.folder}: ") and "; new: " in sentence for sentence in said)
    rows = {(one.old, one.new): torch.as_tensor(one.rows) for one in session.task.growth(old.task)}
    assert own.keys() == before.keys()
    grew = 0
    for key, tensor in own.items():
        picked = tensor
        for side, sizes in enumerate(zip(before[key].shape, tensor.shape, strict=True)):
            if sizes[0] != sizes[1]:
                picked, grew = picked.index_select(side, rows[sizes]), grew + 1
        assert picked.equal(before[key]), key
    assert grew
    if old.task.vocabulary is not None:
        words = [old.task.vocabulary.token(place) for place in range(4, old.task.vocabulary.vocabulary_size)]
        new = [session.task.vocabulary.token(place) for place in range(4, session.task.vocabulary.vocabulary_size)]
        assert new[: len(words)] == words
        assert set(new) & set(NEW)


@pytest.mark.parametrize("name", [name for name in CASES if not name.startswith("language")])
def test_old_texts_have_the_old_outputs_before_the_first_step(name, tmp_path):
    task, old = CASES[name][0], trained(name, tmp_path, **({"bigrams": 0} if "proved" in name else {}))
    labels = ["b", "a"] if task == "tag" else ["b", "a", "c"]  # a CRF has scores of pairs of tags among its outputs
    session, _ = begun(rows_of(task, [*OLD, *NEW], labels), tmp_path, start_from=str(old.folder), name="new")
    source = open_any(write(rows_of(task, OLD, ["a", "b"], 4), tmp_path))
    after = outputs(session.task, session.model, session.head, session.task.examples(source, old.data["columns"])[0])
    before = outputs(old.task, old.model, old.head, old.task.examples(source, old.data["columns"])[0])
    assert after.shape[-1] >= before.shape[-1]
    torch.testing.assert_close(after[..., : before.shape[-1]], before, atol=1e-5, rtol=1e-4)


def test_a_run_that_starts_from_another_stands_alone_and_its_recipe_repeats_it(tmp_path):
    old = trained("classify lstm", tmp_path)
    rows = write(rows_of("classify", [*NEW, *OLD], ["c", "b"]), tmp_path)
    one = train(rows, start_from=old.folder, out=tmp_path, name="one", steps=4)
    assert one.task.labels == ("a", "b", "c")  # "a" is known, though the new data lack it
    assert one.recipe.run.start_from.startswith(f"{old.folder}#")
    assert one.recipe.model == old.recipe.model
    again = train(one.folder / "recipe.toml", out=tmp_path / "again")
    weights, repeated = (load_file(run.folder / "model.safetensors") for run in (one, again))
    assert all(weights[key].equal(repeated[key]) for key in weights)
    rows = write(rows_of("classify", ["lamp", *OLD], ["d", "a"]), tmp_path)
    two = train(rows, start_from=one.folder, out=tmp_path, name="two")
    assert two.task.labels == ("a", "b", "c", "d")
    assert two.task.vocabulary.id_of("lamp") == one.task.vocabulary.vocabulary_size
    shutil.rmtree(old.folder)
    shutil.rmtree(one.folder)
    (answer,) = Run(two.folder).predict(["river lamp"])
    assert answer["label"] in two.task.labels
    task, prepared = read_again(two)
    assert task.vocabulary.entries == two.task.vocabulary.entries
    assert len(prepared.train) == two.data["num_train"]
    with pytest.raises(InputError, match=r"There is no run folder .*one"):
        train(two.folder / "recipe.toml", out=tmp_path / "gone")


@pytest.mark.parametrize("at_step", [0, 3])
def test_an_interrupted_run_goes_on_without_the_old_one(at_step, tmp_path):
    old = trained("classify lstm", tmp_path)
    rows = write(rows_of("classify", [*NEW, *OLD], ["c", "b"]), tmp_path)
    undisturbed = train(rows, start_from=old.folder, out=tmp_path, name="whole", steps=6)
    given = Options(source=rows, start_from=str(old.folder), name="cut", steps=6, checkpoint_every=1e-9)
    with prepare(Request(given, tmp_path), print) as session:
        for entry in train_loop(session) if at_step else ():
            if entry.get("step") == at_step + 1:
                break
        finish(session, Status.INTERRUPTED)
    shutil.rmtree(old.folder)
    going_on = train(resume=session.run.folder)
    weights, own = (load_file(run.folder / "model.safetensors") for run in (undisturbed, going_on))
    assert all(weights[key].equal(own[key]) for key in weights)


def test_a_proved_training_starts_at_the_old_optimum_and_is_proved_again(tmp_path):
    old = trained("classify proved", tmp_path)
    rows = write(rows_of("classify", OLD, ["a", "b"], 41), tmp_path)
    anew = train(rows, out=tmp_path, name="anew", model="linear", l2=0.01)
    warm = train(rows, start_from=old.folder, out=tmp_path, name="warm")
    assert warm.status is anew.status is Status.PROVED
    assert warm.recipe.training.l2 == 0.01
    assert warm.result["steps"] <= anew.result["steps"]
    gap = warm.recipe.training.certify
    bounds = [run.result["certificate"] for run in (warm, anew)]
    assert all(bound["reached"] for bound in bounds)
    assert gap == 1e-4


def test_numbers_keep_their_scaling(tmp_path):
    old = trained("score lstm", tmp_path)
    session, said = begun(
        [row | {"number": str(100 + number)} for number, row in enumerate(rows_of("score", OLD, ["a"]))],
        tmp_path, start_from=str(old.folder), name="new",
    )  # fmt: skip
    assert session.task.scaling.to_dict() == old.task.scaling.to_dict()
    assert session.task.span[0] == old.task.span[0]
    assert session.task.span[1] > 100.0
    assert any("Numbers are scaled as before" in sentence for sentence in said)


def test_a_forecast_keeps_its_scaling_and_an_autoregression_is_refused(tmp_path):
    options = {"task": "forecast", "out": tmp_path, "steps": 3, "lags": 5, "scaling": "standard", "model": "mlp"}
    old = train(series(0.0), name="old", width=4, hidden=4, **options)
    new = train(series(50.0), start_from=old.folder, out=tmp_path, name="new")
    assert new.task.reader.scaling.to_dict() == old.task.reader.scaling.to_dict()
    with pytest.raises(InputError, match="forecasts 1 column at a time, and there are 2 here"):
        train(series(0.0) | {"other": series(3.0)["level"]}, columns=("level", "other"), start_from=old.folder)
    linear = train(series(0.0), task="forecast", model="ar", out=tmp_path, name="ar")
    with pytest.raises(InputError, match="--model ar chooses its equation"):
        train(series(1.0), start_from=linear.folder, out=tmp_path)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"model": "gru"}, r"was trained with --model lstm \(got gru\), and its weights fit nothing else"),
        ({"width": 8, "layers": 2}, r"--width 4 \(got 8\) and --layers 1 \(got 2\).*leave them out"),
        ({"tokenizer": "char"}, r"--tokenizer word \(got char\)"),
        ({"task": "language"}, r"--task classify \(got language\)"),
        ({"select": "model"}, "--select model chooses among models"),
        ({"name": "old", "overwrite": True}, "can't start from itself"),
    ],
)
def test_what_contradicts_the_weights_is_refused_by_name(given, says, tmp_path):
    old = trained("classify lstm", tmp_path)
    before = sorted(path.name for path in tmp_path.iterdir())
    rows = rows_of("classify", OLD, ["a", "b"])
    with pytest.raises(InputError, match=says):
        train(rows, start_from=old.folder, out=tmp_path, **given)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_changed_or_damaged_run_is_refused(tmp_path):
    old = trained("classify lstm", tmp_path)
    rows = rows_of("classify", OLD, ["a", "b"])
    with pytest.raises(InputError, match="has changed: its weights have the checksum"):
        train(rows, start_from=f"{old.folder}#{'0' * 16}", out=tmp_path)
    with open(old.folder / "labels.json", "a") as file:
        file.write(" ")
    with pytest.raises(InputError, match=r"labels\.json is damaged"):
        train(rows, start_from=old.folder, out=tmp_path)


def test_columns_of_the_old_run_are_looked_for_and_others_found(tmp_path):
    old = trained("classify lstm", tmp_path)
    rows = [{"label": f"note {row['text']} {place}", "text": row["text"], "kind": row["label"]}
            for place, row in enumerate(rows_of("classify", OLD, ["a", "b"]))]  # fmt: skip
    renamed = [{"review": row["text"], "kind": row["kind"]} for row in rows]
    run = train(renamed, start_from=old.folder, out=tmp_path, name="renamed")
    assert run.data["columns"]["label"] == "kind"


def test_another_optimizer_has_its_own_defaults(tmp_path):
    old = trained("classify lstm", tmp_path, optimizer="adamw", lr=0.02)
    rows = rows_of("classify", OLD, ["a", "b"])
    same = train(rows, start_from=old.folder, out=tmp_path, name="same")
    other = train(rows, start_from=old.folder, out=tmp_path, name="other", optimizer="sgd")
    assert (same.recipe.training.optimizer, same.recipe.training.lr) == ("adamw", 0.02)
    assert other.recipe.training.lr != 0.02


def test_several_labels_and_one_are_not_mixed(tmp_path):
    old = trained("classify lstm", tmp_path)
    rows = [row | {"label": [row["label"], "x"]} for row in rows_of("classify", OLD, ["a", "b"])]
    with pytest.raises(InputError, match="has one label a text, and the new data have several"):
        train(rows, start_from=old.folder, out=tmp_path)


def test_bigrams_keep_their_weights_and_get_their_places():
    first = BagFeatures.fit(Ragged.from_lists([[4, 5], [4, 5], [5, 4]]), vocabulary_size=6)
    second = BagFeatures.fit(Ragged.from_lists([[4, 5], [6, 4], [6, 4], [4, 6], [4, 6]]), vocabulary_size=7)
    joined = second.begun_from(first, 100)
    rows = joined.rows_of(first)
    assert [joined.parts(row) for row in rows[4:].tolist()] == [first.parts(row) for row in range(4, 7)]
    assert joined.idf[rows].tolist() == first.idf.tolist()
    assert {joined.parts(row) for row in range(7, joined.num_features)} == {(4, 5), (4, 6), (6, 4)}
    assert second.begun_from(first, 1).num_features == 8  # no room for new bigrams
    again = second.begun_from(joined, 100)
    assert again.bigrams.tolist() == joined.bigrams.tolist()
    assert again.idf.tolist() == joined.idf.tolist()


def test_vocabularies_grow_up_to_their_limit():
    old = Tokenizer.train(["a b"], "word")
    assert tokenizer_from(None, lambda: old, 10) is old
    assert tokenizer_from(old, lambda: Tokenizer.train(["c c d b"], "word"), 7).entries == ["a", "b", "c"]
    assert tokenizer_from(old, lambda: Tokenizer.train(["c"], "word"), 6) is old
    char = Tokenizer.train(["a"], "char")
    assert tokenizer_from(char, lambda: Tokenizer.train(["b"], "char"), 900) is char
    assert names_from(("b",), ("a", "b")) == ("b", "a")


def test_tensors_are_carried_along_every_side():
    growth = [Growth("feature", 2, 3, np.array([0, 2])), grown("label", 1, 2)]
    own = {"model.table": torch.zeros(3, 2), "head.same": torch.zeros(2)}
    found, num_whole = carried(own, {"model.table": torch.ones(2, 1), "head.same": torch.ones(2)}, growth, "runs/a")
    assert found["model.table"].tolist() == [[1.0, 0.0], [0.0, 0.0], [1.0, 0.0]]
    assert (num_whole, found["head.same"].tolist()) == (1, [1.0, 1.0])
    with pytest.raises(InputError, match=r"have the sizes \[5\], and this run needs \[2\]"):
        carried({"head.same": torch.zeros(2)}, {"head.same": torch.ones(5)}, growth, "runs/a")
    with pytest.raises(InputError, match=r"weights of another network \('head.other'\)"):
        carried({"head.same": torch.zeros(2)}, {"head.other": torch.ones(2)}, growth, "runs/a")
