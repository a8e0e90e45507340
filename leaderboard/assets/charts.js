// Line charts: choose models, see a point's numbers, place the labels at the ends of the chosen lines.
"use strict";

const LABELS = 6;
const GAP = 15;
const CROWDED = 8; // lines from which on only bases have a band

// Places moved apart by at least GAP, as little as possible; the same as `spread` in site/figures.py.
function spread(places, top, floor) {
  const order = places.map((_, index) => index).sort((one, other) => places[one] - places[other]);
  const found = order.map((index) => places[index]);
  for (let round = 0; round < 200; round += 1) {
    for (let at = 0; at + 1 < found.length; at += 1) {
      const short = GAP - (found[at + 1] - found[at]);
      if (short > 1e-6) { found[at] -= short / 2; found[at + 1] += short / 2; }
    }
    if (found.length) { found[found.length - 1] = Math.min(found[found.length - 1], floor); found[0] = Math.max(found[0], top); }
  }
  const result = [];
  order.forEach((index, at) => { result[index] = found[at]; });
  return result;
}

function label(svg, chosen) {
  const ends = [...svg.querySelectorAll(".end:not(.paper)")];
  const latest = chosen.slice(-LABELS);
  const shown = ends.filter((end) => latest.includes(end.dataset.model));
  for (const end of ends) end.classList.toggle("off", !shown.includes(end));
  const places = spread(shown.map((end) => Number(end.dataset.y)), Number(svg.dataset.top), Number(svg.dataset.floor));
  shown.forEach((end, at) => {
    const y = places[at].toFixed(1);
    for (const text of end.querySelectorAll("text")) text.setAttribute("y", Number(y) + 4.5);
    const leader = end.querySelector(".leader");
    leader.setAttribute("d", leader.getAttribute("d").replace(/ [^ ]*$/, ` ${y}`));
  });
}

function picks(fieldset) {
  const boxes = [...fieldset.querySelectorAll("input")];
  const asked = state.read().get("models");
  const usual = boxes.filter((box) => box.checked).map((box) => box.value);
  let chosen = asked === null ? usual : asked.split("|").filter((key) => boxes.some((box) => box.value === key));
  const show = () => {
    for (const box of boxes) box.checked = chosen.includes(box.value);
    for (const line of document.querySelectorAll(".line[data-model]:not(.paper)")) line.classList.toggle("off", !chosen.includes(line.dataset.model));
    for (const svg of document.querySelectorAll("svg.panel")) {
      label(svg, chosen);
      svg.classList.toggle("crowded", svg.querySelectorAll(".line:not(.off, .paper)").length > CROWDED);
    }
    state.write("models", chosen.join("|") === usual.join("|") ? "" : chosen.join("|"));
  };
  fieldset.addEventListener("change", (event) => {
    const key = event.target.value;
    chosen = event.target.checked ? [...chosen, key] : chosen.filter((one) => one !== key);
    show();
  });
  fieldset.hidden = false;
  if (asked !== null) show();
}

function tooltip(drawing) {
  const tip = make("div", undefined, "tip");
  tip.hidden = true;
  drawing.append(tip);
  drawing.addEventListener("pointermove", (event) => {
    const svg = [...drawing.querySelectorAll("svg.panel")].find((one) => one.getClientRects().length);
    if (!svg) return;
    const box = svg.getBoundingClientRect();
    const scale = box.width / svg.viewBox.baseVal.width;
    const [x, y] = [(event.clientX - box.left) / scale, (event.clientY - box.top) / scale];
    let best = { distance: 24 };
    for (const line of svg.querySelectorAll(".line[data-points]:not(.off)")) {
      for (const point of line.dataset.points.split("|")) {
        const [px, py, ...text] = point.split(",");
        const distance = Math.hypot(px - x, py - y);
        if (distance < best.distance) best = { distance, px, py, text: text.join(","), name: line.dataset.name };
      }
    }
    tip.hidden = best.text === undefined;
    if (tip.hidden) return;
    tip.replaceChildren(make("b", best.name), best.text);
    const left = Math.min(best.px * scale + 12, box.width - tip.offsetWidth - 4);
    tip.style.left = `${Math.max(0, left)}px`;
    tip.style.top = `${best.py * scale + 12}px`;
  });
  drawing.addEventListener("pointerleave", () => { tip.hidden = true; });
}

document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll("fieldset.picks").forEach(picks);
  document.querySelectorAll(".drawing").forEach(tooltip);
  const paper = document.querySelector(".sw");
  if (paper) paper.hidden = false;
});
