"""The report in a real browser: every figure drawn, no script error, no outside request, hostile text stays text."""

import math

import pytest
from browser import BROWSER, HOSTILE, LOUD, look_at

from thalweg.report.page import Report, write_report

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium or google-chrome on the PATH")


def full_report():
    """Return a report with every panel and every kind of section, hostile text in all of them."""
    layers = {name: {"grad_norm": 0.1 * (i + 1), "update_ratio": 10.0 ** -(i % 4)} for i, name in enumerate(HOSTILE)}
    history = []
    for i in range(1, 121):
        history.append(
            {"event": "step", "step": i, "epoch": i / 40, "loss": math.nan if i == 60 else 3 / i, "lr": 0.1 / i}
            | {"grad_norm": 1 + i % 3, "clipped": i % 3 == 2, "examples_per_second": 50.0, "tokens_per_second": 900.0}
            | ({"layers": layers} if i % 10 == 0 else {})
        )
        if i == 60:
            history.append({"event": "rejected", "step": 60, "reason": LOUD})
            history.append({"event": "rollback", "step": 60, "to_step": 40, "lr_scale": 0.5, "reason": LOUD})
        if i % 40 == 0:
            metrics = {"accuracy": i / 130, "<b>f1</b>": i / 140, "perplexity": 300 / i}
            history.append(
                {"event": "evaluation", "step": i, "epoch": i / 40, "loss": 4 / i, "metrics": metrics, "best": True}
            )
    size, read = len(HOSTILE), {"title": LOUD, "text": LOUD}
    many = [f"label {i}" for i in range(60)]
    return Report(
        **dict.fromkeys(("name", "task", "sentence", "status", "created", "version", "recipe"), LOUD),
        verdict=LOUD,
        certificate=LOUD,
        proofs=[{"kind": "bars", **read, "names": HOSTILE, "values": list(range(size)), "x_label": HOSTILE[2]}],
        summary=[(LOUD, LOUD), ("number", 12345.678)],
        metrics=[{"name": LOUD, "value": 0.5, "better": "higher", "explanation": LOUD}],
        history=history,
        notes=[LOUD],
        reproduce=[LOUD],
        sections=[
            {
                "kind": "confusion",
                **read,
                "labels": HOSTILE,
                "counts": [[i + j for i in range(size)] for j in range(size)],
            },
            {
                "kind": "confusion",
                **read,
                "labels": many,
                "counts": [[int(i == j) for i in range(60)] for j in range(60)],
            },
            {
                "kind": "scatter",
                **read,
                "x": list(range(size)),
                "y": [2] * size,
                "x_label": HOSTILE[0],
                "y_label": HOSTILE[3],
            }
            | {"names": HOSTILE},
            {"kind": "series", **read, "x": HOSTILE, "lines": {name: list(range(size)) for name in HOSTILE[:4]}}
            | {"x_label": HOSTILE[4], "y_label": HOSTILE[5], "split": HOSTILE[6]},
            {"kind": "path", **read, "lines": {HOSTILE[0]: [[1e-4, 0.9, 0.1], [0, 0.8]], HOSTILE[2]: [[1e-2, 0.7]]}}
            | {"chosen": [HOSTILE[0], 1e-4], "x_label": HOSTILE[1], "y_label": HOSTILE[6]},
            {"kind": "reliability", **read, "confidence": [0.2, None, 0.9], "accuracy": [0.1, None, 1.0]}
            | {"counts": [10, 0, 20], "intervals": [[0.0, 0.4], None, [0.8, 1.0]]},
            {"kind": "bars", **read, "names": HOSTILE, "values": list(range(size)), "x_label": HOSTILE[2]},
            {"kind": "table", **read, "columns": HOSTILE[:2], "rows": [[LOUD, 1.5]]},
            {"kind": "texts", **read, "texts": [{"label": LOUD, "text": LOUD * 60}]},
            {"kind": "examples", **read, "columns": [LOUD, "b"], "rows": [[LOUD * 9, LOUD]]},
        ],
    )


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(path, full_report())
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def seen(page, tmp_path_factory):
    return look_at(page, tmp_path_factory.mktemp("browser"), "--window-size=1100,2000")


def test_browser_finds_no_script_error_and_no_outside_request(seen):
    assert seen["problems"] == []
    assert seen["requests"] == []


def test_browser_draws_every_figure_inside_its_panel(seen):
    assert seen["plots"] == seen["drawn"] == 16
    assert min(seen["traces"]) >= 1
    assert seen["outOfBounds"] == 0
    assert not seen["tooWide"]


def test_browser_makes_no_element_out_of_hostile_text(seen):
    assert seen["unwanted"] == []
    assert seen["scripts"] == 5
    assert seen["text"].count(LOUD) > 30


def test_browser_shows_hostile_labels_letter_by_letter(seen):
    drawn = [" ".join(text.split()) for text in seen["svgText"]]
    for label in HOSTILE:
        assert drawn.count(label) >= 3, f"{label} is not on the axes of the confusion matrix and the bars"


def test_browser_shows_hostile_text_on_hover_letter_by_letter(seen):
    hovered = "\n".join(seen["hover"])
    for label in (HOSTILE[0], "<b>f1</b>", HOSTILE[3], "alert(1)"):
        assert label in hovered
    assert f"true: {HOSTILE[0]}predicted: {HOSTILE[0]}0 (0.0% of the row)" in hovered
    assert f"{HOSTILE[0]}1 at step 10" in hovered
    assert len([text for text in seen["hover"] if text]) > 20


def test_browser_switches_the_loss_between_linear_and_logarithmic(seen):
    assert seen["toggles"] == [["log", "linear", "log"]]


def test_browser_prints_on_a_narrower_page_with_every_fold_open(seen):
    assert max(seen["printed"]) <= 620
    assert seen["closedOnPaper"] == 0
    assert seen["openAfterwards"] == 0


def test_answers_come_first_and_curves_are_drawn_once_their_fold_is_open(seen):
    assert seen["headings"] == ["results", "certificate", "training", "repeat"]
    assert seen["folded"] == 8  # loss, metrics, learning rate, gradient, speed, layers
    assert seen["off"] == 0  # as wide as their place, also after printing


def test_browser_on_a_phone_in_the_dark_draws_the_same_page(page, tmp_path):
    seen = look_at(page, tmp_path, "--window-size=400,800", "--blink-settings=preferredColorScheme=0")
    assert seen["problems"] == []
    assert seen["drawn"] == 16
    assert seen["outOfBounds"] == 0
    assert not seen["tooWide"]


def test_the_watch_itself_sees_errors_requests_and_alerts(page, tmp_path):
    head, tail = page.split('<pre class="commands">', 1)
    head = head[: head.index('<h2 id="results">')]
    broken = '<img src="https://example.com/x.png"><script>alert(1)</script><div class="plot"></div>'
    seen = look_at(f'{head}{broken}<pre class="commands">{tail}', tmp_path)
    problems = "\n".join(seen["problems"])
    assert "policy: img-src https://example.com/x.png" in problems
    assert "policy: script-src-elem inline" in problems
    assert len(seen["unwanted"]) == 1
