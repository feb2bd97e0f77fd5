"""Every task from a hostile file to predictions and a report: what people put into data stays data."""

import csv
import html
import json
import random
import re
import subprocess

import pytest
import torch
from browser import BROWSER, look_at_all

from thalweg import names
from thalweg.cli.main import run as command_line
from thalweg.report.text import STEERING
from thalweg.training.folder.run import Run
from thalweg.training.session.api import train

EVIL = [
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(2)>",
    '"><b>bold</b>',
    "{{ 7*7 }} ${x} %{y}",
    "naïve 日本語 🙂 \u202eright-to-left",
    "=HYPERLINK(0)",
]
WORDS = ["river", "stone", "light", "water", "field", "cloud", "house", "table", "music", "paper"]


def text(generator):
    words = [*generator.choices(WORDS, k=5), generator.choice(EVIL)]
    generator.shuffle(words)
    return " ".join(words)


def write_csv(path, header, rows):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def make(task, folder):
    """Write a hostile file for a task; return it with the inputs for a prediction."""
    g = random.Random(1)
    if task == "classify":
        rows = [[text(g), g.choice([EVIL[0], EVIL[1], "plain"])] for _ in range(120)]
        return write_csv(folder / "texts.csv", [EVIL[2], EVIL[3]], rows), {
            "text_column": EVIL[2], "label_column": EVIL[3],
        }, [EVIL[0], ""]  # fmt: skip
    if task == "several labels":
        rows = [{"text": text(g), "labels": g.sample([EVIL[0], "calm", "wild"], k=g.randint(1, 2))} for _ in range(120)]
        return write_jsonl(folder / "many.jsonl", rows), {}, [EVIL[0]]
    if task == "tag":
        rows = []
        for _ in range(80):
            tokens = [*g.choices(WORDS, k=4), g.choice(EVIL)]
            # By chance, so that there are mistakes to show.
            tags = ["B-<i>x</i>" if token in EVIL and g.random() < 0.7 else "O" for token in tokens]
            rows.append({"tokens": tokens, "tags": tags})
        return write_jsonl(folder / "tags.jsonl", rows), {}, [f"river {EVIL[0]} stone", ["river", EVIL[1]]]
    if task == "score":
        rows = [{"sentence1": text(g), "sentence2": text(g), "score": round(g.random(), 3)} for _ in range(120)]
        return write_jsonl(folder / "pairs.jsonl", rows), {}, [(EVIL[0], EVIL[1])]
    if task == "forecast":
        rows = [[2000 + k, (k % 7) + g.random(), (k % 5) + g.random()] for k in range(120)]
        return write_csv(folder / "series.csv", ["year", EVIL[0], EVIL[1]], rows), {"lags": 7}, [[[1.0, 2.0]] * 8]
    if task == "language":
        path = folder / "prose.txt"
        path.write_text("\n".join(text(g) for _ in range(300)), encoding="utf-8")
        return path, {"vocabulary_size": 400, "max_length": 32}, ["river ", EVIL[0]]
    rows = [{"source": line, "target": line.upper()} for line in (text(g) for _ in range(120))]
    return write_jsonl(folder / "lines.jsonl", rows), {"vocabulary_size": 400}, [EVIL[0]]


