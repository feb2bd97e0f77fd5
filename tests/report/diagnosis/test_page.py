"""The page of a diagnosis: findings first, a picture for each, and text that stays text."""

import json
import math
import re

import pytest
from browser import BROWSER, HOSTILE, LOUD, look_at

from thalweg.diagnosis.catalog import KINDS
from thalweg.report.diagnosis.over_time import steps_of
from thalweg.report.diagnosis.page import EVIDENCE, render

KINDS_OF_SITES = ("embedding", "linear", "relu", "tanh", "attention")


def sites(step, names=KINDS_OF_SITES):
    return [
        {
            "name": name,
            "kind": kind,
            "std": 2.0**-place,
            "flow": 10.0**-place,
            "dead": 0.01 * step if kind == "relu" else None,
            "saturated": 0.02 * step if kind == "tanh" else None,
            "entropy": 0.9 if kind == "attention" else None,
        }
        for place, (name, kind) in enumerate(zip(names, KINDS_OF_SITES, strict=True))
    ]


def history(names=KINDS_OF_SITES):
    steps = [
        {
            "event": "step",
            "step": step,
            "loss": 3.0 / step,
            "lr": 0.1 / step,
            "grad_norm": 1.0,
            "clipped": step < 3,
            "layers": {name: {"grad_norm": 0.1, "update_ratio": 1e-3} for name in names[:2]},
            "sites": sites(step, names),
        }
        for step in range(1, 9)
    ]
    return [*steps, {"event": "evaluation", "step": 8, "loss": 0.5, "best": True, "metrics": {"accuracy": 0.5}}]


def finding(name="dead-units", severity="error", options=None, **more):
    repair = {"sentence": "Use another activation.", "options": options or {}, "action": ""}
    return {
        "name": name,
        "severity": severity,
        "title": "Dead units",
        "evidence": "93 % of the units are zero.",
        "meaning": "They pass no gradient.",
        "repair": repair,
        "source": "Lu et al. (2020)",
        "figures": {"dead_share": 0.93},
        "thresholds": {"dead_share": 0.4},
        "where": ["relu"],
        "also": [],
        **more,
    }


PLANE = {
    "directions": ["path", "random"],
    "places": [[-1.0, 0.0, 1.0]] * 2,
    "lengths": [2.0, 1.0],
    "losses": [[3.0, 2.0, None], [2.0, 1.0, 2.0], [3.0, 2.0, 90.0]],
    "loss": 1.0,
    "path": [{"name": "start", "at": [-1.0, 0.0], "away": 0.0, "loss": 2.0}],
}
LINE = {"directions": ["gradient"], "places": [[-1.0, 0.0, 1.0]], "lengths": [0.5], "losses": [[2.0, 1.0, 2.0]]}
PROBES = {
    "spectrum": {"density": [[-0.5, 0.1], [0.0, 0.8], [4.0, 0.1]], "sharpness": 4.0, "smallest": -0.5},
    "landscape": {"plane": PLANE, "lines": [LINE]},
    "between": {"other": "runs/y", "places": [0.0, 0.5, 1.0], "losses": [1.0, 3.0, 2.0], "barrier": 1.5},
    "predictions": {"of": "valid", "by_class": [{"class": 0, "labels": 5, "predicted": 9, "right": 4}]},
    "hardest": [{"line": 7, "text": "a text", "target": "good", "prediction": "bad", "loss": 4.0}],
}


def words_of(page):
    body = page[page.index("<main>") : page.index("</main>")]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", body))


def titles_of(page):
    return re.findall(r'<h3 dir="auto">(?:<span.*?</span>)?(.*?)</h3>', page)


def figures_of(page):
    return json.loads(page.split('id="figures">')[1].split("</script>")[0])["figures"]


def test_finding_comes_with_its_evidence_its_repair_and_its_picture():
    page = render({"findings": [finding(options={"activation": "gelu"})]}, history(), name="x", file="runs/x/d.json")
    words = words_of(page)
    assert "1 finding: 1 error." in words
    assert "93 % of the units are zero." in words
    assert "Repair. Use another activation." in words
    assert "thalweg train --apply runs/x/d.json#1" in words
    assert "0.93 (limit 0.4)" in words
    assert titles_of(page)[:2] == ["1. Dead units", "Dead units"]
    assert titles_of(page).count("Dead units") == 1  # the picture is not shown again below
    assert "thalweg train --apply" not in words_of(render({"findings": [finding()]}, file="runs/x/d.json"))


def test_second_finding_of_a_picture_takes_the_next_one():
    page = render({"findings": [finding("loss-spikes"), finding("learning-rate-too-high")]}, history())
    assert titles_of(page)[:4] == ["1. Dead units", "Loss", "2. Dead units", "Update-to-weight ratio by layer"]


def test_healthy_run_says_so_and_shows_every_picture():
    page = render({"findings": [], "probes": PROBES, "facts": {"lr": 0.1}}, history())
    assert "Nothing was found" in words_of(page)
    assert titles_of(page) == [
        *("Loss", "Gradient norm", "Learning rate", "Gradient norm by layer", "Update-to-weight ratio by layer"),
        *("Gradient flow by operation", "Spread of the activations", "Dead units", "Saturated activations"),
        *("Entropy of attention", "Spectrum of the Hessian", "Loss around the weights"),
        *("Loss along single directions", "Loss between two runs", "Predictions and labels"),
        "Hardest training examples",
    ]
    assert len(figures_of(page)) == 15


