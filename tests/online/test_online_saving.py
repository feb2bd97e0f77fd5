import gc
import io
import json
import math
import random
import shutil
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

from thalweg.data.files.incoming import open_stream
from thalweg.data.text.hashing import HashingOptions, TextHasher
from thalweg.errors import InputError
from thalweg.online.base import save_state
from thalweg.online.classifier import OnlineClassifier
from thalweg.online.learn import learn_online, load_online, source_rows
from thalweg.online.regressor import OnlineRegressor


def rows(num_rows: int, kind: str) -> list[dict[str, object]]:
    """Rows of texts, numbers and categories; new words, columns and classes come all the time."""
    rng = random.Random(0)
    made: list[dict[str, object]] = []
    for number in range(num_rows):
        label = rng.randrange(2 + number // 40)
        row: dict[str, object] = {
            "text": f"w{label} w{rng.randrange(30)} new{number}",
            "x": label + rng.gauss(0, 1),
            "city": f"c{rng.randrange(4)}",
            "note": "late text" if number > 150 and rng.random() < 0.5 else f"n{label}",
        }
        if number > 100:
            row["y"] = rng.gauss(100, 5)
        if number % 17 == 0:
            row["x"] = float("nan")
        row["label"] = (f"class {label}" if kind == "classify" else label * 2.5) if number % 13 else None
        made.append(row)
    return made


def make(kind: str) -> OnlineClassifier | OnlineRegressor:
    return OnlineClassifier(num_buckets=5000) if kind == "classify" else OnlineRegressor(num_buckets=5000)


def learn(model, some) -> None:
    for _ in learn_online(some, model, label_column="label"):
        pass


def saved_bytes(model, folder: Path) -> tuple[bytes, dict]:
    """The saved files, with the seconds (which no two runs share) left out."""
    model.progress.seconds = 0.0
    model.save(folder)
    newest = max(folder.glob("step-*"))
    return (newest / "state.safetensors").read_bytes(), json.loads((newest / "state.json").read_text())


@pytest.mark.parametrize(
    ("kind", "stops"), [("classify", (1, 120, 180)), ("classify", (64, 65, 200)), ("score", (1, 64, 65, 200))]
)
def test_restarted_run_is_bit_equal_to_one_without_break(kind: str, stops: tuple[int, ...], tmp_path: Path):
    stream = rows(300, kind)
    whole = make(kind)
    learn(whole, stream)
    broken = make(kind)
    for start, end in zip((0, *stops), (*stops, 300), strict=True):
        learn(broken, stream[start:end])
        broken.save(tmp_path / "model")
        broken = type(broken).load(tmp_path / "model")
    assert saved_bytes(whole, tmp_path / "a") == saved_bytes(broken, tmp_path / "b")
    for row in rows(20, kind):
        row["x"] = 1.0
        assert whole.predict(row) == broken.predict(row)


def test_model_is_saved_when_the_generator_is_closed_and_on_an_error(tmp_path: Path):
    def failing():
        yield from rows(30, "classify")
        raise OSError("the pipe broke")

    model = OnlineClassifier()
    with pytest.raises(OSError, match="the pipe broke"):
        list(learn_online(failing(), model, label_column="label", save_folder=tmp_path / "error"))
    assert OnlineClassifier.load(tmp_path / "error").progress.num_rows == 30

    records = learn_online(rows(30, "classify"), OnlineClassifier(), save_folder=tmp_path / "closed")
    while next(records).num_rows < 16:
        pass
    records.close()  # type: ignore[attr-defined]
    assert load_online(tmp_path / "closed").progress.num_rows == 16


def saved_rows(folder: Path) -> list[int]:
    """How many rows the newest model in a folder has learned."""
    try:
        return [load_online(folder).progress.num_rows]
    except InputError:  # none yet, or removed while it was read
        return []


def test_model_is_saved_as_it_goes(tmp_path: Path):
    seen = []

    def stream():
        for row in rows(10, "classify"):
            yield row
            while not (found := saved_rows(tmp_path)) or found == seen[-1:]:
                time.sleep(0.001)
            seen.extend(found)

    list(learn_online(stream(), OnlineClassifier(), save_folder=tmp_path, save_seconds=1e-9))
    assert seen == list(range(1, 11))
    assert len(list(tmp_path.glob("step-*"))) == 2
    assert not list(tmp_path.glob("**/*.pkl"))
    assert not list(tmp_path.glob(".tmp*"))


def test_progress_and_label_column_go_on_after_a_restart(tmp_path: Path):
    stream = rows(100, "classify")
    whole = list(learn_online(stream, OnlineClassifier(), label_column="label"))[-1]
    list(learn_online(stream[:50], OnlineClassifier(), label_column="label", save_folder=tmp_path))
    model = OnlineClassifier.load(tmp_path)
    assert model.label_column == "label"
    last = list(learn_online(stream[model.progress.num_rows :], model))[-1]
    for name in ("num_rows", "num_scored", "score", "loss", "score_since", "repeat_score", "num_rejected"):
        assert getattr(last, name) == getattr(whole, name)


def test_new_model_replaces_a_longer_one_in_the_same_folder(tmp_path: Path):
    old, new = OnlineClassifier(), OnlineClassifier()
    learn(old, rows(100, "classify"))
    learn(new, rows(5, "classify"))
    for model in (old, old, old, new):
        model.save(tmp_path)
    assert OnlineClassifier.load(tmp_path).progress.num_rows == 5


def test_odd_class_names_survive(tmp_path: Path):
    names = ["", "<script>", 'quote " back \\', "line\nbreak", "\u202e", "🏔", "\ud800", "null", "step-1"]
    model = OnlineClassifier()
    for number, name in enumerate(names[1:]):
        model.learn(f"w{number}", name)
    model.save(tmp_path)
    assert OnlineClassifier.load(tmp_path).classes == names[1:]


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("state.safetensors", "changed"),
        ("state.safetensors", "cut"),
        ("state.json", "changed"),
        ("state.json", "missing"),
        ("manifest.json", "empty"),
    ],
)
def test_damaged_file_is_refused(name: str, damage: str, tmp_path: Path):
    model = OnlineClassifier(num_buckets=100)
    learn(model, rows(20, "classify"))
    model.save(tmp_path)
    (path,) = tmp_path.glob(f"*/{name}")
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "changed":
        middle = len(data) // 2
        path.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
    else:
        path.write_bytes(data[: len(data) // 2] if damage == "cut" else b"")
    with pytest.raises(InputError, match="step-00000001"):
        OnlineClassifier.load(tmp_path)


def test_folder_without_model_and_model_of_another_kind_are_refused(tmp_path: Path):
    with pytest.raises(InputError, match="no saved online model"):
        OnlineClassifier.load(tmp_path / "nowhere")
    OnlineRegressor().save(tmp_path)
    with pytest.raises(InputError, match="is a regressor; expected a classifier"):
        OnlineClassifier.load(tmp_path)
    assert isinstance(load_online(tmp_path), OnlineRegressor)


def test_normalization_must_be_the_same(tmp_path: Path):
    OnlineClassifier(normalize=str.upper).save(tmp_path)
    with pytest.raises(InputError, match="its own normalization"):
        OnlineClassifier.load(tmp_path)
    assert OnlineClassifier.load(tmp_path, normalize=str.upper).num_features == 0


def test_saved_weights_are_plain_float32(tmp_path: Path):
    from safetensors.numpy import load_file

    model = OnlineClassifier(num_buckets=100)
    learn(model, rows(20, "classify"))
    model.save(tmp_path)
    tensors = load_file(next(tmp_path.glob("*/state.safetensors")))
    (weights,) = (tensor for name, tensor in tensors.items() if name.endswith("weights"))
    np.testing.assert_array_equal(weights, model._linear.table.arrays()["weights"])
    assert weights.dtype == np.float32


def test_what_was_learned_is_saved_while_no_row_comes(tmp_path: Path):
    def stream():
        yield from rows(10, "classify")
        while saved_rows(tmp_path) != [10]:  # for ever, if only the next row saved the ones before
            time.sleep(0.001)

    list(learn_online(stream(), OnlineClassifier(), label_column="label", save_folder=tmp_path, save_seconds=1e-9))
    assert saved_rows(tmp_path) == [10]


def test_a_failed_save_is_told_once_and_made_later(tmp_path: Path, monkeypatch):
    said, tried = [], []

    def failing(folder, state, keep):
        tried.append(keep)
        if len(tried) < 3:
            raise OSError(28, "No space left on device", str(folder))
        save_state(folder, state, keep)

    def stream():
        yield from rows(10, "classify")
        while saved_rows(tmp_path) != [10]:
            time.sleep(0.001)

    monkeypatch.setattr("thalweg.online.saving.save_state", failing)
    list(
        learn_online(
            stream(), OnlineClassifier(), label_column="label", save_folder=tmp_path, save_seconds=1e-9, say=said.append
        )
    )
    assert sum("can't be saved now ([Errno 28] No space left on device" in sentence for sentence in said) == 1


@pytest.mark.parametrize("stop", [63, 64, 65])
def test_a_save_between_two_rows_holds_the_score_since_the_last_doubling(stop: int, tmp_path: Path):
    stream = rows(100, "classify")
    whole = list(learn_online(stream, OnlineClassifier(), label_column="label"))[-1]

    def killed():
        yield from stream[:stop]
        while saved_rows(tmp_path) != [stop]:
            time.sleep(0.001)
        (tmp_path / "kept").mkdir()
        shutil.copytree(max(tmp_path.glob("step-*")), tmp_path / "kept" / "step-00000001")

    list(learn_online(killed(), OnlineClassifier(), label_column="label", save_folder=tmp_path, save_seconds=1e-9))
    last = list(learn_online(stream[stop:], OnlineClassifier.load(tmp_path / "kept")))[-1]
    assert (last.score_since, last.score, last.num_rows) == (whole.score_since, whole.score, 100)


ODD = {
    "many labels": lambda k: {"text": f"word {k % 9}", "label": f"label {k}"},
    "many columns": lambda k: {"text": f"word {k % 9}", f"column {k}": f"c{k}", "label": "ab"[k % 2]},
    "many words": lambda k: {"text": f"new{k} other{k} word", "user": f"u{k}", "label": "ab"[k % 2]},
    "no label": lambda k: {"text": f"new{k} word", f"column {k}": k},
}


@pytest.mark.parametrize("case", ODD)
def test_memory_stays_as_it_is_however_many_odd_rows_come(case, monkeypatch):
    monkeypatch.setitem(HashingOptions.__init__.__kwdefaults__, "max_columns", 10)
    monkeypatch.setattr("thalweg.online.roles._MAX_COLUMNS", 10)
    monkeypatch.setattr("thalweg.data.files.incoming._MAX_COLUMNS", 10)
    monkeypatch.setattr(TextHasher.__init__, "__defaults__", (str.lower, 50))
    content = io.BytesIO("".join(json.dumps(ODD[case](k)) + "\n" for k in range(1200)).encode())
    sizes = []

    def measured():
        for number, row in enumerate(source_rows(open_stream(content, "jsonl", skip_bad_rows=True))):
            yield row
            if number in (600, 900, 1199):
                gc.collect()
                sizes.append(tracemalloc.get_traced_memory()[0])

    tracemalloc.start()
    try:
        list(learn_online(measured(), OnlineClassifier(num_buckets=512, max_classes=4)))
    finally:
        tracemalloc.stop()
    assert max(sizes) <= 1.05 * min(sizes) + 30_000, sizes


def test_labels_and_names_of_columns_have_a_largest_length():
    model = OnlineClassifier()
    model.learn({"x" * 1000: 1.0}, "y" * 1000)
    with pytest.raises(InputError, match=r"Expected a label of at most 1,000 characters, got one of 1,001: 'yyy"):
        model.learn("a b", "y" * 1001)
    with pytest.raises(InputError, match=r"Expected names of columns of at most 1,000 characters, got one of 1,001"):
        model.learn({"x" * 1001: 1.0}, "a")


STRANGE = {
    "rows below zero": (("progress", "num_rows"), -1, "num_rows is none that a stream gives"),
    "rows that are no number": (("progress", "num_rows"), "many", "num_rows is none"),
    "a count that is missing": (("progress", "total"), {}, "total is none"),
    "an unknown count": (("progress", "more"), 1, "progress is none"),
    "a class nobody has": (("progress", "frequent"), "nobody", "frequent is none"),
    "many classes": (("own", "classes"), ["a"] * 10, "classes is none"),
    "no list": (("own", "classes"), 7, "not iterable"),
    "a bias that is too long": (("own", "bias"), torch.zeros(64), "bias is none"),
    "NaN in the bias": (("own", "bias"), torch.full((8,), math.nan), "bias is none"),
    "NaN in the weights": (("linear", "table", "weights"), torch.full((2, 8), math.nan), "table is none"),
    "a number as weights": (("linear", "table", "weights"), 1.0, "has no attribute"),
    "rows beyond the table": (("linear", "table", "row_of"), torch.full((5000,), 10**6, dtype=torch.int32), "arrays"),
    "fewer buckets": (("linear", "table", "row_of"), torch.zeros(3, dtype=torch.int32), "num_buckets is none"),
    "a kind nobody knows": (("linear", "kinds"), {"text": "sound"}, "kinds is none"),
    "a column without a kind": (("linear", "number_columns"), ["z"], "number_columns is none"),
    "a step without end": (("arguments", "lr"), math.inf, "must be above 0 and finite"),
    "many buckets": (("arguments", "num_buckets"), 10**9, "num_buckets is none"),
    "an unknown argument": (("arguments", "code"), "x", "unexpected keyword argument 'code'"),
    "no kind": (("kind",), None, "expected a text at kind, got null"),
    "a normalization that is not said": (("has_default_normalization",), None, "expected true or false at has_default"),
    "seen without a sum": (("progress", "seen"), {"a.csv": {"rows": 3}}, "'sum'"),
}


@pytest.mark.parametrize("case", STRANGE)
def test_a_model_with_values_that_no_stream_gives_is_refused_by_name(case, tmp_path: Path):
    (*place, last), value, message = STRANGE[case]
    model = make("classify")
    learn(model, rows(100, "classify"))
    inner = state = model.snapshot()
    for name in place:
        inner = inner[name]
    inner[last] = value
    save_state(tmp_path, state)
    with pytest.raises(
        InputError, match=rf"The model in .* is damaged or of another version \(.*{message}.*--overwrite"
    ):
        load_online(tmp_path)
