"""Runs looked at example by example: which rows contradict each other, which labels are doubted, what contexts say."""

import html
import json
import time

import numpy as np
import pytest

import thalweg
from thalweg.certificates.attempts import Clock
from thalweg.cli.main import run as command
from thalweg.training.certified.by_example import ByExample, by_example, loss_by_place
from thalweg.training.certified.by_example_words import lines, sections
from thalweg.training.certified.certify import certify_run, open_run

WORDS = ["river", "stone", "light", "water", "field", "<b>sun</b>", "\x1b[31mred"]
SMALL = {"epochs": 1, "width": 4, "seed": 1}


def rows_of(task):
    """Rows whose texts come again, now and then with another answer; the last ones have words of their class."""
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, 2)) for _ in range(70)]
    if task == "tag":
        return [{"tokens": text.split() * 3, "tags": rng.choice(["A", "B"], 6).tolist()} for text in texts]
    if task == "score":
        return [{"text": text, "score": int(rng.integers(5))} for text in texts]
    if task == "several":
        return [
            {"text": text, "labels": rng.permutation(["u", "v", "w"])[: rng.integers(3)].tolist()} for text in texts
        ]
    clear = [{"text": f"{name} {name} number", "label": label} for name, label in (("oak", "tree"), ("carp", "fish"))]
    odd = {"text": "oak oak oak", "label": "fish"}
    return [{"text": text, "label": rng.choice(["tree", "fish"])} for text in texts] + 12 * clear + [odd]


@pytest.fixture(scope="module", params=["classify", "several", "score", "tag"])
def looked_at(request, tmp_path_factory):
    """The task, the rows of its file, and what was found in a run on them."""
    rows = rows_of(request.param)
    folder = tmp_path_factory.mktemp("by_example")
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = {"model": "lstm", "head": "softmax", "max_length": 4, "hidden": 4} if request.param == "tag" else {}
    run = thalweg.train(path, name="run", out=folder, **SMALL, **options)
    opened = open_run(run)
    return request.param, rows, by_example(run, opened.task, opened.prepared, Clock(30.0)), run


def answer_of(task, row, word):
    if task == "tag":
        return row["tags"][word]
    if task == "score":
        return str(row["score"])
    return row["label"] if task == "classify" else ", ".join(sorted(row["labels"])) or "(none)"


def test_listed_rows_are_those_of_the_file_and_cost_what_the_floor_says(looked_at):
    task, rows, found, run = looked_at
    part = found.contradictions
    assert part["num_groups"] >= len(part["worst"]) > 3
    for group in part["worst"]:
        seen = set()
        for label in group["labels"]:
            assert len(label["lines"]) == min(8, label["num_rows"])
            for line in label["lines"]:
                row = rows[line - 1]
                assert answer_of(task, row, group["word"]) == label["label"]
                text = tuple(sorted(row["text"].split())) if "text" in row else tuple(row["tokens"])
                seen.add(text)
        if task == "tag":
            sentence = rows[group["line"] - 1]["tokens"]
            assert group["texts"] == [f"{sentence[group['word']]} in: {' '.join(sentence)}"]
        else:
            assert len(seen) == 1
            firsts = dict.fromkeys(rows[label["lines"][0] - 1]["text"] for label in group["labels"])
            assert group["texts"] == list(firsts)[:3]
        if task == "classify":
            counts = np.array([label["num_rows"] for label in group["labels"]])
            assert group["cost"] == pytest.approx(-(counts * np.log(counts / counts.sum())).sum())
            assert group["errors"] == counts.sum() - counts.max()
    level = certify_run(run, seconds=5.0).interval.levels[0]
    outputs = 3 if task == "several" else 1
    assert part["cost"] == pytest.approx(level.bound * part["num_targets"] * outputs, rel=1e-6)
    assert part["unit"] == level.unit


def test_a_wrong_label_is_doubted(looked_at):
    task, rows, found, _ = looked_at
    if task != "classify":
        assert found.suspects is None
        return
    (place,) = [
        n for n, one in enumerate(found.suspects["worst"]) if rows[one["lines"][0] - 1]["text"] == "oak oak oak"
    ]
    one = found.suspects["worst"][place]
    assert (one["label"], one["likelier"], one["texts"]) == ("fish", "tree", ["oak oak oak"])
    assert one["probability"] < 0.2
    for one in found.suspects["worst"]:
        assert rows[one["lines"][0] - 1]["label"] == one["label"] != one["likelier"]
    assert len(found.suspects["worst"]) == min(20, found.suspects["num_doubted"])


def test_words_for_the_report_and_the_terminal(looked_at):
    task, _, found, _ = looked_at
    shown = sections(found)
    assert shown[0]["title"] == "Which rows contradict each other"
    assert len(shown) == (2 if task == "classify" else 1)
    assert len(shown[0]["rows"]) == len(found.contradictions["worst"])
    said = list(lines(found))
    assert said[0].startswith(f"Contradictions: {found.contradictions['num_groups']} groups of ")
    assert "\x1b" not in "".join(said)
    if found.contradictions["num_groups"] > 5:
        assert any("more group" in line for line in said)
    json.dumps(found.to_json(), allow_nan=False)


