"""The page of a comparison in a real browser: figures drawn, views that change them, hostile names, narrow screens."""

import pytest
from browser import BROWSER, HOSTILE, LOUD, READ_TICKS, look_at
from comparison_cases import NAMES, made

from thalweg.report.comparison.page import render

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium or google-chrome on the PATH")

# Presses every button above a figure and writes down what the figure then shows.
PRESS_VIEWS = """
addEventListener("load", async () => {
  const seen = { problems, groups: [], failed: null };
  try {
    const pause = (ms) => new Promise((done) => setTimeout(done, ms));
    await pause(300);
    for (const group of document.querySelectorAll(".views:not([hidden])")) {
      const plot = group.closest(".panel").querySelector(".plot"), states = [];
      for (const button of group.querySelectorAll("button")) {
        button.click();
        await pause(100);
        const pressed = [...group.querySelectorAll("[aria-pressed=true]")].map((one) => one.textContent);
        const frame = plot.querySelector(".main-svg").getBoundingClientRect();
        const boxes = [...plot.querySelectorAll(".xtick text, .ytick text, .xtitle, .ytitle, .legendtext")]
          .map((text) => text.getBoundingClientRect());
        states.push({ button: button.textContent, pressed, title: plot.querySelector(".xtitle").textContent,
          end: Math.max(...plot._fullData.flatMap((trace) => [...(trace.x || [0])])), range: plot.layout.xaxis.range,
          rows: [...plot.querySelectorAll(".ytick text")].map((text) => text.textContent),
          cut: boxes.filter((box) => box.left < frame.left - 1 || box.right > frame.right + 1
            || box.top < frame.top - 1 || box.bottom > frame.bottom + 1).length });
      }
      seen.groups.push({ label: group.getAttribute("aria-label"), states });
    }
    seen.tooWide = document.documentElement.scrollWidth > innerWidth;
  } catch (error) {
    seen.failed = String(error.stack || error);
  }
  const box = document.createElement("pre");
  box.id = "seen";
  box.textContent = JSON.stringify(seen);
  document.body.append(box);
});
"""


@pytest.fixture(scope="module")
def hostile():
    comparison = made(names=[*HOSTILE, LOUD], sets=(HOSTILE[0],), num_seeds=2, num_trials=4, failed_set=LOUD)
    for data in comparison["data"]:
        data["notes"] = [LOUD]
    return render(comparison)


@pytest.fixture(scope="module")
def seen(hostile, tmp_path_factory):
    return look_at(hostile, tmp_path_factory.mktemp("browser"), "--window-size=1200,2000")


def test_every_figure_is_drawn_without_an_error_or_a_request(seen):
    assert (seen["problems"], seen["requests"]) == ([], [])
    assert seen["plots"] == seen["drawn"] == 4
    assert (seen["outOfBounds"], seen["tooWide"], seen["off"]) == (0, False, 0)
    assert min(seen["traces"]) >= 1


def test_hostile_names_are_text_in_figures_and_around_them(seen):
    assert seen["unwanted"] == []
    assert seen["scripts"] == 5
    drawn = [" ".join(text.split()) for text in seen["svgText"]]
    hovered = "\n".join(seen["hover"])
    for name in HOSTILE:
        assert drawn.count(name) >= 3, f"{name} is not in the legends"
        assert name in seen["text"]
        assert name in hovered


@pytest.mark.parametrize("size", ["1200,2000", "400,800"])
def test_names_of_axes_neither_overlap_nor_are_cut_off(size, tmp_path):
    names = [*NAMES, "pytorch_optimizer.SOAP:weight_decay=0.01:betas=[0.9,0.95]", LOUD]
    page = render(made(names=names, sets=("reviews.csv", "a rather long name of a file of data.jsonl")))
    seen = look_at(page, tmp_path, f"--window-size={size}", probe=READ_TICKS)
    assert seen["problems"] == []
    assert not seen["tooWide"]
    assert len(seen["figures"]) == 9
    for figure in seen["figures"]:
        assert (figure["overlapping"], figure["cut"]) == ([], []), figure["title"]


@pytest.mark.parametrize("size", ["1200,2000", "400,800"])
def test_buttons_switch_between_seconds_steps_and_evaluations(size, tmp_path):
    seen = look_at(render(made()), tmp_path, f"--window-size={size}", probe=PRESS_VIEWS)
    assert seen["problems"] == []
    assert not seen["tooWide"]
    assert [group["label"] for group in seen["groups"]] == ["horizontal axis", "what is counted"]
    for group in seen["groups"]:
        names = ["seconds of training", "steps", "gradient evaluations"]
        assert [state["pressed"] for state in group["states"]] == [[name] for name in names]
        assert [state["title"] for state in group["states"]] == names
        ends = [state["end"] for state in group["states"]]
        assert 55 < ends[0] < 66
        assert (ends[1], ends[2]) == (1200, 3000 if group["label"] == "horizontal axis" else 1500)
        for state in group["states"]:
            low, high = state["range"]
            assert low <= 0 < state["end"] <= high < 1.2 * state["end"]
            assert state["cut"] == 0
    rows = [state["rows"] for state in seen["groups"][1]["states"]]
    assert rows[0][:2] == ["sgd:momentum=0.9not reached in 60 s", "adamw30.5 s"]
    assert rows[2][:2] == ["sgd:momentum=0.9not reached in 1,200 evaluations", "lbfgs1,500 evaluations"]
