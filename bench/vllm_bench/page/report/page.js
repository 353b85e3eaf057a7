// Draws the charts, sorts the tables, shows what numbers mean. All data lies in #data.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const narrow = window.matchMedia("(max-width: 600px)");
  const touched = window.matchMedia("(pointer: coarse)");
  const PRINT_PX = 1000; // of the width of a landscape page
  let printing = false;

  // ---- charts ----

  const colour = (name) =>
    getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

  // A chart with the theme's colours in place of their names; the data itself stays as it is.
  const painted = (value) => {
    if (typeof value === "string") return value[0] === "@" ? colour(value.slice(1)) : value;
    if (Array.isArray(value)) return typeof value[0] === "number" ? value : value.map(painted);
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, painted(part)]));
  };

  const chartOf = (div) => data[div.dataset.section][div.dataset.kind][Number(div.dataset.index)];

  // On a wide page each panel of a timeline has its own legend beside it.
  const beside = (chart) => chart.wide && (printing || !narrow.matches);
  const traces = (chart) =>
    painted(chart.data).map((one) => (beside(chart) ? one : { ...one, legend: "legend" }));

  const dressed = (chart) => {
    const small = narrow.matches && !printing;
    const layout = {
      height: 300,
      margin: { l: small ? 44 : 56, r: 12, t: 8, b: 40 },
      paper_bgcolor: "transparent",
      plot_bgcolor: "transparent",
      font: { family: "system-ui, sans-serif", size: small ? 11 : 12, color: colour("text") },
      hoverlabel: {
        bgcolor: colour("card"), bordercolor: colour("line"), align: "left",
        font: { color: colour("text"), family: "system-ui, sans-serif" }, namelength: -1,
      },
      // A finger that drags scrolls the page.
      dragmode: touched.matches ? false : "zoom",
      uirevision: "kept",
      ...painted(chart.layout),
    };
    if (!beside(chart)) layout.legend = { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" };
    for (const key of Object.keys(layout).filter((name) => /^legend\d*$/.test(name))) {
      if (beside(chart)) layout[key] = { x: 1.01, yanchor: "top", font: { size: 10 }, ...layout[key] };
      else if (key !== "legend") delete layout[key];
      if (layout[key]) Object.assign(layout[key], { bgcolor: "transparent", tracegroupgap: 0 });
    }
    for (const key of Object.keys(layout).filter((name) => /^[xy]axis\d*$/.test(name))) {
      layout[key] = {
        gridcolor: colour("grid"), linecolor: colour("line"), zerolinecolor: colour("line"),
        tickcolor: colour("line"), showspikes: key[0] === "x", spikemode: "across",
        spikethickness: 1, spikedash: "dot", spikecolor: colour("muted"),
        ...layout[key],
      };
    }
    if (small && chart.wide) layout.height += 130; // its legend folds into many lines
    if (printing) layout.width = PRINT_PX / (chart.across ? 1 : 2) - 10;
    return layout;
  };

  const CONFIG = {
    responsive: true,
    displaylogo: false,
    displayModeBar: false, // it lies over the legend; dragging and a double click do the same
    scrollZoom: false,
    doubleClick: "reset",
  };

  const draw = (div) => {
    const chart = chartOf(div);
    chart.wide = div.dataset.kind === "timelines";
    chart.across = div.closest(".wide, .one") !== null;
    Plotly.react(div, traces(chart), dressed(chart), CONFIG);
    if (!div.dataset.drawn) {
      div.dataset.drawn = "yes";
      if (div.dataset.kind === "curves") listen(div);
    }
  };

  // A level that is hidden in one distribution is hidden in all of its scenario.
  const siblings = (div) =>
    plots.filter((other) => other.dataset.section === div.dataset.section &&
      other.dataset.kind === div.dataset.kind);
  const setVisible = (div, decide) => {
    for (const other of siblings(div)) {
      for (const trace of chartOf(other).data) trace.visible = decide(trace);
      if (other.dataset.drawn) draw(other);
    }
  };
  const shown = (trace) => trace.visible === undefined || trace.visible === true;
  const listen = (div) => {
    div.on("plotly_legendclick", ({ curveNumber }) => {
      const clicked = chartOf(div).data[curveNumber];
      const next = shown(clicked) ? "legendonly" : true;
      setVisible(div, (t) => t.legendgroup === clicked.legendgroup ? next : t.visible ?? true);
      return false;
    });
    div.on("plotly_legenddoubleclick", ({ curveNumber }) => {
      const { legendgroup } = chartOf(div).data[curveNumber];
      const alone = chartOf(div).data.every((t) => shown(t) === (t.legendgroup === legendgroup));
      setVisible(div, (t) => alone || t.legendgroup === legendgroup ? true : "legendonly");
      return false;
    });
  };

  const plots = [...document.querySelectorAll(".plot")];
  // One at a time, so that the page answers while the rest is drawn.
  const waiting = [...plots];
  const next = () => {
    const div = waiting.shift();
    if (!div) return document.documentElement.setAttribute("data-drawn", "yes");
    draw(div);
    setTimeout(next);
  };
  next();

  const redraw = () => plots.forEach((div) => div.dataset.drawn && draw(div));
  document.addEventListener("themechange", redraw);
  narrow.addEventListener("change", redraw);
  window.addEventListener("beforeprint", () => {
    printing = true;
    waiting.splice(0).forEach(draw);
    redraw();
  });
  window.addEventListener("afterprint", () => {
    printing = false;
    redraw();
  });

  for (const select of document.querySelectorAll("select[data-section]")) {
    select.addEventListener("change", () => {
      const { section } = select.dataset;
      const div = plots.find((p) => p.dataset.section === section && p.dataset.kind === "timelines");
      div.dataset.index = select.value;
      document.getElementById(`${section}-note`).textContent = chartOf(div).note;
      Plotly.purge(div);
      draw(div);
    });
  }

  // ---- tables ----

  const keyOf = (row, place) => row.cells[place].dataset.sort;
  const compared = (a, b, sign) => {
    if (a === "" || b === "") return (a === "") - (b === ""); // what isn't there comes last
    const [x, y] = [Number(a), Number(b)];
    if (!Number.isNaN(x) && !Number.isNaN(y)) return sign * (x - y);
    return sign * a.localeCompare(b);
  };
  const sortBy = (heading) => {
    const table = heading.closest("table");
    const place = heading.cellIndex;
    const rising = heading.getAttribute("aria-sort") !== "ascending";
    for (const other of table.querySelectorAll("th[aria-sort]")) {
      other.setAttribute("aria-sort", "none");
    }
    heading.setAttribute("aria-sort", rising ? "ascending" : "descending");
    const body = table.tBodies[0];
    const sign = rising ? 1 : -1;
    body.append(...[...body.rows].sort((a, b) => compared(keyOf(a, place), keyOf(b, place), sign)));
  };
  for (const button of document.querySelectorAll("th[aria-sort] button")) {
    button.addEventListener("click", () => sortBy(button.closest("th")));
  }

  // ---- what things mean: on hover, on focus, on a tap ----

  const tip = document.getElementById("tip");
  let about = null;
  const show = (target) => {
    if (target.title) {
      target.dataset.tip = target.title; // else the browser shows its own beside this one
      target.removeAttribute("title");
    }
    about = target;
    tip.textContent = target.dataset.tip;
    tip.hidden = false;
    target.setAttribute("aria-describedby", "tip");
    place();
  };
  const place = () => {
    if (!about) return;
    const box = about.getBoundingClientRect();
    const left = Math.min(box.left, document.documentElement.clientWidth - tip.offsetWidth - 8);
    const below = box.bottom + 6 + tip.offsetHeight < window.innerHeight;
    tip.style.left = `${Math.max(8, left)}px`;
    tip.style.top = `${below ? box.bottom + 6 : box.top - tip.offsetHeight - 6}px`;
  };
  const hide = () => {
    if (about) about.removeAttribute("aria-describedby");
    about = null;
    tip.hidden = true;
  };
  const explained = (event) => event.target.closest?.("main [title], main [data-tip]");
  for (const name of ["mouseover", "focusin", "click"]) {
    document.addEventListener(name, (event) => {
      const target = explained(event);
      if (target) show(target);
      else if (name !== "focusin") hide();
    });
  }
  document.addEventListener("focusout", hide);
  document.addEventListener("keydown", (event) => event.key === "Escape" && hide());
  document.addEventListener("scroll", place, { passive: true, capture: true });
})();
