// Line charts: choose models, see a point's numbers, place the labels at the ends of the chosen lines.
"use strict";

const LABELS = 6;
const GAP = 15;
const NEAR = 24; // of the pointer, in a drawing's pixels
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
  return places.map((_, index) => found[order.indexOf(index)]);
}

function label(svg, chosen) {
  const ends = [...svg.querySelectorAll(".end:not(.paper)")];
  // The base always has a label, and as many of those that were chosen last as there is room for.
  const bases = ends.filter((end) => end.classList.contains("ink") && chosen.includes(end.dataset.model)).map((end) => end.dataset.model);
  const others = chosen.filter((key) => !bases.includes(key) && ends.some((end) => end.dataset.model === key));
  const latest = [...bases, ...others.slice(-(LABELS - bases.length))];
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
  const asUsual = () => [...chosen].sort().join("|") === [...usual].sort().join("|");
  let chosen = asked === null ? usual : asked.split("|").filter((key) => boxes.some((box) => box.value === key)); // "none" is no key
  const show = () => {
    for (const box of boxes) box.checked = chosen.includes(box.value);
    for (const line of document.querySelectorAll(".line[data-model]:not(.paper)")) line.classList.toggle("off", !chosen.includes(line.dataset.model));
    for (const svg of document.querySelectorAll("svg.panel")) {
      label(svg, chosen);
      svg.classList.toggle("crowded", svg.querySelectorAll(".line:not(.off, .paper)").length > CROWDED);
    }
    state.write("models", asUsual() ? "" : chosen.join("|") || "none");
  };
  fieldset.addEventListener("change", (event) => {
    const key = event.target.value;
    chosen = event.target.checked ? [...chosen, key] : chosen.filter((one) => one !== key);
    if (asUsual()) chosen = usual;
    show();
  });
  fieldset.hidden = false;
  if (asked !== null) show();
}

// The points of the lines that are shown: place in the drawing, and what is said of it.
function pointsOf(svg) {
  return [...svg.querySelectorAll(".line[data-points]:not(.off)")].flatMap((line) => line.dataset.points.split("|").map((point) => {
    const [x, y, ...text] = point.split(",");
    return { x: Number(x), y: Number(y), text: text.join(","), name: line.dataset.name };
  }));
}

// Says what a point is: the one beside the pointer, or with the arrow keys one after the other.
function tooltip(drawing) {
  const tip = make("div.tip", { hidden: true, role: "status" });
  drawing.append(tip);
  let at = -1;
  const shown = () => [...drawing.querySelectorAll("svg.panel")].find((one) => one.getClientRects().length);
  const measured = (svg) => { const box = svg.getBoundingClientRect(); return { box, scale: box.width / svg.viewBox.baseVal.width }; };
  const show = (svg, point) => {
    tip.hidden = !point;
    if (!point) return;
    const { box, scale } = measured(svg);
    tip.replaceChildren(make("b", point.name), point.text);
    tip.style.left = `${Math.max(0, Math.min(point.x * scale + 12, box.width - tip.offsetWidth - 4))}px`;
    tip.style.top = `${point.y * scale + 12}px`;
  };
  drawing.addEventListener("pointermove", (event) => {
    const svg = shown();
    if (!svg) return;
    const { box, scale } = measured(svg);
    const far = (point) => Math.hypot(point.x - (event.clientX - box.left) / scale, point.y - (event.clientY - box.top) / scale);
    const nearest = pointsOf(svg).reduce((best, point) => (!best || far(point) < far(best) ? point : best), null);
    show(svg, nearest && far(nearest) < NEAR ? nearest : null);
  });
  for (const name of ["pointerleave", "blur"]) drawing.addEventListener(name, () => { tip.hidden = true; });
  drawing.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const svg = shown();
    const points = svg && step ? pointsOf(svg) : [];
    if (!points.length) return;
    event.preventDefault();
    at = (at + step + points.length) % points.length;
    show(svg, points[at]);
  });
}

document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll("fieldset.picks").forEach(picks);
  document.querySelectorAll(".drawing").forEach(tooltip);
  const paper = document.querySelector(".sw");
  if (paper) paper.hidden = false;
});