def test_pictures_are_there_only_where_their_numbers_are():
    assert titles_of(render({"findings": []})) == []
    bare = [{"event": "step", "step": 1, "loss": 1.0}]
    assert titles_of(render({"findings": [], "probes": {"spectrum": {}, "landscape": {"plane": None}}}, bare)) == [
        "Loss"
    ]
    unknown = [{**record, "sites": "none", "layers": None} for record in history()]
    assert "Gradient flow by operation" not in titles_of(render({"findings": []}, unknown))


def test_surface_is_cut_where_it_rises_out_of_sight_and_keeps_its_gaps():
    (surface, path), *_ = [figure["data"] for figure in figures_of(render({"probes": {"landscape": {"plane": PLANE}}}))]
    assert surface["type"] == "surface"
    assert (
        figures_of(render({"probes": {"landscape": {"plane": PLANE}}}))[0]["layout"]["scene"]["dragmode"] == "turntable"
    )
    assert surface["z"] == [[3.0, 2.0, None], [2.0, 1.0, 2.0], [3.0, 2.0, None]]
    assert path["x"] == [-1.0, 0.0]
    assert path["z"] == [2.0, 1.0]


def test_steps_that_findings_are_about_are_marked_on_the_loss():
    assert steps_of({"where": ["step 1,200", "30", "layers.0", "step x"]}) == [1200.0, 30.0]
    assert steps_of({"where": None}) == []
    page = render({"findings": [finding("loss-spikes", where=["step 5"])]}, history())
    layout = figures_of(page)[0]["layout"]
    assert [shape["x0"] for shape in layout["shapes"]] == [5.0]
    assert layout["annotations"][0]["text"] == "1"


def test_every_kind_of_finding_that_has_a_picture_is_a_kind():
    assert EVIDENCE.keys() <= KINDS.keys()


def test_numbers_that_are_none_are_no_error():
    strange = {"findings": [{"name": None}, 3], "facts": None, "probes": {"spectrum": {"density": [[1], "x"]}}}
    assert "1 finding" in words_of(render({**strange, "seconds": math.nan}, [{"event": "step", "step": 1}]))


def hostile():
    """A diagnosis of which every text is hostile."""
    found = finding(
        title=LOUD, evidence=LOUD, meaning=LOUD, source=LOUD, where=HOSTILE, also=[LOUD], figures={LOUD: 1.0}
    )
    found["repair"] = {"sentence": LOUD, "options": {LOUD: 1}, "action": LOUD}
    example = {"text": LOUD, "target": LOUD, "prediction": HOSTILE[0], "loss": 1.0}
    probes = {
        **PROBES,
        "hardest": [example],
        "predictions": {"by_class": [{"labels": 1, "predicted": 2} for _ in HOSTILE]},
        "between": {**PROBES["between"], "other": LOUD},
        "landscape": {"plane": {**PLANE, "directions": [LOUD, HOSTILE[2]]}, "lines": [{**LINE, "directions": [LOUD]}]},
    }
    probes["landscape"]["plane"]["path"] = [{**PLANE["path"][0], "name": LOUD}]
    facts = {"task": LOUD, "model": LOUD, "optimizer": LOUD, "lr": 0.1, "data": {"label_names": HOSTILE}}
    return {"findings": [found], "probes": probes, "facts": facts, "skipped": {LOUD: LOUD}}


def test_text_stays_text_wherever_it_comes():
    page = render(hostile(), history(HOSTILE[:5]), name=LOUD, file=LOUD)
    assert len(re.findall("<script", page)) == 3
    body = page[page.index("<main>") : page.index("</main>")]
    assert not re.search(r"<(script|img|iframe|svg|b>s|sup|br)", body)
    drawn = json.dumps(figures_of(page)).replace("<extra>", "").replace("</extra>", "").replace("<br>", "")
    assert "<" not in drawn


# Runs last in the browser: waits, opens everything, and writes down what went wrong and what was drawn.
LOOK = """
addEventListener("load", async () => {
  const seen = { problems, failed: null };
  try {
    await new Promise((done) => setTimeout(done, 1500));
    const plots = [...document.querySelectorAll(".plot")];
    seen.plots = plots.length;
    seen.drawn = plots.filter((plot) => plot.querySelector(".subplot")).length;
    seen.tooWide = document.documentElement.scrollWidth > innerWidth;
    seen.requests = performance.getEntriesByType("resource").map((entry) => entry.name)
      .filter((name) => !/^(data|blob):/.test(name));
  } catch (error) {
    seen.failed = String(error.stack || error);
  }
  const box = document.createElement("pre");
  box.id = "seen";
  box.textContent = JSON.stringify(seen);
  document.body.append(box);
});
"""


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="needs a browser")
@pytest.mark.parametrize("width", [1200, 400])
def test_page_works_in_a_browser(tmp_path, width):
    diagnosis = hostile()
    diagnosis["probes"]["landscape"]["plane"] = (
        None  # without a graphics card a surface takes minutes on a busy machine
    )
    page = render(diagnosis, history(HOSTILE[:5]), name=LOUD, file=LOUD)
    seen = look_at(page, tmp_path, f"--window-size={width},900", probe=LOOK)
    assert seen["problems"] == []
    assert seen["drawn"] == seen["plots"] == 14
    assert not seen["tooWide"]
    assert seen["requests"] == []
