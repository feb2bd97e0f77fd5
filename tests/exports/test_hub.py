"""Folders that `transformers` opens and that answer as their runs do, and what is refused."""

import json

import numpy as np
import pytest
import torch
from small_models import TEXTS, saved_models

import thalweg
from thalweg.cli import main
from thalweg.errors import InputError
from thalweg.exports import hub, hub_answers, hub_text
from thalweg.exports.hub import README, export_transformers
from thalweg.exports.hub_answers import HEAD, SETTINGS

ROWS = [{"text": f"{text} {i}", "label": "yes" if i % 2 else "no"} for i, text in enumerate(TEXTS * 6)]
DATA = {
    "label": ROWS,
    "labels": [{"text": row["text"], "label": [row["label"], str(i % 3)]} for i, row in enumerate(ROWS)],
    "number": [{"text": row["text"], "number": float(i % 5)} for i, row in enumerate(ROWS)],
    "pair": [{"first": row["text"], "second": TEXTS[i % 4], "number": float(i % 7)} for i, row in enumerate(ROWS)],
    "tags": [{"tokens": row["text"].split(), "tags": ["AB"[len(w) % 2] for w in row["text"].split()]} for row in ROWS],
    "plain": [{"text": text} for text in TEXTS * 8],
    "translation": [{"source": row["text"], "target": TEXTS[i % 4]} for i, row in enumerate(ROWS)],
}
ASKED = ["the film was cold", "a cat, and a sea " * 12, "x"]
QUICK = [
    ("bert", "label", "classify", {}),
    ("gpt2", "labels", "classify", {"lora": 2}),
    ("roberta", "label", "classify", {"freeze": True, "pooling": "cls"}),
    ("t5", "number", "score", {}),
    ("bert", "pair", "score", {"pairs": "cross"}),
    ("distilbert", "pair", "score", {"pairs": "bi", "lora": 2}),
    ("bert", "tags", "tag", {"head": "softmax"}),
    ("gpt2", "plain", "language", {"lora": 2}),
    ("t5", "translation", "translate", {}),
    ("marian", "translation", "translate", {"lora": 2}),
]
SLOW = [
    ("llama", "pair", "score", {"freeze": True}),
    ("t5", "tags", "tag", {"head": "softmax"}),
    ("gpt2", "tags", "tag", {"head": "softmax", "lora": 2}),
    ("llama", "plain", "language", {}),
    ("t5", "translation", "translate", {"tie": False}),
    ("t5-untied", "translation", "translate", {"lora": 2}),
    ("gpt2", "plain", "language", {"tie": False}),
]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return saved_models(tmp_path_factory)


def trained(models, out, kind, data, task, **options):
    options = {"steps": 3, "lr": 0.01} | options if not options.get("freeze") else options
    return thalweg.train(DATA[data], task=task, model=models(kind), out=out, name="run", max_length=24, **options)


@pytest.fixture(scope="module")
def classifier(models, tmp_path_factory):
    return trained(models, tmp_path_factory.mktemp("runs"), "bert", "label", "classify", threshold="0.7")


def code_of(folder):
    """The names that the code of a README defines."""
    _, _, rest = (folder / README).read_text(encoding="utf-8").partition("```python\n")
    code = rest.partition("```")[0]
    names = {}
    exec(code.replace('folder = "."', f"folder = {str(folder)!r}"), names)
    return names


