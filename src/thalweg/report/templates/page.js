(() => {
  "use strict";
  const { themes, figures } = JSON.parse(document.getElementById("figures").textContent);
  const plots = [...document.querySelectorAll(".plot")];
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const touch = matchMedia("(pointer: coarse)").matches;
  const hovers = matchMedia("(hover: hover)").matches;
  const theme = () => (dark.matches ? themes.dark : themes.light);
  const config = {
    displaylogo: false,
    showLink: false,
    typesetMath: false,
    plotlyServerURL: "",
    topojsonURL: "about:blank",
    modeBarButtons: [["zoom2d", "pan2d", "resetScale2d", "toImage"]],
    toImageButtonOptions: { scale: 2 },
    displayModeBar: hovers ? "hover" : false,
  };

  let printing = false;

  // A figure is drawn when there is room for it: one in a fold has none until that is opened.
  const drawn = new Set();
  const draw = (plot) => {
    if (drawn.has(plot)) return;
    drawn.add(plot);
    const { data, layout, views } = figures[plots.indexOf(plot)];
    // Dragging on a touch screen must scroll the page, not zoom the figure.
    Plotly.newPlot(plot, data, { ...layout, template: theme(), dragmode: touch ? false : "zoom" }, config);
    const button = plot.closest(".panel").querySelector(".toggle");
    if (button) offerLogarithm(button, plot);
    const group = plot.closest(".panel").querySelector(".views");
    if (group) offerViews(group, plot, views);
  };

  const offerViews = (group, plot, views) => {
    const buttons = [...group.querySelectorAll("button")];
    buttons.forEach((button, i) => button.addEventListener("click", () => {
      Plotly.update(plot, views[i].traces, views[i].layout);
      buttons.forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
    }));
    group.hidden = false;
  };

  const offerLogarithm = (button, plot) => {
    const press = () => button.setAttribute("aria-pressed", String(plot.layout.yaxis.type === "log"));
    button.addEventListener("click", () => {
      const type = plot.layout.yaxis.type === "log" ? "linear" : "log";
      Plotly.relayout(plot, {
        "yaxis.type": type,
        "yaxis.autorange": true,
        "yaxis.tickmode": type === "log" ? "array" : "auto",
      }).then(press);
    });
    button.hidden = false;
    press();
  };

  const isShown = (plot) => plot.offsetWidth > 0 && !plot.closest("details:not([open])");
  const drawShown = () => plots.filter(isShown).forEach(draw);
  drawShown();
  document.querySelectorAll("details").forEach((fold) => fold.addEventListener("toggle", drawShown));
  const resized = new ResizeObserver((entries) => {
    for (const { target, contentRect } of entries) {
      if (!drawn.has(target) || !isShown(target) || printing) continue;
      if (Math.abs(contentRect.width - target._fullLayout.width) > 1) {
        Plotly.relayout(target, { width: null, autosize: true });
      }
    }
  });
  plots.forEach((plot) => resized.observe(plot));

  dark.addEventListener("change", () => drawn.forEach((plot) => Plotly.relayout(plot, { template: theme() })));

  // Paper is white and narrower than most windows, and nobody can open a fold on it.
  let opened = [];
  addEventListener("beforeprint", () => {
    printing = true;
    opened = [...document.querySelectorAll("details:not([open])")];
    opened.forEach((fold) => { fold.open = true; });
    for (const plot of plots) {
      draw(plot);
      const half = plot.closest(".half") ? 290 : 620;
      const width = Math.min(half, parseInt(getComputedStyle(plot.parentElement).maxWidth, 10) || half);
      Plotly.relayout(plot, { template: themes.light, width });
    }
  });
  addEventListener("afterprint", () => {
    printing = false;
    opened.forEach((fold) => { fold.open = false; });
    for (const plot of plots) Plotly.relayout(plot, { template: theme(), width: null, autosize: true });
  });
})();
