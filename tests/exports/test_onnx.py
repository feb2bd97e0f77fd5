"""Graphs that answer as their runs do, what is beside them, and what is refused."""

import itertools
import json
import sys

import numpy as np
import pytest
import tokenizers
from safetensors.numpy import load_file

import thalweg
from thalweg.exports import onnx
from thalweg.exports.onnx import ABOUT, MODEL, README, export_onnx

onnxruntime = pytest.importorskip("onnxruntime")

WORDS = {"good": 4.5, "fine": 4.0, "nice": 5.0, "bad": 1.0, "poor": 2.0, "ugly": 1.5}
TEXTS = [f"{word} {noun} {when}" for word in WORDS for noun in ("film", "cast", "plot") for when in ("today", "here")]
LABELS = ["pos" if WORDS[text.split()[0]] > 3 else "neg" for text in TEXTS]
OTHERS = [*TEXTS[1:], TEXTS[0]]
WAVE = np.sin(np.arange(80) / 3) * 5 + 20
DATA = {
    "label": {"text": TEXTS, "label": LABELS},
    "labels": {"text": TEXTS, "label": [[label, text.split()[1]] for label, text in zip(LABELS, TEXTS, strict=True)]},
    "number": {"text": TEXTS, "number": [WORDS[text.split()[0]] for text in TEXTS]},
    "pair": {"text": TEXTS, "other": OTHERS, "number": [float(place % 7) for place in range(len(TEXTS))]},
    "tags": {"tokens": [text.split() for text in TEXTS], "tags": [["A", "N", "O"]] * len(TEXTS)},
    "wave": {"a": WAVE.tolist()},
    "waves": {"a": WAVE.tolist(), "b": (np.cos(np.arange(80) / 4) + 100).tolist()},
    "growth": {"a": np.exp(np.arange(100) / 20 + np.random.default_rng(0).normal(0, 0.05, 100)).tolist()},
    "plain": {"text": TEXTS * 20},
    "translation": {"source": TEXTS, "target": OTHERS},
}  # fmt: skip
PAIR = {"text_column": "text", "other_column": "other", "label_column": "number"}
SMALL = {"epochs": 1.0, "width": 8, "hidden": 8, "heads": 2, "layers": 1}
WRITES = {"steps": 2, "width": 8, "hidden": 8, "layers": 1, "tokenizer": "word"}


def trained(tmp_path, data, task, **options):
    return thalweg.train(DATA[data], task=task, out=tmp_path, name="run", **options)


def session_of(folder):
    return onnxruntime.InferenceSession(str(folder / MODEL), providers=["CPUExecutionProvider"])


QUICK = [
    ("pair", "score", {**PAIR, "l2": 0.01}),
    ("waves", "forecast", {**SMALL, "model": "lstm", "skip": "none"}),
]
SLOW = [
    ("labels", "classify", {"model": "bag", "l2": 0.01}),
    ("pair", "score", {**PAIR, **SMALL, "model": "bag"}),
    ("label", "classify", {**SMALL, "model": "mlp", "layers": 3, "skip": "highway", "input_skip": True}),
    ("label", "classify", {**SMALL, "model": "lstm", "layers": 2, "skip": "residual"}),
    ("label", "classify", {**SMALL, "model": "gru"}),
    ("label", "classify", {**SMALL, "model": "transformer", "skip": "rezero", "activation": "silu"}),
    ("number", "score", {"l2": 0.01}),
    ("pair", "score", {**PAIR, **SMALL, "model": "transformer"}),
    ("tags", "tag", {**SMALL, "model": "lstm", "head": "softmax"}),
    ("wave", "forecast", {**SMALL, "model": "mlp"}),
    ("growth", "forecast", {}),
    ("waves", "forecast", {}),
    ("plain", "language", {**WRITES, "model": "lstm"}),
    ("plain", "language", {**WRITES, "model": "transformer", "heads": 2}),
    ("translation", "translate", {**WRITES, "model": "lstm"}),
    ("translation", "translate", {**WRITES, "model": "transformer", "heads": 2}),
]


