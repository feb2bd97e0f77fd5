import base64
import hashlib
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser

import plotly.offline
import pytest

from thalweg.report.page import Report, render_report, write_report
from thalweg.report.panels import RENDERERS, section_panel
from thalweg.report.training_panels import incident_rows, training_panels

HOSTILE = "</script><script>alert(1)</script>\"><img src=x onerror=alert(2)> {{ 7 * 7 }} <!-- '"


def report(**entries):
    plain = {
        "name": "run",
        "task": "classify",
        "sentence": "A model.",
        "status": "Done.",
        "created": "2026",
        "version": "1",
    }
    return Report(**{**plain, **entries})


def section(kind, **entries):
    return {"kind": kind, "title": "Title", "text": "How to read it.", **entries}


class Outline(HTMLParser):
    """Collects the elements and the text outside scripts and styles."""

    def __init__(self):
        super().__init__()
        self.elements, self.scripts, self.words, self.inside = [], [], [], None

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.inside = tag if tag in {"script", "style"} else None
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        self.inside = None

    def handle_data(self, data):
        if self.inside == "script":
            self.scripts[-1] += data
        elif self.inside is None:
            self.words.append(data)


def outline(html):
    parsed = Outline()
    parsed.feed(html)
    return parsed


SMALL = report(history=[{"event": "step", "step": i, "loss": 1 / i} for i in range(1, 6)])


def test_page_has_plotly_once_and_refers_to_nothing_outside():
    html = render_report(SMALL)
    assert html.count(plotly.offline.get_plotlyjs()[:2000]) == 1
    parsed = outline(html)
    for tag, attributes in parsed.elements:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base", "form"}
        assert not {"src", "href", "srcset", "action", "background"} & attributes.keys()
        assert not [name for name in attributes if name.startswith("on")]
    style = html[html.index("<style>") : html.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style


def test_policy_allows_exactly_the_two_scripts_of_the_page():
    parsed = outline(render_report(SMALL))
    (policy,) = [a["content"] for _, a in parsed.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in policy
    data, *executed = parsed.scripts
    assert json.loads(data)["themes"].keys() == {"light", "dark"}
    digests = {base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in executed}
    assert set(re.findall(r"'sha256-([^']+)'", policy)) == digests
    assert len(digests) == 2


def test_page_without_figures_carries_no_script():
    html = render_report(report(sections=[section("table", columns=["a"], rows=[[1]])]))
    assert outline(html).scripts == []
    assert len(html) < 30_000


def test_hostile_text_is_text_in_every_place():
    everywhere = report(
        **dict.fromkeys(("name", "task", "sentence", "status", "created", "version", "recipe"), HOSTILE),
        **dict.fromkeys(("verdict", "certificate"), HOSTILE),
        summary=[(HOSTILE, HOSTILE)],
        metrics=[{"name": HOSTILE, "value": 0.5, "better": "higher", "explanation": HOSTILE}],
        notes=[HOSTILE],
        reproduce=[HOSTILE],
        history=[
            {"event": "step", "step": 1, "loss": 1.0, "layers": {HOSTILE: {"grad_norm": 1.0}}},
            {"event": "rejected", "step": 1, "reason": HOSTILE},
            {"event": "evaluation", "step": 1, "loss": 1.0, "metrics": {HOSTILE: 0.5}, "best": True},
            {"event": "evaluation", "step": 2, "loss": 1.0, "metrics": {HOSTILE: 0.5}, "best": True},
        ],
        sections=[
            {**hostile, "title": HOSTILE, "text": HOSTILE}
            for hostile in (
                section("confusion", labels=[HOSTILE, "b"], counts=[[1, 1], [0, 1]]),
                section("scatter", x=[1], y=[2], x_label=HOSTILE, y_label=HOSTILE, names=[HOSTILE]),
                section("series", x=[HOSTILE], lines={HOSTILE: [1]}, x_label=HOSTILE, y_label=HOSTILE, split=HOSTILE),
                section("table", columns=[HOSTILE], rows=[[HOSTILE]]),
                section("bars", names=[HOSTILE], values=[1], x_label=HOSTILE),
                section("texts", texts=[{"label": HOSTILE, "text": HOSTILE * 50}]),
                section("examples", columns=[HOSTILE], rows=[[HOSTILE * 9]]),
            )
        ],
    )
    parsed = outline(render_report(everywhere))
    assert len(parsed.scripts) == 3
    assert "img" not in {tag for tag, _ in parsed.elements}
    assert not [name for _, attributes in parsed.elements for name in attributes if name.startswith("on")]
    assert "".join(parsed.words).count("{{ 7 * 7 }}") > 30
    figures = json.loads(parsed.scripts[0])["figures"]
    assert len(figures) == 7
    assert "<" not in json.dumps([figure["data"] for figure in figures]).replace("<extra>", "").replace(
        "</extra>", ""
    ).replace("<br>", "")


def test_written_file_is_whole_and_replaces_the_old_one(tmp_path):
    path = tmp_path / "new folder" / "report.html"
    write_report(path, report(name="first"))
    write_report(str(path), report(name="second \ud800"))
    assert '<h1 dir="auto">second \\ud800</h1>' in path.read_text(encoding="utf-8")
    assert os.listdir(path.parent) == ["report.html"]


def test_failed_report_leaves_the_old_file_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("old")

    def fail(*paths):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_report(path, report())
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["report.html"]


def test_unknown_kind_of_section_is_refused_by_name():
    with pytest.raises(ValueError, match="section 'Pie' has the unknown kind 'pie'; known: confusion, scatter, series"):
        render_report(report(sections=[{"kind": "pie", "title": "Pie", "text": ""}]))


def test_section_without_its_entries_is_refused_by_name():
    for kind in list(RENDERERS):
        with pytest.raises(ValueError, match=f"section 'Title' of kind '{kind}' is missing '"):
            section_panel(section(kind))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (section("confusion", labels=["a"], counts=[[1, 2]]), "a confusion matrix of 1 labels needs as many rows"),
        (section("table", columns=["a", "b"], rows=[[1]]), "row 0 has 1 values for 2 columns"),
        (section("bars", names=["a"], values=[], x_label=""), "1 names for 0 values"),
        (section("scatter", x=[1, 2], y=[1], x_label="", y_label=""), "argument 2 is shorter"),
    ],
)
def test_section_of_wrong_size_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        section_panel(wrong)