@pytest.mark.parametrize(
    ("kind", "data", "task", "options"),
    [*QUICK, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)],
    ids=lambda value: value if isinstance(value, str) else ",".join(value),
)
def test_a_folder_answers_as_its_run(models, tmp_path, kind, data, task, options):
    run = trained(models, tmp_path, kind, data, task, **options)
    about = export_transformers(run, tmp_path / "folder")
    assert about["largest_difference"] <= 1e-4
    assert {path.name for path in tmp_path.iterdir()} - {"cache"} == {"folder", "run"}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {
        one.name for one in (tmp_path / "folder").iterdir()
    }
    own = code_of(tmp_path / "folder")
    if task == "classify":
        found = own["answer"](ASKED).numpy()
        for row, answer in zip(found, run.predict(ASKED, top=9), strict=True):
            expected = {one["label"]: one["probability"] for one in answer["top"]}
            np.testing.assert_allclose(row, [expected[label] for label in own["about"]["labels"]], atol=1e-4)
    elif task == "score":
        pairs = [ASKED, ASKED[::-1]][: 1 + (data == "pair")]
        rows = list(zip(*pairs, strict=True)) if data == "pair" else ASKED
        expected = [answer["score"] for answer in run.predict(rows)]
        np.testing.assert_allclose(own["answer"](*pairs).numpy(), expected, atol=1e-4)
    elif task == "tag":
        words = ["the", "lifeless", "film", "unheard-of", "."]
        (answer,) = run.predict([words])
        found = own["answer"](words)
        assert [tag for tag, _ in found] == answer["tags"]
        np.testing.assert_allclose([chance for _, chance in found], answer["probabilities"], atol=1e-4)
    elif task == "translate":
        (answer,) = run.predict(["the film"], beam=1)
        assert own["answer"]("the film").strip() == answer["text"].strip()
    else:
        (answer,) = run.predict(["the film"], temperature=0.0, length=8)
        assert own["answer"]("the film", max_new_tokens=8, do_sample=False) == "the film" + answer["text"]


def test_logits_have_the_bias_that_the_class_lacks(models, tmp_path):
    run = trained(models, tmp_path, "gpt2", "plain", "language")
    export_transformers(run, tmp_path / "folder")
    own = code_of(tmp_path / "folder")
    tokens = torch.tensor([[40, 50, 60]])
    with torch.inference_mode():
        expected = run.head(run.model(tokens))
        assert not torch.allclose(own["model"](tokens).logits, expected, atol=1e-4)
        torch.testing.assert_close(own["with_bias"](own["model"])(tokens).logits, expected, atol=1e-4, rtol=1e-4)


def test_what_is_beside_the_network(classifier, tmp_path):
    export_transformers(classifier, tmp_path / "folder")
    about = json.loads((tmp_path / "folder" / SETTINGS).read_text(encoding="utf-8"))
    assert about["labels"] == ["no", "yes"]
    assert list(about["thresholds"].values()) == [pytest.approx(0.7)]
    assert (tmp_path / "folder" / HEAD).is_file()
    pooling = json.loads((tmp_path / "folder" / hub_text.POOLING_FILE).read_text(encoding="utf-8"))
    assert pooling["pooling_mode_mean_tokens"]
    assert not pooling["pooling_mode_cls_token"]


REFUSED = [
    ("bert", "tags", "tag", {"head": "crf"}, "depend on each other"),
    ("bert", "label", "classify", {"normalize": ("lower",)}, "normalizes texts"),
    ("marian", "label", "classify", {}, "cannot be exported"),
]


@pytest.mark.parametrize(("kind", "data", "task", "options", "said"), REFUSED)
def test_what_the_library_has_not_is_refused(models, tmp_path, kind, data, task, options, said):
    run = trained(models, tmp_path, kind, data, task, **options)
    with pytest.raises(InputError, match=said):
        export_transformers(run, tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_nothing_is_kept_that_answers_otherwise(classifier, tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    with pytest.raises(InputError, match="there already"):
        export_transformers(classifier, tmp_path / "there")
    monkeypatch.setattr(hub_answers, "compare_pooled", lambda *given: float("nan"))
    with pytest.raises(InputError, match="not kept"):
        export_transformers(classifier, tmp_path / "folder")

    def missing():
        raise InputError("pip install 'thalweg[hub]'")

    monkeypatch.setattr(hub, "library", missing)
    with pytest.raises(InputError, match="hub"):
        export_transformers(classifier, tmp_path / "folder")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["there"]


def code(*words):
    with pytest.raises(SystemExit) as ended:
        main.run([str(word) for word in words])
    return ended.value.code


def test_the_command_says_what_opens_the_folder(classifier, tmp_path, capsys):
    run = classifier.folder
    assert code("export", run, "--transformers") == 0
    assert "run-transformers: AutoModel.from_pretrained opens it" in " ".join(capsys.readouterr().out.split())
    assert code("export", run, "--transformers", "--out", tmp_path / "other", "--json") == 0
    assert json.loads(capsys.readouterr().out)["opens_with"] == "AutoModel"
    assert code("export", run, "--transformers", "--onnx") == 2
    thalweg.train(ROWS, task="classify", model="linear", l2=0.01, out=tmp_path, name="linear")
    assert code("export", tmp_path / "linear", "--transformers") == 2
    assert "hf:PATH" in capsys.readouterr().err
