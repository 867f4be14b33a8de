"use strict";
(() => {
  const slider = document.getElementById("point");
  const label = document.getElementById("label");
  const points = [...document.querySelectorAll("section.point")];
  // Without this script all points stand below each other, each under its heading.
  for (const heading of document.querySelectorAll(".point > h2")) heading.hidden = points.length > 1;
  const show = () => {
    points.forEach((point, number) => { point.hidden = number !== Number(slider.value); });
    label.textContent = points[Number(slider.value)].dataset.label;
  };
  slider.addEventListener("input", show);
  show();
})();
