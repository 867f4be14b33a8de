  // The page: which lines there are, what the reader chose, and looking again while a run trains.
  const data = JSON.parse(document.getElementById("data").textContent);
  const tip = document.getElementById("tip");
  const state = { ...data.start, smooth: 0, grouped: true, hidden: [], paper: false };

  // What has a line: runs, or those that differ in nothing but the seed together.
  function entities() {
    const groups = state.grouped ? data.groups : [];
    const grouped = groups.flatMap((group) => group.runs);
    const alone = data.runs.map((run, i) => ({ name: run.name, runs: [i] })).filter((e) => !grouped.includes(e.runs[0]));
    return [...groups, ...alone]
      .sort((a, b) => a.runs[0] - b.runs[0])
      .map((entity, index) => ({ ...entity, index }));
  }

  function pointsOf(series, smooth) {
    if (series.points) return series.points.map((p) => ({ ...p, raw: p.y }));
    return series.values.flatMap((values, part) => {
      const rows = data.runs[series.run].parts[part];
      let [sum, weight] = [0, 0];
      return values.flatMap((raw, i) => {
        if (raw === null) return [];
        [sum, weight] = [smooth * sum + (1 - smooth) * raw, smooth * weight + 1 - smooth];
        const place = { flops: rows.flops[i], tokens: rows.tokens[i], step: rows.step[i], hours: rows.hours[i] };
        return [{ ...place, part, raw, y: sum / weight }];
      });
    });
  }

  const usable = (p) => p[state.quantity] != null && (state.scale === "linear" || p[state.quantity] > 0);

  function between(points, x) {
    const key = state.quantity;
    const slack = 1e-9 * Math.abs(x);
    if (x < points[0][key] - slack || x > points[points.length - 1][key] + slack) return null;
    let [first, behind] = [0, points.length - 1];
    while (first < behind) {
      const middle = (first + behind) >> 1;
      if (points[middle][key] >= x - slack) behind = middle;
      else first = middle + 1;
    }
    const [a, b] = [points[Math.max(0, behind - 1)], points[behind]];
    const share = b[key] > a[key] ? Math.min(1, (x - a[key]) / (b[key] - a[key])) : 1;
    const mix = (of) => of(a) + share * (of(b) - of(a));
    return { y: mix((p) => p.y), low: mix((p) => p.low ?? p.y), high: mix((p) => p.high ?? p.y), seeds: b.seeds ?? 1 };
  }

  function median(values) {
    const sorted = [...values].sort((a, b) => a - b);
    const middle = sorted.length >> 1;
    return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
  }

  function spread(found) {
    return {
      y: median(found.map((p) => p.y)), low: Math.min(...found.map((p) => p.low ?? p.y)),
      high: Math.max(...found.map((p) => p.high ?? p.y)), seeds: found.reduce((sum, p) => sum + (p.seeds ?? 1), 0),
    };
  }

  // Several seeds as one line: at every place of any of them the median and the range of those that
  // came as far.
  function together(members) {
    const key = state.quantity;
    const places = members.flat().sort((a, b) => a[key] - b[key]);
    return places.filter((p, i) => !i || p[key] > places[i - 1][key] * (1 + 1e-9)).map((p) => {
      const found = members.map((points) => between(points, p[key])).filter(Boolean);
      return { ...p, ...spread(found) };
    });
  }

  function lineOf(chart, entity, smooth) {
    const members = chart.series.filter((s) => entity.runs.includes(s.run));
    const points = members.map((s) => pointsOf(s, smooth).filter(usable)).filter((found) => found.length);
    if (!points.length) return null;
    const several = points.length > 1;
    const bases = members.map((s) => s.base).filter(Boolean);
    const dense = Boolean(members[0].values);
    const events = dense ? entity.runs.flatMap((run) => data.runs[run].events).filter(usable) : [];
    const base = bases.length ? (several ? spread(bases) : bases[0]) : null;
    return { ...entity, dense, several, base, events, points: several ? together(points) : points[0] };
  }

  function linesOf(chart, smooth) {
    const shown = entities().filter((entity) => !state.hidden.includes(entity.name));
    return shown.map((entity) => lineOf(chart, entity, smooth)).filter(Boolean);
  }

  function refresh() {
    tip.hidden = true;
    for (const chart of data.charts) {
      const figure = document.getElementById(chart.id);
      figure.replaceChildren();
      const folded = figure.closest("details:not([open])");
      if (!folded) drawChart(chart, linesOf(chart, state.smooth), figure);
    }
    keep();
  }

  function stress(index) {
    for (const group of document.querySelectorAll("figure .series"))
      group.classList.toggle("faded", index !== null && Number(group.dataset.run) !== index);
  }

  function legend() {
    const place = document.getElementById("legend");
    const found = entities();
    place.replaceChildren();
    if (data.runs.length < 2) return;
    for (const entity of found) {
      const { index, name } = entity;
      const button = place.appendChild(document.createElement("button"));
      button.type = "button";
      button.id = `run-${index}`;
      button.setAttribute("aria-pressed", String(!state.hidden.includes(name)));
      const key = draw(button, "svg", { viewBox: "0 0 34 14", "aria-hidden": "true", class: tint(index) });
      draw(key, "line", { x1: 0, x2: 34, y1: 7, y2: 7, class: "curve", "stroke-dasharray": dash(index) });
      draw(key, "path", { d: mark(index), transform: "translate(17,7)", class: "point" });
      button.appendChild(document.createElement("b")).textContent = index + 1;
      button.append(name);
      button.addEventListener("click", () => {
        const hidden = state.hidden.includes(name);
        state.hidden = hidden ? state.hidden.filter((other) => other !== name) : [...state.hidden, name];
        button.setAttribute("aria-pressed", String(hidden));
        refresh();
      });
      for (const kind of ["pointerenter", "focus"]) button.addEventListener(kind, () => stress(index));
      for (const kind of ["pointerleave", "blur"]) button.addEventListener(kind, () => stress(null));
    }
  }

  // What the charts show, point by point and not smoothed.
  function table() {
    return data.charts.flatMap((chart) => linesOf(chart, 0).flatMap((line) => line.points.map((p) => ({
      chart: chart.title, run: line.name, flops: p.flops, tokens: p.tokens, update: p.step, process_hours: p.hours,
      value: p.y, low: p.low ?? p.y, high: p.high ?? p.y, seeds: p.seeds ?? 1,
    }))));
  }

  function save(name, type, text) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  function csv() {
    const quoted = (cell) => (/[",\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell);
    const rows = table();
    const heads = Object.keys(rows[0] ?? {});
    const lines = [heads, ...rows.map((row) => heads.map((head) => quoted(String(row[head] ?? ""))))];
    save("runs.csv", "text/csv", `${lines.map((line) => line.join(",")).join("\n")}\n`);
  }

  const control = (id) => document.getElementById(id);
  const samples = control("point");

  function controls() {
    control("quantity").value = state.quantity;
    control("quantity").addEventListener("change", (event) => {
      state.quantity = event.target.value;
      refresh();
    });
    for (const input of document.querySelectorAll("input[name=scale]")) {
      input.checked = input.value === state.scale;
      input.addEventListener("change", () => {
        state.scale = input.value;
        refresh();
      });
    }
    control("smooth").value = state.smooth;
    control("smooth").addEventListener("input", (event) => {
      state.smooth = Number(event.target.value);
      refresh();
    });
    control("grouping").hidden = !data.groups.length;
    control("grouped").checked = state.grouped;
    control("grouped").addEventListener("change", (event) => {
      state.grouped = event.target.checked;
      legend();
      refresh();
    });
    control("csv").addEventListener("click", csv);
    control("json").addEventListener("click", () => save("runs.json", "application/json", JSON.stringify(table(), null, 1)));
    for (const part of document.querySelectorAll("details")) part.addEventListener("toggle", refresh);
  }

  // A page of a run that trains looks again; what the reader chose outlives that in this tab.
  const KEPT = "convbert";
  const memory = (() => {
    try { return data.live && window.sessionStorage; } catch { return null; }  // the browser may forbid it
  })();

  function keep() {
    if (!memory) return;
    const folds = [...document.querySelectorAll("details")].filter((d) => d.id).map((d) => [d.id, d.open]);
    const sample = samples && samples.value !== samples.max ? samples.value : null;
    const paused = control("refresh") ? !control("refresh").checked : false;
    const focus = document.activeElement?.id ?? "";
    memory.setItem(KEPT, JSON.stringify({ state: { ...state, paper: false }, folds, sample, paused, focus }));
  }

  function restore() {
    const kept = memory && JSON.parse(memory.getItem(KEPT) ?? "null");
    if (!kept) return;
    Object.assign(state, kept.state);
    for (const [id, open] of kept.folds) if (control(id)) control(id).open = open;
    if (control("refresh")) control("refresh").checked = !kept.paused;
    if (samples && kept.sample !== null) {
      samples.value = kept.sample;
      samples.dispatchEvent(new Event("input"));
    }
    return kept.focus;
  }

  function age() {
    const seconds = Math.max(0, Math.round(Date.now() / 1000 - data.live.written));
    const since = seconds < 120 ? `${seconds} s` : `${Math.round(seconds / 60)} min`;
    const late = data.live.refresh && seconds > 10 * data.live.refresh + 60;
    control("age").textContent = `written ${since} ago${late ? ": nobody writes it any more, or it is paused here" : ""}`;
  }

  function look() {
    const paused = !control("refresh").checked;
    // Not below the eyes of who just points at something, but a pointer may rest there for hours.
    const reading = !tip.hidden && Date.now() - moved < 10000;
    if (paused || document.hidden || reading) return;
    keep();
    location.reload();
  }

  let moved = 0;
  for (const kind of ["pointermove", "keydown"]) window.addEventListener(kind, () => { moved = Date.now(); });
  const focus = restore();
  legend();
  controls();
  const print = (paper) => () => {
    state.paper = paper;
    refresh();
  };
  window.addEventListener("beforeprint", print(true));
  window.addEventListener("afterprint", print(false));
  window.addEventListener("resize", refresh);
  refresh();
  if (focus) control(focus)?.focus({ preventScroll: true });
  if (data.live) {
    age();
    setInterval(age, 1000);
    if (data.live.refresh) setInterval(look, 1000 * data.live.refresh);
  }
