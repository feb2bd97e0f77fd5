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

  plots.forEach((plot, i) => {
    // Dragging on a touch screen must scroll the page, not zoom the figure.
    const layout = { ...figures[i].layout, template: theme(), dragmode: touch ? false : "zoom" };
    Plotly.newPlot(plot, figures[i].data, layout, config);
  });

  const resized = new ResizeObserver((entries) => {
    for (const { target, contentRect } of entries) {
      if (contentRect.width && Math.abs(contentRect.width - target._fullLayout.width) > 1 && !printing) {
        Plotly.relayout(target, { width: null, autosize: true });
      }
    }
  });
  plots.forEach((plot) => resized.observe(plot));

  for (const button of document.querySelectorAll(".toggle")) {
    const plot = button.closest(".panel").querySelector(".plot");
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
  }

  const paint = (template) => plots.forEach((plot) => Plotly.relayout(plot, { template }));
  dark.addEventListener("change", () => paint(theme()));

  // Paper is white and narrower than most windows.
  addEventListener("beforeprint", () => {
    printing = true;
    for (const plot of plots) {
      const half = plot.closest(".half") ? 290 : 620;
      const width = Math.min(half, parseInt(getComputedStyle(plot.parentElement).maxWidth, 10) || half);
      Plotly.relayout(plot, { template: themes.light, width });
    }
  });
  addEventListener("afterprint", () => {
    printing = false;
    for (const plot of plots) Plotly.relayout(plot, { template: theme(), width: null, autosize: true });
  });
})();
