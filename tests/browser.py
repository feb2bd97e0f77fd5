"""A page opened in a real browser, with a watch for everything that goes wrong."""

import base64
import hashlib
import html
import json
import os
import re
import shutil
import subprocess

BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)

# Short enough to be shown whole on an axis.
HOSTILE = [
    "<script>x</script>",
    "</script>",
    "<b>bold</b>",
    "<a href='//x.y'>k</a>",
    "<img src=x onerror=1>",
    "&lt;i&gt; &#60;",
    "%{y} %{meta[0]}",
    "{{ 7*7 }} ${alert(1)}",
    "<br>line<sup>2</sup>",
    '"><svg onload=x>',
]
LOUD = '</script><script>alert(1)</script>"><img src=x onerror="alert(2)"><iframe src=\'https://example.com\'></iframe>'

# Runs first: notes everything that goes wrong.
COLLECT = """
window.problems = [];
addEventListener("error", (e) => problems.push("error: " + (e.message || e.target.outerHTML)), true);
addEventListener("unhandledrejection", (e) => problems.push("rejection: " + e.reason));
addEventListener("securitypolicyviolation", (e) =>
  problems.push("policy: " + e.violatedDirective + " " + e.blockedURI));
for (const level of ["error", "warn"]) console[level] = (...words) => problems.push(level + ": " + words.join(" "));
window.alert = (words) => problems.push("alert: " + words);
"""

# Runs last: uses the page as a reader does and writes down what there is to see.
PROBE = """
addEventListener("load", async () => {
  const seen = { problems, hover: [], failed: null };
  try {
    const pause = (ms) => new Promise((done) => setTimeout(done, ms));
    const plots = [...document.querySelectorAll(".plot")];
    const all = (selector) => [...document.querySelectorAll(selector)];
    await pause(300);
    seen.folded = plots.filter((plot) => !plot.querySelector(".main-svg")).length;
    seen.headings = all("h2").filter((heading) => heading.id).map((heading) => heading.id);
    const curves = document.querySelector("details.curves");
    if (curves) curves.open = true;
    await pause(300);
    seen.text = document.querySelector("main").textContent;
    seen.plots = plots.length;
    seen.drawn = plots.filter((plot) => plot.querySelector(".main-svg .cartesianlayer .subplot")).length;
    seen.traces = plots.map((plot) => plot.querySelectorAll(".trace, .hm").length);
    seen.outOfBounds = plots.filter((plot) => plot.querySelector(".main-svg").getBoundingClientRect().width
      > plot.getBoundingClientRect().width + 1).length;
    seen.svgText = all("svg text").map((text) => text.textContent);
    seen.tooWide = document.documentElement.scrollWidth > innerWidth;
    seen.toggles = all(".toggle:not([hidden])").map((button) => {
      const plot = button.closest(".panel").querySelector(".plot");
      const kinds = [plot.layout.yaxis.type];
      for (const _ of [1, 2]) { button.click(); kinds.push(plot.layout.yaxis.type); }
      return kinds;
    });
    for (const plot of plots) {
      for (const [i, trace] of plot._fullData.entries()) {
        const isMap = trace.type === "heatmap";
        const query = isMap ? { xval: +trace.x[0] || 0, yval: 0 } : [{ curveNumber: i, pointNumber: 0 }];
        Plotly.Fx.hover(plot, query, trace.xaxis + trace.yaxis);
        await pause(60);
        seen.hover.push(plot.querySelector(".hoverlayer").textContent);
        Plotly.Fx.unhover(plot);
        await pause(60);
      }
    }
    if (curves) curves.open = false;
    await pause(100);
    dispatchEvent(new Event("beforeprint"));
    seen.printed = plots.map((plot) => plot._fullLayout.width);
    seen.closedOnPaper = all("details:not([open])").length;
    dispatchEvent(new Event("afterprint"));
    await pause(100);
    seen.openAfterwards = all("details[open]").length;
    if (curves) curves.open = true;
    await pause(300);
    seen.off = plots.filter((plot) => Math.abs(plot._fullLayout.width
      - Math.max(plot.getBoundingClientRect().width, 1)) > 2).length;
    seen.unwanted = all("img, iframe, object, embed, form, svg a, svg script, svg foreignObject, svg [onload]")
      .filter((element) => !element.closest(".modebar")).map((element) => element.outerHTML.slice(0, 200));
    seen.scripts = document.scripts.length;
    seen.requests = performance.getEntriesByType("resource").map((entry) => entry.name)
      .filter((name) => !/^(data|blob):/.test(name));
  } catch (error) {
    seen.failed = String(error.stack || error);
  }
  const box = document.createElement("pre");
  box.id = "seen";
  box.textContent = JSON.stringify(seen);
  document.body.append(box);
  if (parent !== window) parent.postMessage(box.textContent, "*");
});
"""

