  // Drawing: one chart as SVG, from the lines that page.js makes of the runs.
  const DASHES = ["", "9 4", "3 3", "9 3 3 3"];
  const MARKS = [
    "M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0Z", "M-4,-4H4V4H-4Z", "M0,-5L5,4H-5Z",
    "M0,-5.5L5.5,0L0,5.5L-5.5,0Z", "M0,5L5,-4H-5Z",
  ];
  const EVENT = "M0,0L5,8H-5Z";
  // Color and dash together are another pair for each of 28 lines, color and mark for each of 35.
  const dash = (index) => DASHES[((index % 7) + Math.floor(index / 7)) % DASHES.length];
  const mark = (index) => MARKS[((index % 7) + Math.floor(index / 7)) % MARKS.length];
  const tint = (index) => `tint-${index % 7}`;
  const AXES = {
    flops: "cumulative training FLOPs", tokens: "tokens read", step: "updates",
    hours: "process hours of training",
  };

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

  function scales(lines, levels, box) {
    const points = lines.flatMap((line) => line.points);
    const xs = points.map((p) => p[state.quantity]);
    const all = points.concat(lines.map((line) => line.base).filter(Boolean), levels);
    const ys = all.flatMap((p) => [p.low ?? p.y, p.high ?? p.y, p.raw ?? p.y]);
    const log = state.scale === "log";
    const extent = (values) => values.reduce(([a, b], v) => [Math.min(a, v), Math.max(b, v)], [Infinity, -Infinity]);
    let [x0, x1] = extent(xs);
    if (log) [x0, x1] = x0 === x1 ? [x0 / 2, x1 * 2] : [x0 / (x1 / x0) ** 0.04, x1 * (x1 / x0) ** 0.04];
    else [x0, x1] = [0, x1 * 1.03 || 1];
    let [y0, y1] = extent(ys);
    // What differs by rounding alone is flat: there is no room for ticks between such numbers.
    const flat = y1 - y0 <= 1e-9 * Math.max(Math.abs(y0), Math.abs(y1));
    const margin = flat ? Math.abs(y1) * 0.05 || 1 : (y1 - y0) * 0.08;
    [y0, y1] = [y0 - margin, y1 + margin];
    const along = (v) => (log ? Math.log(v / x0) / Math.log(x1 / x0) : (v - x0) / (x1 - x0));
    return {
      x: (v) => box.left + along(v) * (box.right - box.left),
      y: (v) => box.bottom - ((v - y0) / (y1 - y0)) * (box.bottom - box.top),
      xTicks: log ? logTicks(x0, x1) : linearTicks(x0, x1, 6),
      yTicks: linearTicks(y0, y1, 6),
    };
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
      const label = number(tick);
      const half = 4 * label.length;
      if (x - half < free || x + half > width) continue;
      draw(svg, "text", { x, y: box.bottom + 19, "text-anchor": "middle", class: "tick" }, label);
      free = x + half;
    }
    draw(svg, "line", { x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom, class: "axis" });
    const middle = (box.left + box.right) / 2;
    const title = `${AXES[state.quantity]} (${state.scale})`;
    draw(svg, "text", { x: middle, y: box.bottom + 38, "text-anchor": "middle" }, title);
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

  function polyline(group, kind, spots, index, height) {
    for (const part of new Set(spots.map((s) => s.p.part))) {
      const path = spots.filter((s) => s.p.part === part).map((s) => `${s.x},${height(s)}`).join(" ");
      draw(group, "polyline", { class: kind, points: path, "stroke-dasharray": dash(index) });
    }
  }

  // One line with its band, its untrained level and its events; returns what can be pointed at.
  function drawLine(svg, line, at, box) {
    const index = line.index;
    const kind = line.dense ? "series dense" : "series";
    const group = draw(svg, "g", { class: `${kind} ${tint(index)}`, "data-run": index });
    if (line.base) {
      const y = at.y(line.base.y);
      drawRange(group, line.base, at, box);
      draw(group, "line", { class: "base", x1: box.left, x2: box.right, y1: y, y2: y });
    }
    const spots = line.points.map((p) => ({ p, line, x: at.x(p[state.quantity]), y: at.y(p.y) }));
    if (spots.some((s) => s.p.high > s.p.low)) {
      const up = spots.map((s) => `${s.x},${at.y(s.p.high ?? s.p.y)}`);
      const down = spots.map((s) => `${s.x},${at.y(s.p.low ?? s.p.y)}`).reverse();
      draw(group, "polygon", { class: "band", points: up.concat(down).join(" ") });
    }
    if (line.dense && state.smooth > 0 && !line.several)
      polyline(group, "curve raw", spots, index, (s) => at.y(s.p.raw));
    polyline(group, "curve", spots, index, (s) => s.y);
    if (!line.dense || spots.length === 1)
      for (const s of spots)
        draw(group, "path", { class: "point", d: mark(index), transform: `translate(${s.x},${s.y})` });
    const events = line.events.map((p) => ({ p, line, x: at.x(p[state.quantity]), y: box.bottom - 8 }));
    for (const s of events)
      draw(group, "path", { class: "event", d: EVENT, transform: `translate(${s.x},${s.y})` });
    return spots.concat(events);
  }

  // The lines' numbers at their ends, kept apart: they tell lines apart without colors.
  function drawEnds(svg, lines, at, box) {
    const placed = [];
    const free = (end) => placed.every((o) => Math.abs(o.x - end.x) > 15 || Math.abs(o.y - end.y) > 11);
    for (const line of lines) {
      const p = line.points[line.points.length - 1];
      const end = { x: Math.min(at.x(p[state.quantity]) + 6, box.right + 4), y: at.y(p.y) + 4 };
      const middle = end.y;
      for (let n = 1; !free(end) && n < 60; n++) end.y = middle + (n % 2 ? 1 : -1) * Math.ceil(n / 2) * 4;
      placed.push(end);
      draw(svg, "text", { x: end.x, y: end.y, class: "end" }, line.index + 1);
    }
  }

  function drawChart(chart, lines, figure) {
    // Drawn at its real size, so that letters keep theirs; on paper two small charts share a row.
    const room = state.paper ? (chart.large ? 720 : 350) : figure.clientWidth || 1000;
    const width = Math.max(280, Math.min(chart.large ? 1040 : 560, room));
    const height = chart.large ? Math.max(300, Math.min(430, width * 0.6)) : 270;
    const box = { left: 64, right: width - (lines.length > 1 ? 26 : 14), top: 34, bottom: height - 50 };
    const label = `${chart.title}: arrow keys go from point to point`;
    const svg = draw(figure, "svg", {
      viewBox: `0 0 ${width} ${height}`, role: "application", tabindex: 0, "aria-label": label, id: `${chart.id}-svg`,
    });
    draw(svg, "text", { x: 8, y: 18, class: "title" }, chart.title);
    if (!lines.length) {
      const words = `nothing over ${AXES[state.quantity]}`;
      draw(svg, "text", { x: width / 2, y: height / 2, "text-anchor": "middle", class: "empty" }, words);
      return;
    }
    const levels = chart.levels.filter((l) => l.runs.some((run) => lines.some((line) => line.runs.includes(run))));
    const at = scales(lines, levels, box);
    axes(svg, at, box, width);
    for (const level of levels) drawLevel(svg, level, at, box);  // behind the points
    const spots = lines.map((line) => drawLine(svg, line, at, box));
    if (lines.length > 1) drawEnds(svg, lines, at, box);
    follow(svg, spots, width);
  }

  function words(spot) {
    const p = spot.p;
    const lines = [spot.line.name];
    if (p.label) lines.push(p.label);
    if (p.flops != null) lines.push(`${number(p.flops)} FLOPs`);
    if (p.tokens != null) lines.push(`${number(p.tokens)} tokens`);
    if (p.hours != null) lines.push(`${number(p.hours)} process hours`);
    if (p.step != null) lines.push(`step ${p.step}`);
    const range = p.seeds > 1 ? ` (${number(p.low)} to ${number(p.high)}, ${p.seeds} seeds)` : "";
    return lines.concat(p.y === undefined ? [] : `${number(p.y)}${range}`).join("\n");
  }

  // Shows the point that is nearest to the pointer, or the one that the arrow keys reached.
  function follow(svg, series, width) {
    const ring = draw(svg, "circle", { r: 8, class: "ring", visibility: "hidden" });
    let [row, column] = [0, -1];
    const leave = () => {
      tip.hidden = true;
      ring.setAttribute("visibility", "hidden");
    };
    const point = (spot) => {
      const frame = svg.getBoundingClientRect();
      const unit = frame.width / width;
      ring.setAttribute("cx", spot.x);
      ring.setAttribute("cy", spot.y);
      ring.setAttribute("visibility", "visible");
      tip.textContent = words(spot);
      tip.hidden = false;
      const left = Math.min(frame.left + spot.x * unit + 14, window.innerWidth - tip.offsetWidth - 8);
      tip.style.left = `${Math.max(4, left)}px`;
      tip.style.top = `${Math.max(8, frame.top + spot.y * unit - tip.offsetHeight - 12)}px`;
    };
    svg.addEventListener("pointerleave", leave);
    svg.addEventListener("blur", leave);
    svg.addEventListener("pointermove", (event) => {
      const frame = svg.getBoundingClientRect();
      const unit = width / frame.width;
      const x = (event.clientX - frame.left) * unit;
      const y = (event.clientY - frame.top) * unit;
      let best = null;
      for (const s of series.flat()) {
        const far = Math.hypot(s.x - x, s.y - y);
        if (!best || far < best.far) best = { far, s };
      }
      if (!best || best.far > 60) return leave();
      point(best.s);
    });
    svg.addEventListener("keydown", (event) => {
      if (event.key === "Escape") return leave();
      const [down, right] = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key] || [];
      if (down === undefined) return;
      event.preventDefault();
      row = (row + down + series.length) % series.length;
      column = Math.max(0, Math.min(series[row].length - 1, column + right));
      point(series[row][column]);
    });
  }

