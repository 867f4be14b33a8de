"use strict";
(() => {
  const CELL = 8;  // pixels of a cell's side on an attention map
  const byId = (name) => document.getElementById(name);
  const [select, slider, label, weight] = ["text", "layer", "label", "weight"].map(byId);
  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const unpacked = (text) => Float32Array.from(atob(text), (c) => (c.charCodeAt(0) / 255) ** 2);

  const texts = [...document.querySelectorAll(".heads-of")].map((article) => {
    const buttons = [...article.querySelectorAll(".choose .token")];
    const words = buttons.map((button) => button.querySelector(".word").textContent);
    const layers = [...article.querySelectorAll(".layer")].map((section) => ({
      section,
      heads: [...section.querySelectorAll(".head")].map((figure) => ({
        figure,
        maps: ["attention", "kernel"].filter((kind) => figure.dataset[kind]).map((kind) => ({
          kind,
          canvas: figure.querySelector(`canvas.${kind}`),
          values: unpacked(figure.dataset[kind]),
          columns: 0,
        })),
      })),
    }));
    for (const map of layers.flatMap((l) => l.heads).flatMap((h) => h.maps)) {
      map.columns = map.values.length / words.length;
    }
    return { article, buttons, words, layers, row: Math.min(1, words.length - 1) };
  });
  const current = () => texts[select ? Number(select.value) : 0];

  // The token at a map's cell: columns of a kernel are counted from the token itself.
  const target = (map, row, column) =>
    map.kind === "attention" ? column : row + column - (map.columns - 1) / 2;

  const draw = (text, map) => {
    const rows = text.words.length;
    const wide = map.kind === "attention" ? CELL : (CELL * rows * 3) / 10 / map.columns;
    map.canvas.width = Math.round(wide * map.columns);
    map.canvas.height = CELL * rows;
    const pen = map.canvas.getContext("2d");
    pen.fillStyle = style(map.kind === "attention" ? "--t1" : "--t0");
    for (let row = 0; row < rows; row += 1) {
      for (let column = 0; column < map.columns; column += 1) {
        const inside = target(map, row, column) in text.words;
        pen.globalAlpha = inside ? Math.sqrt(map.values[row * map.columns + column]) : 0;
        pen.fillRect(wide * column, CELL * row, wide, CELL);
      }
    }
    pen.globalAlpha = 1;
    pen.strokeStyle = style("--ink");
    pen.strokeRect(0.5, CELL * text.row + 0.5, map.canvas.width - 1, CELL - 1);
  };

  const chip = (text, head, place) => {
    const [attention, kernel] = head.maps.map((map) => {
      const column = map.kind === "attention" ? place : place - text.row + (map.columns - 1) / 2;
      return column >= 0 && column < map.columns ? map.values[text.row * map.columns + column] : null;
    });
    const shown = (value) => (value === null || value === undefined || value < 0.005 ? "" : value.toFixed(2));
    const token = document.createElement("span");
    token.className = place === text.row ? "token chosen" : "token";
    token.style.setProperty("--a", Math.sqrt(attention) * 0.7);
    token.style.setProperty("--k", Math.sqrt(kernel ?? 0));
    for (const [name, content] of [["word", text.words[place]], ["p", shown(attention)], ["p kernel", shown(kernel)]]) {
      const part = document.createElement(name === "word" ? "bdi" : "span");
      part.className = name;
      part.textContent = content;
      token.append(part);
    }
    return token;
  };

  const show = () => {
    const text = current();
    const layer = Number(slider.value);
    for (const other of texts) {
      other.article.hidden = other !== text;
      other.article.toggleAttribute("data-chosen", other === text);
    }
    label.textContent = `${layer} of ${text.layers.length}`;
    text.buttons.forEach((button, place) => button.setAttribute("aria-pressed", place === text.row));
    text.layers.forEach(({ section, heads }, number) => {
      section.hidden = number !== layer - 1;
      for (const head of heads) {
        for (const map of head.maps) draw(text, map);
        if (section.hidden) continue;
        const chips = text.words.map((_, place) => chip(text, head, place));
        head.figure.querySelector(".row").replaceChildren(...chips);
      }
    });
  };

  const cellAt = (text, map, event) => {
    const box = map.canvas.getBoundingClientRect();
    const share = (at, from, size, count) =>
      Math.min(count - 1, Math.max(0, Math.floor(((at - from) / size) * count)));
    const row = share(event.clientY, box.top, box.height, text.words.length);
    return [row, share(event.clientX, box.left, box.width, map.columns)];
  };
  const say = (text, map, event) => {
    const [row, column] = cellAt(text, map, event);
    const other = text.words[target(map, row, column)] ?? "outside the text";
    const value = map.values[row * map.columns + column].toFixed(3);
    const verb = map.kind === "attention" ? "looks at" : "takes from";
    weight.textContent = `${text.words[row]} (${row}) ${verb} ${other}: ${value}`;
  };

  for (const text of texts) {
    const choose = (row) => { text.row = row; show(); };
    text.buttons.forEach((button, place) => button.addEventListener("click", () => choose(place)));
    for (const map of text.layers.flatMap((l) => l.heads).flatMap((h) => h.maps)) {
      map.canvas.addEventListener("pointermove", (event) => say(text, map, event));
      map.canvas.addEventListener("click", (event) => {
        say(text, map, event);
        choose(cellAt(text, map, event)[0]);
      });
    }
  }
  slider.addEventListener("input", show);
  select?.addEventListener("change", show);
  // Colors follow the theme; paper is light.
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
  window.addEventListener("beforeprint", show);
  show();
})();