# Runs last, too: opens every fold and writes down the names at the axes of every figure, from left to right or from the
# top down, with the hover text of a heat map's cells on the diagonal, and whether names overlap or are cut off.
READ_TICKS = """
addEventListener("load", async () => {
  const seen = { problems, figures: [], failed: null };
  try {
    const pause = (ms) => new Promise((done) => setTimeout(done, ms));
    document.querySelectorAll("details").forEach((fold) => { fold.open = true; });
    await pause(500);
    for (const plot of document.querySelectorAll(".plot")) {
      const frame = plot.querySelector(".main-svg").getBoundingClientRect();
      const read = (axis, start, end) => [...plot.querySelectorAll(`.${axis}tick text`)]
        .map((text) => ({ text: text.textContent, box: text.getBoundingClientRect() }))
        .sort((a, b) => a.box[start] - b.box[start]);
      const x = read("x", "right", "left"), y = read("y", "top", "bottom");
      const overlapping = y.filter((tick, i) => i && tick.box.top < y[i - 1].box.bottom - 1);
      const cut = [...x, ...y].filter(({ box }) => box.left < frame.left - 1 || box.right > frame.right + 1
        || box.top < frame.top - 1 || box.bottom > frame.bottom + 1);
      const hover = [];
      const map = plot._fullData.find((trace) => trace.type === "heatmap");
      for (let i = 0; map && i < Math.min(map.y.length, 12); i++) {
        Plotly.Fx.hover(plot, { xval: map.x[Math.min(i, map.x.length - 1)], yval: i }, "xy");
        await pause(60);
        hover.push(plot.querySelector(".hoverlayer").textContent);
        Plotly.Fx.unhover(plot);
      }
      const texts = (ticks) => ticks.map((tick) => tick.text);
      const legend = [...plot.querySelectorAll(".legendtext")].map((text) => text.textContent);
      seen.figures.push({ title: plot.getAttribute("aria-label"), hover, x: texts(x), y: texts(y), legend,
        overlapping: texts(overlapping), cut: texts(cut),
        sizes: [...x, ...y].map((tick) => tick.box.height), width: frame.width });
    }
    seen.tooWide = document.documentElement.scrollWidth > innerWidth;
  } catch (error) {
    seen.failed = String(error.stack || error);
  }
  const box = document.createElement("pre");
  box.id = "seen";
  box.textContent = JSON.stringify(seen);
  document.body.append(box);
  if (parent !== window) parent.postMessage(box.textContent, "*");
});
"""


def watched(page, probe=PROBE):
    """Return a page with `COLLECT` and a probe, which its own policy is widened to allow."""
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in (COLLECT, probe)
    )
    assert page.count("; script-src ") == 1
    page = page.replace("; script-src ", f"; script-src {hashes} ").replace(
        "; script-src " + hashes + " 'none'", "; script-src " + hashes
    )
    first, rest = page.split('<meta name="viewport"', 1)
    page = f'{first}<script>{COLLECT}</script>\n<meta name="viewport"{rest}'
    return page.replace("</body>", f"<script>{probe}</script>\n</body>")


# A page that opens others one after the other, each in a frame as large as a window, and writes down what they tell.
FRAMES = """<!DOCTYPE html><body><script>
const seen = [], names = %s;
const open = () => {
  const frame = document.createElement("iframe");
  Object.assign(frame, { src: names[seen.length], width: 800, height: 600 });
  document.body.replaceChildren(frame);
};
addEventListener("message", (event) => {
  seen.push(event.data);
  if (seen.length < names.length) return open();
  const box = document.createElement("pre");
  box.id = "seen";
  box.textContent = JSON.stringify(seen);
  document.body.replaceChildren(box);
});
open();
</script></body>
"""


def look_at(page, folder, *options, probe=PROBE):
    """Open a page in the browser and return what the probe saw."""
    path = folder / "page.html"
    path.write_text(watched(page, probe), encoding="utf-8")
    return _checked(_browse(path, *options))


def look_at_all(pages, folder):
    """Open pages one after the other in one browser, which starts as slowly as a page opens; return what was seen."""
    names = [f"{i}.html" for i in range(len(pages))]
    for name, page in zip(names, pages, strict=True):
        (folder / name).write_text(watched(page), encoding="utf-8")
    path = folder / "frames.html"
    path.write_text(FRAMES % json.dumps(names), encoding="utf-8")
    return [_checked(json.loads(found)) for found in _browse(path)]


def _browse(path, *options):
    """Return what a page that is opened in the browser has written down in the end."""
    folder = path.parent
    command = [
        *(BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars"),
        *("--disable-dev-shm-usage", f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=30000"),
        *("--timeout=60000", "--dump-dom", *options, path.as_uri()),
    ]
    environment = {**os.environ, "HOME": str(folder)}
    run = subprocess.run(command, capture_output=True, timeout=240, check=False, env=environment)
    dom = run.stdout.decode("utf-8", "replace")
    found = re.search(r'<pre id="seen">(.*?)</pre>', dom, re.DOTALL)
    assert found, f"the page did not finish: {run.stderr.decode()[-2000:]}"
    return json.loads(html.unescape(found[1]))


def _checked(seen):
    assert seen["failed"] is None
    return seen
