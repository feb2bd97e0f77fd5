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
    dispatchEvent(new Event("beforeprint"));
    seen.printed = plots.map((plot) => plot._fullLayout.width);
    dispatchEvent(new Event("afterprint"));
    await pause(100);
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
});
"""


def watched(page):
    """Return a page with the two scripts above, which its own policy is widened to allow."""
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in (COLLECT, PROBE)
    )
    assert page.count("; script-src ") == 1
    page = page.replace("; script-src ", f"; script-src {hashes} ").replace(
        "; script-src " + hashes + " 'none'", "; script-src " + hashes
    )
    first, rest = page.split('<meta name="viewport"', 1)
    page = f'{first}<script>{COLLECT}</script>\n<meta name="viewport"{rest}'
    return page.replace("</body>", f"<script>{PROBE}</script>\n</body>")


def look_at(page, folder, *options):
    """Open a page in the browser and return what the probe saw."""
    path = folder / "page.html"
    path.write_text(watched(page), encoding="utf-8")
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
    seen = json.loads(html.unescape(found[1]))
    assert seen["failed"] is None
    return seen