def test_the_command_lists_them_and_escapes_what_the_data_say(looked_at, capsys):
    task, _, found, run = looked_at
    if task != "classify":
        return
    with pytest.raises(SystemExit, match=r"^0$"):
        command(["certify", str(run.folder), "--seconds", "5s"])
    out = capsys.readouterr().out
    for line in lines(found):
        assert line in out
    assert "\x1b" not in out
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    assert "Labels to check" in page
    assert html.escape("<b>sun</b>") in page
    assert "<b>sun</b>" not in page
    with pytest.raises(SystemExit, match=r"^0$"):
        command(["certify", str(run.folder), "--seconds", "5s", "--json", "--no-report"])
    assert json.loads(capsys.readouterr().out)["by_example"].keys() == found.to_json().keys()


def test_contexts_of_a_language_run(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "prose.txt"
    path.write_text("\n".join(" ".join(rng.choice(WORDS[:4], 6)) for _ in range(60)))
    options = {"tokenizer": "word", "max_length": 8, "hidden": 4, "valid_share": 0.2}
    run = thalweg.train(path, task="language", name="run", out=tmp_path, **SMALL, **options)
    opened = open_run(run)
    found = by_example(run, opened.task, opened.prepared, Clock(30.0))
    assert (found.contradictions, found.suspects) == (None, None)
    rows = found.contexts["rows"]
    assert [row["context"] for row in rows] == [1, 2, 3, 4, 5, 6, 8][: len(rows)]
    own = loss_by_place(opened.task, run.model, run.head, opened.prepared)
    sums, counts = own["sums"], own["counts"]
    assert found.contexts["loss"] == pytest.approx(sums.sum() / counts.sum())
    interval = certify_run(run, seconds=5.0).interval
    exact = sum(row["exact_floor"] * row["num_exact"] for row in rows) / counts.sum()
    assert 0.0 < exact <= interval.levels[0].bound + 1e-12
    for row in rows:
        k = row["context"]
        assert (row["num_exact"], row["num_targets"]) == (counts[k - 1], counts[k - 1 :].sum())
        assert row["exact_own"] == pytest.approx(sums[k - 1] / counts[k - 1])
        assert row["exact_floor"] <= row["exact_own"]
    said = list(lines(found))
    assert said[1].split() == ["k", "floor", "your", "model", "k", "exactly:", "floor", "your", "model"]
    assert said[2].split()[:2] == ["1", f"{np.floor(1e4 * rows[0]['floor']) / 1e4:.4f}"]
    assert sections(found)[0]["rows"][0] == said[2].split()
    assert "uses more than one token" in said[-1]
    late = by_example(run, opened.task, opened.prepared, Clock(1000.0, begin=time.perf_counter() - 2000.0))
    assert late.contexts == found.contexts, "what takes less than a second is there in any case"
    better = ByExample(contexts={**found.contexts, "rows": [{**row, "own": 0.0} for row in rows[:2]]})
    assert "every model that sees only the last 2 tokens, so it uses more" in list(lines(better))[-1]


def test_a_linear_model_that_is_too_large_is_left_out(looked_at, monkeypatch):
    task, _, found, run = looked_at
    if task != "classify":
        return
    opened = open_run(run)
    monkeypatch.setattr("thalweg.training.certified.by_example.MAX_NUMBERS", 100)
    less = by_example(run, opened.task, opened.prepared, Clock(30.0))
    assert (less.suspects, less.contradictions) == (None, found.contradictions)
    assert list(lines(less))[-1].startswith("Left out: labels to check. The linear model would need ")


def test_a_loss_that_takes_too_long_is_left_out(tmp_path, monkeypatch):
    path = tmp_path / "prose.txt"
    path.write_text("\n".join(" ".join(WORDS[:4]) for _ in range(60)))
    options = {"tokenizer": "word", "max_length": 8, "hidden": 4, "valid_share": 0.2}
    run = thalweg.train(path, task="language", name="run", out=tmp_path, **SMALL, **options)
    opened = open_run(run)
    monkeypatch.setattr("thalweg.certificates.attempts.LEAST_GRACE", 0.0)
    monkeypatch.setattr("thalweg.training.certified.by_example.COUNTING", 0.0)
    found = by_example(run, opened.task, opened.prepared, Clock(0.0))
    *said, last = lines(found)
    assert last.startswith("Left out: your model's loss by length of context. It would take about")
    assert said[2].split()[2] == "–"
    json.dumps(found.to_json(), allow_nan=False)

    def fail(*arguments):
        raise ZeroDivisionError("of course")

    monkeypatch.setattr("thalweg.training.certified.by_example.context_floors", fail)
    with pytest.warns(RuntimeWarning, match="part 'contexts' of a certificate failed: ZeroDivisionError: of course"):
        found = by_example(run, opened.task, opened.prepared, Clock(30.0))
    assert found.contexts is None
    assert list(lines(found)) == [
        "Left out: floors by length of context. It failed (ZeroDivisionError: of course). That is a mistake of "
        "thalweg's; please report it."
    ]
