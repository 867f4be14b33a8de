"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const tip = document.getElementById("tip");
  const state = { scale: "log", quantity: "x", hidden: new Set() };
  const DASHES = ["", "9 4", "3 3", "9 3 3 3"];
  const MARKS = [
    "M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0Z", "M-4,-4H4V4H-4Z", "M0,-5L5,4H-5Z",
    "M0,-5.5L5.5,0L0,5.5L-5.5,0Z", "M0,5L5,-4H-5Z",
  ];
  const dash = (run) => DASHES[run % DASHES.length];
  const mark = (run) => MARKS[run % MARKS.length];
  const tint = (run) => `tint-${run % 7}`;

  function draw(parent, name, attributes, text) {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    return parent.appendChild(node);
  }

  function number(value) {
    if (value === 0) return "0";
    const size = Math.abs(value);
    if (size >= 1e-3 && size < 1e5) return String(Number(value.toPrecision(4)));
    const [factor, power] = value.toExponential(2).split("e");
    const digits = [...String(Number(power))].map((d) => (d === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[d])).join("");
    return `${Number(factor) === 1 ? "" : `${Number(factor)}×`}10${digits}`;
  }

  function linearTicks(low, high, count) {
    const rough = (high - low) / count;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 2.5, 5, 10].map((f) => f * power).find((s) => s >= rough);
    const ticks = [];
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) ticks.push(k * step);
    return ticks;
  }

  function logTicks(low, high) {
    const decades = Math.log10(high / low);
    const factors = decades > 5 ? [1] : decades > 2 ? [1, 3] : decades > 0.7 ? [1, 2, 5] : null;
    if (!factors) return linearTicks(low, high, 5).filter((tick) => tick > 0);
    const ticks = [];
    for (let p = Math.floor(Math.log10(low)); p <= Math.log10(high); p++)
      for (const f of factors) if (f * 10 ** p >= low && f * 10 ** p <= high) ticks.push(f * 10 ** p);
    return decades > 12 ? ticks.filter((_, i) => i % 3 === 0) : ticks;
  }

  function scales(series, levels, box) {
    const points = series.flatMap((s) => s.points);
    const xs = points.map((p) => p[state.quantity]);
    const all = points.concat(series.map((s) => s.base).filter(Boolean), levels);
    const ys = all.flatMap((p) => [p.low ?? p.y, p.high ?? p.y]);
    const log = state.scale === "log";
    let [x0, x1] = [log ? Math.min(...xs) : 0, Math.max(...xs)];
    if (log) [x0, x1] = x0 === x1 ? [x0 / 2, x1 * 2] : [x0 / (x1 / x0) ** 0.04, x1 * (x1 / x0) ** 0.04];
    else x1 *= 1.03;
    let [y0, y1] = [Math.min(...ys), Math.max(...ys)];
    const margin = (y1 - y0) * 0.08 || Math.abs(y1) * 0.05 || 1;
    [y0, y1] = [y0 - margin, y1 + margin];
    const along = (v) => (log ? Math.log(v / x0) / Math.log(x1 / x0) : (v - x0) / (x1 - x0));
    return {
      x: (v) => box.left + along(v) * (box.right - box.left),
      y: (v) => box.bottom - ((v - y0) / (y1 - y0)) * (box.bottom - box.top),
      xTicks: log ? logTicks(x0, x1) : linearTicks(x0, x1, 6),
      yTicks: linearTicks(y0, y1, 6),
    };
  }

  function visible(chart) {
    const usable = (p) => p[state.quantity] != null && (state.scale === "linear" || p[state.quantity] > 0);
    return chart.series
      .filter((s) => !state.hidden.has(s.run))
      .map((s) => ({ ...s, points: s.points.filter(usable) }))
      .filter((s) => s.points.length);
  }

  function axes(svg, at, box, width) {
    for (const tick of at.yTicks) {
      draw(svg, "line", { x1: box.left, x2: box.right, y1: at.y(tick), y2: at.y(tick), class: "rule" });
      draw(svg, "text", { x: box.left - 8, y: at.y(tick) + 4, "text-anchor": "end" }, number(tick));
    }
    let free = -Infinity;
    for (const tick of at.xTicks) {
      const x = at.x(tick);
      draw(svg, "line", { x1: x, x2: x, y1: box.bottom, y2: box.bottom + 5, class: "axis" });
      if (x - 26 < free || x + 20 > width) continue;
      draw(svg, "text", { x, y: box.bottom + 19, "text-anchor": "middle", class: "tick" }, number(tick));
      free = x + 26;
    }
    draw(svg, "line", { x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom, class: "axis" });
    const label = state.quantity === "x" ? "cumulative training FLOPs" : "process hours of training";
    const middle = (box.left + box.right) / 2;
    draw(svg, "text", { x: middle, y: box.bottom + 38, "text-anchor": "middle" }, `${label} (${state.scale})`);
  }

  function drawRange(parent, level, at, box) {
    if (!(level.high > level.low)) return;
    const [top, bottom] = [at.y(level.high), at.y(level.low)];
    const size = { x: box.left, y: top, width: box.right - box.left, height: bottom - top };
    draw(parent, "rect", { class: "range", ...size });
  }

  function drawLevel(svg, level, at, box) {
    const group = draw(svg, "g", { class: "level" });
    const y = at.y(level.y);
    drawRange(group, level, at, box);
    draw(group, "line", { x1: box.left, x2: box.right, y1: y, y2: y });
    const above = at.y(level.high) - 5;
    const spot = { x: box.left + 6, y: above - 12 < box.top ? at.y(level.low) + 15 : above };
    draw(group, "text", spot, `${level.name} ${number(level.y)}`);
  }

  function drawSeries(svg, series, at, box, dense) {
    const kind = dense ? "series dense" : "series";
    const group = draw(svg, "g", { class: `${kind} ${tint(series.run)}`, "data-run": series.run });
    if (series.base) {
      const y = at.y(series.base.y);
      drawRange(group, series.base, at, box);
      draw(group, "line", { class: "base", x1: box.left, x2: box.right, y1: y, y2: y });
    }
    const spots = series.points.map((p) => ({ p, x: at.x(p[state.quantity]), y: at.y(p.y) }));
    if (!dense && series.points.some((p) => p.high > p.low)) {
      const up = spots.map((s) => `${s.x},${at.y(s.p.high)}`);
      const down = spots.map((s) => `${s.x},${at.y(s.p.low)}`).reverse();
      draw(group, "polygon", { class: "band", points: up.concat(down).join(" ") });
    }
    for (const part of new Set(spots.map((s) => s.p.part))) {
      const path = spots.filter((s) => s.p.part === part).map((s) => `${s.x},${s.y}`).join(" ");
      draw(group, "polyline", { class: "curve", points: path, "stroke-dasharray": dash(series.run) });
    }
    if (!dense || spots.length === 1)
      for (const s of spots)
        draw(group, "path", { class: "point", d: mark(series.run), transform: `translate(${s.x},${s.y})` });
    return spots.map((s) => ({ ...s, run: series.run }));
  }

  function words(spot) {
    const p = spot.p;
    const lines = [data.runs[spot.run].name, `${number(p.x)} FLOPs`];
    if (p.hours != null) lines.push(`${number(p.hours)} process hours`);
    if (p.step != null) lines.push(`step ${p.step}`);
    const range = p.seeds > 1 ? ` (${number(p.low)} to ${number(p.high)}, ${p.seeds} seeds)` : "";
    return lines.concat(`${number(p.y)}${range}`).join("\n");
  }

  function follow(svg, spots, width) {
    const ring = draw(svg, "circle", { r: 8, class: "ring", visibility: "hidden" });
    const leave = () => {
      tip.hidden = true;
      ring.setAttribute("visibility", "hidden");
    };
    svg.addEventListener("pointerleave", leave);
    svg.addEventListener("pointermove", (event) => {
      const frame = svg.getBoundingClientRect();
      const unit = width / frame.width;
      const x = (event.clientX - frame.left) * unit;
      const y = (event.clientY - frame.top) * unit;
      let best = null;
      for (const s of spots) {
        const far = Math.hypot(s.x - x, s.y - y);
        if (!best || far < best.far) best = { far, s };
      }
      if (!best || best.far > 60) return leave();
      ring.setAttribute("cx", best.s.x);
      ring.setAttribute("cy", best.s.y);
      ring.setAttribute("visibility", "visible");
      tip.textContent = words(best.s);
      tip.hidden = false;
      const left = Math.min(event.clientX + 14, window.innerWidth - tip.offsetWidth - 8);
      tip.style.left = `${left}px`;
      tip.style.top = `${Math.max(8, event.clientY - tip.offsetHeight - 12)}px`;
    });
  }

  function show(chart) {
    const figure = document.getElementById(chart.id);
    figure.replaceChildren();
    // Drawn at its real size, so that letters keep theirs; on paper two small charts share a row.
    const room = state.paper ? (chart.large ? 720 : 350) : figure.clientWidth || 1000;
    const width = Math.max(320, Math.min(chart.large ? 1040 : 560, room));
    const height = chart.large ? Math.max(300, Math.min(430, width * 0.6)) : 290;
    const box = { left: 64, right: width - 14, top: 34, bottom: height - 50 };
    const svg = draw(figure, "svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": chart.title });
    draw(svg, "text", { x: 8, y: 18, class: "title" }, chart.title);
    const series = visible(chart);
    if (!series.length) {
      draw(svg, "text", { x: width / 2, y: height / 2, "text-anchor": "middle", class: "empty" }, "nothing to show");
      return;
    }
    const levels = chart.levels.filter((l) => l.runs.some((run) => series.some((s) => s.run === run)));
    const at = scales(series, levels, box);
    axes(svg, at, box, width);
    for (const level of levels) drawLevel(svg, level, at, box);  // behind the points
    follow(svg, series.flatMap((s) => drawSeries(svg, s, at, box, chart.dense)), width);
  }

  function refresh() {
    tip.hidden = true;
    data.charts.forEach(show);
  }

  function legend() {
    const place = document.getElementById("legend");
    data.runs.forEach((run, index) => {
      const button = place.appendChild(document.createElement("button"));
      button.type = "button";
      button.setAttribute("aria-pressed", "true");
      const key = draw(button, "svg", { viewBox: "0 0 34 14", "aria-hidden": "true", class: tint(index) });
      draw(key, "line", { x1: 0, x2: 34, y1: 7, y2: 7, class: "curve", "stroke-dasharray": dash(index) });
      draw(key, "path", { d: mark(index), transform: "translate(17,7)", class: "point" });
      button.append(run.name);
      button.addEventListener("click", () => {
        const shown = state.hidden.delete(index) || !state.hidden.add(index);
        button.setAttribute("aria-pressed", String(shown));
        refresh();
      });
    });
  }

  for (const input of document.querySelectorAll("input[type=radio]")) {
    input.addEventListener("change", () => {
      state[input.name] = input.value;
      refresh();
    });
  }
  const print = (paper) => () => {
    state.paper = paper;
    refresh();
  };
  window.addEventListener("beforeprint", print(true));
  window.addEventListener("afterprint", print(false));
  window.addEventListener("resize", refresh);
  legend();
  refresh();
})();