@pytest.mark.parametrize(
    ("data", "task", "options"),
    [*QUICK, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)],
    ids=lambda value: value if isinstance(value, str) else value.get("model", "default"),
)
def test_a_graph_answers_as_its_run(tmp_path, data, task, options):
    run = trained(tmp_path, data, task, **options)
    about = export_onnx(run, tmp_path / "graph")
    assert about["largest_difference"] <= 1e-5
    saved = json.loads((tmp_path / "graph" / ABOUT).read_text(encoding="utf-8"))
    inputs = session_of(tmp_path / "graph").get_inputs()
    assert [(one.name, one.shape) for one in inputs] == [(port["name"], port["shape"]) for port in saved["inputs"]]
    assert saved["outputs"][0]["name"] in (tmp_path / "graph" / README).read_text(encoding="utf-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["graph", "run"]


def bag_of(text, folder):
    """Features and weights as the README says, without anything of thalweg."""
    ids = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json")).encode(" ".join(text.lower().split())).ids
    known = load_file(folder / "features.safetensors")
    bigrams, idf = known["bigrams"].tolist(), known["idf"]
    size = len(idf) - len(bigrams)
    found = [one for one in ids if one > 3]
    found += [
        size + bigrams.index(first * size + second)
        for first, second in itertools.pairwise(ids)
        if min(first, second) > 3 and first * size + second in bigrams
    ]
    features, counts = np.unique(np.array(found, dtype=np.int64), return_counts=True)
    weights = (1 + np.log(counts)) * idf[features]
    return features[None], (weights / np.sqrt((weights**2).sum()))[None].astype(np.float32)


def test_the_readme_is_enough_to_read_a_text_for_a_bag(tmp_path):
    run = trained(tmp_path, "label", "classify", model="linear", l2=0.01, threshold="0.7")
    about = export_onnx(run, tmp_path / "graph")
    assert list(about["decision"]["thresholds"].values()) == [pytest.approx(0.7)]
    for text in ("Good  film today good film", "an UGLY plot", "poor"):
        tokens, weights = bag_of(text, tmp_path / "graph")
        (found,) = session_of(tmp_path / "graph").run(None, {"tokens": tokens, "weights": weights})
        (answer,) = run.predict([text], top=2)
        expected = {one["label"]: one["probability"] for one in answer["top"]}
        np.testing.assert_allclose(found[0], [expected[label] for label in about["labels"]], atol=1e-6)


@pytest.fixture(scope="module")
def wave(tmp_path_factory):
    """A run, and the folder of its graph."""
    folder = tmp_path_factory.mktemp("wave")
    run = trained(folder, "wave", "forecast")
    export_onnx(run, folder / "graph")
    return run, folder / "graph"


def test_several_steps_of_a_forecast_are_one_step_again_and_again(wave):
    run, graph = wave
    lags = json.loads((graph / ABOUT).read_text(encoding="utf-8"))["lags"]
    session, past = session_of(graph), WAVE[-lags:].tolist()
    (answer,) = run.predict([{"values": past, "steps": 3}])
    for expected in answer["forecast"]:
        (found,) = session.run(None, {"past": np.array(past)[None, :, None]})
        assert found[0, 0] == pytest.approx(expected, rel=1e-9)
        past = [*past[1:], found[0, 0]]


@pytest.mark.parametrize(
    ("data", "task", "options", "message"),
    [
        ("tags", "tag", {"epochs": 1.0}, r"depend on each other \(--head crf\)"),
        ("tags", "tag", {"epochs": 1.0, "head": "softmax"}, "A linear tagger reads lists of features"),
        ("plain", "language", {**WRITES, "head": "vmf", "model": "lstm"}, "writes by vectors of words"),
    ],
    ids=["crf", "linear tagger", "continuous outputs"],
)
def test_what_is_found_by_a_search_is_refused(tmp_path, data, task, options, message):
    run = trained(tmp_path, data, task, **options)
    with pytest.raises(thalweg.InputError, match=message):
        export_onnx(run, tmp_path / "graph")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_series_by_an_id_are_refused(tmp_path):
    rows = {"series": ["a"] * 40 + ["b"] * 40, "value": WAVE.tolist()}
    run = thalweg.train(rows, task="forecast", out=tmp_path, name="run", id_column="series", columns=("value",))
    with pytest.raises(thalweg.InputError, match="several series that an id column tells apart"):
        export_onnx(run, tmp_path / "graph")


def fail(path, data):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("there", "is there already"),
        ("other answers", "does not answer as the run does"),
        ("no package", r"pip install 'thalweg\[onnx\]'"),
        ("no space", "No space left"),
    ],
)
def test_nothing_is_left_of_an_export_that_fails(tmp_path, monkeypatch, wave, kind, message):
    run, graph = wave
    monkeypatch.setattr(onnx, "_traced", lambda made: (graph / MODEL).read_bytes())  # tracing takes seconds
    if kind == "other answers":
        monkeypatch.setattr(onnx, "TOLERANCE", -1.0)
    if kind == "no package":
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
    if kind == "no space":
        monkeypatch.setattr(onnx, "write_file", fail)
    with pytest.raises((thalweg.InputError, OSError), match=message):
        export_onnx(run, run.folder if kind == "there" else tmp_path / "graph")
    assert not [*tmp_path.iterdir()]