def test_metrics_summary_and_notes_are_written_for_people():
    words = " ".join(
        outline(
            render_report(
                report(
                    metrics=[{"name": "error", "value": 0.123456, "better": "lower", "explanation": "Share."}],
                    summary=[("texts", 12345), ("seconds", 1.23456)],
                    notes=["12 rows were skipped."],
                    recipe="[data]",
                    reproduce=["thalweg train recipe.toml"],
                )
            )
        ).words
    )
    for expected in (
        "0.1235",
        "↓ lower is better",
        "12,345",
        "1.235",
        "12 rows were skipped.",
        "[data]",
        "thalweg train",
    ):
        assert expected in words


def test_long_texts_are_folded_and_whole():
    long_text = "word " * 400
    panel = section_panel(section("examples", columns=["text", "loss"], rows=[[long_text, 1.5]]))
    (text, loss), *_ = panel.table.rows
    assert text.text == long_text
    assert len(text.short) < 300
    assert (loss.text, loss.short, loss.numeric) == ("1.5000"[:5], None, True)


def test_too_many_rows_are_counted():
    panel = section_panel(section("table", columns=["n"], rows=[[i] for i in range(1500)]))
    assert (len(panel.table.rows), panel.table.num_left_out) == (1000, 500)
    assert panel.table.numeric == [True]


def test_confusion_panel_lists_the_most_frequent_mistakes():
    panel = section_panel(section("confusion", labels=["a", "b"], counts=[[3, 1], [5, 5]]))
    assert [[cell.text for cell in row] for row in panel.table.rows] == [["b", "a", "5", "50%"], ["a", "b", "1", "25%"]]
    assert section_panel(section("confusion", labels=["a"], counts=[[3]])).table is None


def test_incidents_join_rejected_neighbors():
    history = [
        *({"event": "rejected", "step": i, "reason": "NaN"} for i in (4, 5, 6, 9)),
        {"event": "rollback", "step": 9, "to_step": 0, "lr_scale": 0.5, "reason": "too many"},
        {"event": "resumed", "step": 1000},
        {"event": "finished", "step": 1001, "status": "done"},
    ]
    assert incident_rows(history) == [
        ["4 to 6", "rejected", "NaN"],
        ["9", "rejected", "NaN"],
        ["9", "rolled back", "too many (resumed from step 0, steps scaled by 0.5)"],
        ["1,000", "resumed", "–"],
    ]


