"""A training in a notebook: one place that is written anew, and a run that shows itself; nothing elsewhere."""

import sys
import types

import nbformat
import pytest
from nbclient import NotebookClient
from reviews import write_reviews

import thalweg
from thalweg.training.trackers import notebook
from thalweg.training.trackers.notebook import NotebookLine, in_notebook

CELLS = (
    "import thalweg.training.session.finish as finish\nfinish.render_report = lambda report: ''\nimport thalweg",
    "run = thalweg.train('reviews.csv', model='linear', optimizer='adamw', steps=40, evaluate_every=10, out='runs')",
    "run",
)


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch):
    monkeypatch.setattr("thalweg.training.session.finish.render_report", lambda report: "no pictures")


def step(number, loss=0.5):
    return {"event": "step", "step": number, "loss": loss, "lr": 0.1}


EVALUATION = {"event": "evaluation", "step": 2, "loss": 0.7, "metrics": {"accuracy": 0.9, "<b>": 1.0}}


@pytest.mark.timeout(120)
def test_a_notebook_shows_the_training_in_one_place_and_the_run_as_a_table(tmp_path):
    write_reviews(tmp_path / "reviews.csv")
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in CELLS])
    NotebookClient(book, timeout=100, resources={"metadata": {"path": str(tmp_path)}}).execute()
    _, trained, shown = (cell.outputs for cell in book.cells)
    (line,) = (output for output in trained if "data" in output)  # however often it was written anew
    assert "reviews: 40 steps" in line.data["text/html"]
    assert "validation loss" in line.data["text/html"]
    (run,) = shown
    assert "COMPLETED" not in run.data["text/plain"]
    assert "<table" in run.data["text/html"]
    assert "adamw" in run.data["text/html"]


def test_a_picture_is_drawn_at_most_twice_a_second_and_at_the_end(monkeypatch):
    drawn, now = [], [100.0]
    monkeypatch.setattr(notebook.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(NotebookLine, "_display", lambda self: drawn.append(self.html()))
    line = NotebookLine("<x>", 1000)
    for number in range(1, 101):
        now[0] += 0.05
        line.show(step(number))
    assert 8 <= len(drawn) <= 12
    line.show(EVALUATION)
    line.show({"event": "finished", "step": 100})
    assert "&lt;x&gt;: 100 steps" in drawn[-1]
    assert "&lt;b&gt;" in drawn[-1]
    assert "accuracy" in drawn[-1]


def test_nothing_is_shown_elsewhere(tmp_path, capfd, monkeypatch):
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert not in_notebook()
    terminal = types.SimpleNamespace(get_ipython=lambda: types.SimpleNamespace())  # IPython's own shell has no kernel
    monkeypatch.setitem(sys.modules, "IPython", terminal)
    assert not in_notebook()
    thalweg.train("docstrings", fast=True, out=tmp_path)
    assert capfd.readouterr() == ("", "")


def test_a_damaged_run_shows_what_is_wrong(tmp_path):
    run = thalweg.train("docstrings", fast=True, out=tmp_path)
    assert "docstrings" in run._repr_html_()
    (run.folder / "metrics.json").write_text("{")
    assert "metrics.json" in run._repr_html_()
