"""Every head by its name, from the recipe to answers: language and translate, with every kind of targets."""

import math
import os
import signal

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from thalweg import names
from thalweg.errors import InputError
from thalweg.names import CONTRASTIVE_HEADS
from thalweg.status import Status
from thalweg.training.folder.run import Run
from thalweg.training.recipe.complete import complete
from thalweg.training.recipe.recipe import Options
from thalweg.training.session.api import train
from thalweg.training.session.finish import finish
from thalweg.training.session.loop import train as train_loop
from thalweg.training.session.prepare import Request, prepare

FAMILIES = [name for name in names.HEADS if name not in ("softmax", names.CHAIN_HEAD)]
SMALL = {"width": 16, "hidden": 16, "layers": 1, "heads": 2, "device": "cpu", "vocabulary_size": 400}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Numbers spelled digit by digit, in letters of two kinds."""
    words, others = ["nul", "een", "twee", "drie", "vier"], ["zero", "one", "two", "three", "four"]
    rows = ["english\tgerman"]
    for number in range(0, 625, 6):
        digits = [number // 5**place % 5 for place in range(4)]
        rows.append(" ".join(others[d] for d in digits) + "\t" + " ".join(words[d] for d in digits))
    path = tmp_path_factory.mktemp("pairs") / "digits.tsv"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    """Word vectors for some of those words, and for one that no text has."""
    path = tmp_path_factory.mktemp("vectors") / "words.txt"
    generator = np.random.default_rng(0)
    words = ["nul", "een", "twee", "drie", "vijf"]
    path.write_text("".join(f"{w} {' '.join(f'{x:.4f}' for x in generator.normal(size=12))}\n" for w in words))
    return path


@pytest.fixture(scope="module")
def prose(tmp_path_factory):
    path = tmp_path_factory.mktemp("prose") / "prose.txt"
    path.write_text("the river runs over the stone and the water finds the valley\n" * 60)
    return path


@pytest.mark.parametrize(
    ("task", "head"),
    [*(("translate", head) for head in FAMILIES), ("language", "vmf"), ("language", "analytic")],
)
def test_every_family_trains_measures_and_writes(task, head, pairs, prose, tmp_path):
    source = pairs if task == "translate" else prose
    run = train(source, out=tmp_path, task=task, head=head, fast=True, tokenizer="bpe", max_length=16, **SMALL)
    perplexity = run.metrics["perplexity"]
    size = run.task.vocabulary.vocabulary_size
    assert 1 < perplexity < 3 * size
    figures = run.result["head"]
    assert 0 <= figures["variance"] <= 1
    assert 1 <= figures["effective_rank"] <= 16 or head not in CONTRASTIVE_HEADS
    entries = [entry for entry in run.history if entry["event"] == "evaluation"]
    assert all(entry["head"].keys() == figures.keys() for entry in entries)
    if task == "translate":
        (answer,) = run.predict(["two one zero four"], beam=3)
        assert all(candidate["score"] <= 1e-6 for candidate in answer["candidates"])
    else:
        (answer,) = run.predict(["the "], length=5, temperature=0.7, seed=1)
        assert isinstance(answer["text"], str)
    again = Run(run.folder)
    hidden = torch.randn(3, run.model.width)
    one, other = (each.head.decode(each.head(hidden), 4) for each in (run, again))
    assert torch.equal(one[0], other[0])
    assert torch.allclose(one[1], other[1])
    ids = torch.arange(size).expand(3, -1)
    total = again.head.log_probability(again.head(hidden).unsqueeze(1).expand(-1, size, -1), ids).exp().sum(1)
    assert torch.allclose(total, torch.ones(3), atol=1e-4)  # probabilities are probabilities


TARGETS = {
    "hypercube": {"head": "cosine", "targets": "hypercube", "target_width": 24},
    "word vectors": {"head": "vmf", "targets": "{vectors}"},
    "combined": {"head": "analytic", "targets": "combined:{vectors}"},
    "trained from vectors": {"head": "sampled", "targets": "trained:{vectors}"},
    "trained apart from the embedding": {"head": "analytic", "tie": False, "target_width": 20},
    "following": {"head": "contrastive", "targets": "embedding", "target_average": 0.9},
    "dispersed": {"head": "l2", "targets": "trained", "dispersion": "sliced", "dispersion_weight": 1.0},
    "dispersed by a kernel": {"head": "contrastive", "dispersion": "kernel"},
    "dispersed by neighbors": {"head": "analytic", "dispersion": "koleo"},
}


@pytest.mark.parametrize(
    ("kind", "tokenizer"),
    [*((kind, "word") for kind in TARGETS), ("word vectors", "bpe")],
)
def test_every_kind_of_targets(kind, tokenizer, pairs, vectors, tmp_path):
    options = {k: v.format(vectors=vectors) if isinstance(v, str) else v for k, v in TARGETS[kind].items()}
    run = train(pairs, out=tmp_path, task="translate", fast=True, tokenizer=tokenizer, **{**SMALL, **options})
    targets, recipe = run.head.targets, run.recipe.model
    assert (
        targets.width == recipe.target_width == (12 if "vectors" in kind or kind == "combined" else recipe.target_width)
    )
    assert (targets.embedding is not None) == (recipe.targets.split(":")[0] in ("trained", "embedding"))
    assert math.isfinite(run.metrics["perplexity"])
    assert recipe.tie == (run.head.targets.embedding is run.model.embedding and kind != "following")
    if kind == "word vectors" and tokenizer == "word":
        table = {line.split()[0]: [float(x) for x in line.split()[1:]] for line in vectors.read_text().splitlines()}
        place = run.task.tokenizer.id_of("twee")
        wanted = F.normalize(torch.tensor(table["twee"]), dim=-1)
        # Apart from what it shared with the four special directions, it is the vector of the file.
        assert float(targets(torch.tensor(place)) @ wanted) > 0.6


def test_vectors_of_a_trained_run_are_taken_over(pairs, tmp_path):
    teacher = train(pairs, out=tmp_path, name="teacher", task="translate", fast=True, tokenizer="word", **SMALL)
    run = train(
        pairs, out=tmp_path, task="translate", head="cosine", targets=str(teacher.folder), fast=True, tokenizer="word",
        **{**SMALL, "seed": 3},
    )  # fmt: skip
    rows = teacher.head.output.weight.detach()
    rows = F.normalize(rows - rows[4:].mean(0), dim=-1)[4:]
    tokens = [(run.task.tokenizer.id_of(w), teacher.task.tokenizer.id_of(w)) for w in ("twee", "drie", "nul")]
    ours = torch.stack([run.head.targets.table()[a] for a, _ in tokens])
    theirs = torch.stack([rows[b - 4] for _, b in tokens])
    # Apart from what they shared with the four special directions,.
    assert (F.cosine_similarity(ours, theirs, dim=-1) > 0.55).all()
    again = train(
        pairs, out=tmp_path, task="translate", head="vmf", targets=str(run.folder), fast=True, tokenizer="bpe", **SMALL
    )
    assert again.head.targets.width == run.head.targets.width


OPTIONS = {"head": "contrastive", "dispersion": "sliced", "steps": 12, "dropout": 0.2, "evaluate_every": 5}


@pytest.mark.parametrize("options", [OPTIONS, {**OPTIONS, "head": "sampled", "dispersion": "none"}], ids=["one", "two"])
def test_a_resumed_run_ends_where_the_undisturbed_one_does(options, pairs, tmp_path):
    given = {"task": "translate", **SMALL, **options}
    whole = train(pairs, out=tmp_path / "whole", **given)
    session = prepare(Request(Options(given, source=pairs), tmp_path / "cut"), lambda sentence: None)
    for entry in train_loop(session):
        if entry["event"] == "step" and entry["step"] == 7:
            os.kill(os.getpid(), signal.SIGINT)
    finish(session, Status.INTERRUPTED)
    resumed = train(pairs, out=tmp_path / "cut", **given)
    one, other = (load_file(run.folder / "model.safetensors") for run in (whole, resumed))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert whole.metrics == resumed.metrics


def test_a_new_word_is_written_at_once(pairs, vectors, tmp_path):
    run = train(
        pairs, out=tmp_path, task="translate", head="vmf", targets=str(vectors), tokenizer="word", fast=True, **SMALL
    )
    with torch.no_grad():
        source = torch.tensor([run.task.tokenizer.encode("two one")])
        state = run.model.start(source, torch.ones_like(source, dtype=torch.bool))
        hidden, _ = run.model.advance(torch.tensor([2]), state)
        direction = run.head(hidden)[0]
    before = run.task.tokenizer.vocabulary_size
    assert run.add_words({"vijf": direction.tolist()}) == [before]
    assert run.head.targets.num == run.model.embedding.num_embeddings == run.model.source_embedding.num_embeddings
    (answer,) = run.predict(["two one"], beam=1)
    assert answer["text"].split()[0] == "vijf"
    (answer,) = run.predict(["vijf one"], beam=2)  # and it can be read
    assert answer["candidates"][0]["score"] <= 0
    for words, message in (
        ({"vijf": direction}, "'vijf' is in the vocabulary already"),
        ({"two words": direction}, "Expected single words that differ, got 'two words'"),
        ({"zes": direction[:3]}, "must have vectors of width 12; got width 3"),
        ({"zes": 0 * direction}, "row 0 holds only zeros"),
        ({}, "Expected at least one word"),
    ):
        with pytest.raises(InputError, match=message):
            run.add_words(words)


def test_heads_that_take_no_new_words_say_so(pairs, tmp_path):
    softmax = train(pairs, out=tmp_path, task="translate", fast=True, tokenizer="word", **SMALL)
    with pytest.raises(InputError, match="Only continuous outputs can take new words"):
        softmax.add_words({"vijf": torch.ones(16)})
    subwords = train(pairs, out=tmp_path, task="translate", head="cosine", fast=True, **SMALL)
    with pytest.raises(InputError, match="a vocabulary of 'bpe' can write any word in parts"):
        subwords.add_words({"vijf": torch.ones(128)})


@pytest.mark.usefixtures("pictures")
def test_collapsed_vectors_are_told_in_summary_and_report(pairs, tmp_path):
    run = train(
        pairs, out=tmp_path, task="translate", head="cosine", targets="trained", dispersion="sliced", steps=40,
        dispersion_weight=0.0, tokenizer="word", lr=0.05, tie=False, target_width=16, **SMALL,
    )  # fmt: skip
    (warning,) = run.result["warnings"]
    assert warning.startswith("The words' vectors have collapsed")
    assert "have collapsed" in (run.folder / "report.html").read_text(encoding="utf-8")
    assert run.history[-2]["head"]["variance"] < 0.2


def completed(**options):
    return complete(Options({"source": "numbers", "task": "translate", **options}))


def test_defaults_fit_the_head():
    assert completed().model.head == "softmax"
    for head in FAMILIES:
        recipe = completed(head=head)
        contrasting = head in CONTRASTIVE_HEADS
        assert (recipe.model.targets, recipe.model.tie) == (("trained", True) if contrasting else ("random", False))
        assert recipe.training.label_smoothing == (0.1 if contrasting else 0.0)
    assert completed(head="analytic", width=64).model.target_width == 64
    assert completed(head="analytic", width=64, targets="random").model.target_width == 128
    assert completed(head="contrastive", targets="embedding", width=32).model.target_width == 32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head": "vfm"}, r"There is no head 'vfm'; expected one of softmax, .* Did you mean 'vmf'\?"),
        ({"head": "vmf", "task": "classify"}, "is for --task language or translate; task 'classify' has an output"),
        (
            {"targets": "random", "target_width": 64},
            "--target-width is for continuous outputs, and the output layer is",
        ),
        ({"targets": "trained"}, "--targets is for continuous outputs"),
        ({"head": "vmf", "tie": True}, "--tie shares the model's embedding with trained targets"),
        ({"head": "vmf", "targets": "trained"}, "learned targets would collapse.* or --dispersion sliced"),
        ({"head": "vmf", "targets": "embedding"}, "would collapse"),
        ({"head": "vmf", "dispersion": "sliced"}, "--dispersion moves trained vectors; --targets random are not"),
        ({"head": "analytic", "target_average": 0.5}, "--target-average requires --targets embedding"),
        ({"head": "analytic", "dispersion": "even"}, "There is no dispersion 'even'"),
        ({"head": "analytic", "target_width": 0}, "--target-width must lie between 1 and 32,768; got 0"),
        ({"head": "analytic", "dispersion_weight": -1.0}, "--dispersion-weight must be 0"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(options, message):
    with pytest.raises(InputError, match=message):
        completed(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"targets": "nonesuch"}, "not a kind of targets, a file of word vectors or the folder of a run"),
        ({"targets": "combined"}, "--targets combined needs a file of word vectors"),
        ({"targets": "{vectors}", "target_width": 20}, "holds vectors of width 12, and --target-width is 20"),
        ({"targets": "{ragged}"}, r"ragged.txt, line 2: expected a word and 12 numbers, got 11 entries"),
        ({"targets": "{strange}"}, "has a vector for none of the .* entries of the vocabulary"),
        ({"targets": "{empty}"}, "model.safetensors is missing; --targets needs the folder of a trained run"),
        ({"head": "margin", "label_smoothing": 0.1}, "MaxMargin has no distribution over words"),
        ({"targets": "hypercube", "target_width": 3}, "3 dimensions have 8 corners, fewer than"),
        ({"head": "contrastive", "targets": "trained", "target_width": 20}, "Give --target-width 16, or --no-tie"),
        ({"head": "analytic", "targets": "embedding", "target_width": 20}, "Give --target-width 16"),
    ],
)
def test_targets_that_cannot_be_used_are_refused_and_leave_nothing(options, message, pairs, vectors, tmp_path):
    lines = vectors.read_text().splitlines()
    ragged, strange, empty = tmp_path / "ragged.txt", tmp_path / "strange.txt", tmp_path / "empty"
    ragged.write_text("\n".join([lines[0], lines[1].rsplit(" ", 1)[0]]) + "\n")
    strange.write_text("\n".join("ÿÿ" + line for line in lines) + "\n")
    empty.mkdir()
    places = {"vectors": vectors, "ragged": ragged, "strange": strange, "empty": empty}
    options = {k: v.format(**places) if isinstance(v, str) else v for k, v in options.items()}
    with pytest.raises(InputError, match=message):
        train(
            pairs, out=tmp_path / "runs", task="translate", fast=True, tokenizer="word",
            **{**SMALL, "head": "vmf", **options},
        )  # fmt: skip
    assert not (tmp_path / "runs").exists()