def test_training_panels_of_a_full_history_and_of_none():
    layers = {"a": {"grad_norm": 1.0, "update_ratio": 1e-3}}
    history = [
        {"event": "step", "step": i, "epoch": i / 2, "loss": 1.0, "lr": 0.1 * i, "grad_norm": 1.0, "clipped": False}
        | {"examples_per_second": 5.0, "tokens_per_second": 9.0, "layers": layers}
        for i in range(1, 4)
    ]
    history += [{"event": "evaluation", "step": i, "loss": 1.0, "metrics": {"f1": 0.5}, "best": True} for i in (2, 3)]
    panels = training_panels(history, [{"name": "f1", "value": 0.5, "better": "higher", "explanation": ""}])
    assert [panel.title for panel in panels] == [
        "Loss",
        "f1",
        "Learning rate",
        "Gradient norm",
        "Speed",
        "Update-to-weight ratio by layer",
        "Gradient norm by layer",
    ]
    assert all(panel.text for panel in panels)
    assert panels[1].text == "On the validation data; higher is better."
    assert sum(panel.half for panel in panels) % 2 == 0
    assert panels[0].figure.layout.xaxis.dtick == 1
    assert "f1" not in [panel.title for panel in training_panels(history[:-1])]
    assert training_panels([]) == []


def newton_history(lr=1.0):
    layers = {"a": {"grad_norm": 1.0, "update_ratio": 3.0}}
    steps = [
        {"event": "step", "step": i, "epoch": float(i), "loss": 1 / i, "lr": lr, "grad_norm": 1.0, "clipped": False}
        | {"examples_per_second": 5.0, "layers": layers, "gap": 10.0**-i}
        for i in range(1, 4)
    ]
    evaluations = [
        {
            "event": "evaluation",
            "step": i,
            "loss": 1.0 / i,
            "metrics": {"f1": 1 - 0.1 * i},
            "best": i == 1,
            "kept": True,
        }
        for i in (1, 3)
    ]
    return steps + evaluations


def test_panels_of_a_method_that_steps_on_all_data_say_what_is_true_of_it():
    panels = {panel.title: panel for panel in training_panels(newton_history())}
    assert "Learning rate" not in panels  # it never changed
    assert "Speed" not in panels
    assert panels["Relative gap"].figure.data[0].y == (0.1, 0.01, 0.001)
    assert "loss on all training data" in panels["Loss"].text
    assert "The ring marks the weights that were kept: 0.3333 at step 3." in panels["Loss"].text
    assert "best" not in " ".join(panel.text for panel in panels.values()).casefold()
    assert panels["Gradient norm"].text == "Norm of the gradient."
    assert "10⁻³" not in panels["Update-to-weight ratio by layer"].text


def test_the_answer_comes_before_the_curves_and_they_are_folded():
    html = render_report(
        report(
            verdict="Accuracy 0.9.",
            certificate="Certified: so and so.",
            history=newton_history(),
            notes=["A note."],
            summary=[("Steps", 3)],
            metrics=[{"name": "accuracy", "value": 0.9, "better": "higher", "explanation": ""}],
            sections=[section("table", columns=["a"], rows=[[1]])],
            proofs=[section("table", columns=["b"], rows=[[1]])],
            recipe="[data]",
        )
    )
    marks = ['class="verdict"', 'class="lead"', 'class="status"', 'class="cards"', 'id="results"', 'class="notes"']
    marks += ['id="certificate"', "Certified: so", 'id="training"', 'class="facts"', 'class="curves"', 'id="repeat"']
    places = [html.index(mark, html.index("<main>")) for mark in marks]
    assert places == sorted(places)
    assert '<details class="curves">' in html


def test_history_of_broken_values_is_shown_without_failing():
    nan = float("nan")
    history = [
        {"event": "step", "step": i, "loss": nan, "lr": None, "grad_norm": nan, "tokens_per_second": nan, "layers": {}}
        for i in range(200)
    ]
    history += [{"event": "evaluation", "step": 3, "loss": nan, "metrics": {"f1": nan}}, {"event": "step"}, {}]
    assert "<h1" in render_report(report(history=history))


def test_report_imports_no_torch():
    code = "import sys, thalweg.report.page; sys.exit('torch' in sys.modules)"
    source = os.path.join(os.path.dirname(__file__), "..", "..", "src")
    environment = {**os.environ, "PYTHONPATH": source}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0