TASKS = ["classify", "several labels", "tag", "score", "forecast", "language", "translate"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """For each task its run, and what it is asked."""
    found = {}
    for kind in TASKS:
        folder = tmp_path_factory.mktemp("task")
        path, options, inputs = make(kind, folder)
        task = "classify" if kind == "several labels" else kind
        found[kind] = train(path, out=folder / "runs", task=task, fast=True, **options), inputs
    return found


@pytest.fixture(params=TASKS)
def trained(request, runs):
    return request.param, *runs[request.param]


@pytest.fixture(scope="module")
def seen(runs, tmp_path_factory):
    pages = [(run.folder / "report.html").read_text(encoding="utf-8") for run, _ in runs.values()]
    return dict(zip(runs, look_at_all(pages, tmp_path_factory.mktemp("browser")), strict=True))


def test_the_run_has_its_files_and_finite_metrics(trained):
    _, run, _ = trained
    for name in ("recipe.toml", "model.safetensors", "history.jsonl", "metrics.json", "report.html", "data.json"):
        assert (run.folder / name).stat().st_size > 0, name
    assert run.metrics
    assert all(value is not None for value in run.metrics.values()), run.metrics
    assert run.result["loss"] > 0.0


VERDICTS = {
    "classify": r"Accuracy [01]\.\d{3}.* on \d+ texts; always answering '.+' gives [01]\.\d{3}",
    "several labels": r"Macro F1 .* on \d+ texts; all labels right for [01]\.\d{3} of them, always answering '.+' for",
    "tag": r"(Span F1|Accuracy of words) .* on \d+ sentences",
    "score": r"Pearson correlation -?\d.* on \d+ (texts|pairs); the squared error is \d.* of that of always answering",
    "forecast": r"(Worse than naive|As good as naive|The mean squared error is).* on \d+ forecasts\)",
    "language": r"Perplexity \d.* on \d+ chunks of text; \d.* bits per byte",
    "translate": r"(BLEU|chrF) \d.* on \d+ texts",
}


def test_the_verdict_is_a_sentence_about_the_main_figure_of_the_task(trained):
    task, run, _ = trained
    verdict = run.result["verdict"]
    assert re.match(VERDICTS[task], verdict), verdict
    assert verdict.endswith(".")
    assert "nan" not in verdict


def short(task):
    """Options by which a task writes little."""
    return {"length": 5} if "length" in names.task_spec(task).answers else {}


def test_predictions_are_json_and_the_same_after_loading(trained):
    _, run, inputs = trained
    options = short(run.task.name)
    first = run.predict(inputs, **options)
    assert len(first) == len(inputs)
    assert json.loads(json.dumps(first, allow_nan=False)) == json.loads(
        json.dumps(Run(run.folder).predict(inputs, **options), allow_nan=False)
    )


def test_what_is_told_to_be_tried_can_be_pasted_into_a_shell(trained, capfd):
    kind, run, _ = trained
    command = run.result["example"]
    assert command.startswith(f"thalweg predict {run.folder} ")
    assert not STEERING.search(command)
    assert command in html.unescape((run.folder / "report.html").read_text(encoding="utf-8"))
    given = subprocess.run(
        ["sh", "-c", command.replace("thalweg", "printf '%s\\0'", 1)], capture_output=True, check=True
    )
    arguments = given.stdout.decode().split("\0")[:-1]
    assert arguments[:2] == ["predict", str(run.folder)]
    asked = arguments[-1]
    assert {"score": "\t" in asked, "forecast": asked.endswith("series.csv")}.get(
        kind, len(set(asked.lower()) & set("aeiou")) > 1
    )
    with pytest.raises(SystemExit, match="0"):
        command_line(arguments)
    assert capfd.readouterr().out.strip()


def test_hostile_text_is_escaped_in_the_page(trained):
    kind, run, _ = trained
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    body = page[page.index("<body") :]
    assert "<script>alert" not in body
    assert "<img src=x" not in body
    if kind not in {"forecast"}:
        assert "alert(" in page, "the hostile text is shown somewhere, as text"


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no chromium or google-chrome on the PATH")
@pytest.mark.parametrize("task", TASKS)
def test_the_report_opens_in_a_browser_without_an_error(seen, task):
    seen = seen[task]
    assert seen["problems"] == []
    assert seen["requests"] == []
    assert seen["unwanted"] == []
    assert seen["plots"] == seen["drawn"] > 3


def test_nothing_in_a_run_is_a_pickle(trained):
    _, run, _ = trained
    for path in run.folder.rglob("*"):
        if path.is_file():
            start = path.read_bytes()[:2]
            assert start[:1] != b"\x80", f"{path.name} begins as a pickle does"
            assert start != b"PK", f"{path.name} begins as a zip of pickles does"


@pytest.mark.parametrize(("task", "model"), [(t, m) for t in names.TASKS for m in names.task_spec(t).models])
def test_every_model_of_every_task_runs_in_float64(tmp_path, task, model):
    path, options, inputs = make(task, tmp_path)
    small = {"width": 8, "hidden": 8, "heads": 2}
    run = train(path, out=tmp_path / "runs", task=task, model=model, fast=True, precision="float64", **small, **options)
    assert run.metrics
    assert len(run.predict(inputs, **short(task))) == len(inputs)
    parameters = [*run.model.parameters(), *run.head.parameters()]  # a linear forecast has them in its head alone
    assert {parameter.dtype for parameter in parameters} == {torch.float64}
