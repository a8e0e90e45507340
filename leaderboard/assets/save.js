// Downloads of what is shown: a chart as SVG or PNG, its numbers as CSV; and copying of text.
"use strict";

const STYLES = ["fill", "fill-opacity", "stroke", "stroke-width", "stroke-opacity", "stroke-dasharray", "stroke-linecap", "stroke-linejoin", "font-family", "font-size", "font-weight", "text-anchor", "paint-order"];

function save(name, content) {
  const link = make("a", { href: URL.createObjectURL(content), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

const visible = (element) => element.getClientRects().length > 0;

// A copy of a drawing that needs no style sheet: what is hidden is left out, and every style is written out.
function alone(svg) {
  const copy = svg.cloneNode(true);
  const [from, to] = [[...svg.querySelectorAll("*")], [...copy.querySelectorAll("*")]];
  from.forEach((element, at) => {
    const style = getComputedStyle(element);
    if (style.display === "none") { to[at].remove(); return; }
    for (const name of STYLES) to[at].style.setProperty(name, style.getPropertyValue(name));
    to[at].style.color = style.color;
  });
  const { width, height } = svg.viewBox.baseVal?.width ? svg.viewBox.baseVal : svg.getBoundingClientRect();
  return filled(copy, [{ width, height }]);
}

const MARGIN = 24;

// A figure as one drawing, with its title and where it is from: its only chart, or the rows of the overview.
function drawing(figure) {
  const chart = [...figure.querySelectorAll("svg.panel")].find(visible);
  const content = chart ? alone(chart) : rowsDrawing(figure.querySelector(".db") ?? figure);
  const [width, height] = ["width", "height"].map((name) => Number.parseFloat(content.getAttribute(name)));
  const style = getComputedStyle(document.body);
  const ground = getComputedStyle(document.documentElement).backgroundColor;
  const line = (text, y, size, weight) => draw("text", { x: MARGIN, y, fill: style.color, "font-size": size, "font-weight": weight, "font-family": style.fontFamily }, text);
  const base = document.querySelector("form.goto select")?.selectedOptions[0]?.textContent ?? "";
  const title = [figure.querySelector("h2, h3")?.textContent.replace(/\s+/g, " ").trim(), base].filter(Boolean).join(", ");
  const whole = draw("svg", { width: width + 2 * MARGIN, height: height + 4 * MARGIN, viewBox: `0 0 ${width + 2 * MARGIN} ${height + 4 * MARGIN}` },
    draw("rect", { width: "100%", height: "100%", fill: ground }), line(title, 1.4 * MARGIN, 16, 600), line(document.title, height + 3.6 * MARGIN, 11, 400));
  return filled(whole, [filled(content, [{ x: MARGIN, y: 2.2 * MARGIN }])]);
}

function rowsDrawing(figure) {
  const box = figure.getBoundingClientRect();
  const whole = draw("svg", { width: box.width, height: box.height, viewBox: `0 0 ${box.width} ${box.height}` });
  for (const svg of [...figure.querySelectorAll("svg")].filter(visible)) {
    const place = svg.getBoundingClientRect();
    whole.append(filled(alone(svg), [{ x: place.left - box.left, y: place.top - box.top, width: place.width, height: place.height }]));
  }
  const walker = document.createTreeWalker(figure, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode;
    const parent = node.parentElement;
    const start = node.textContent.search(/\S/);
    if (start < 0 || parent.closest("svg") || !visible(parent)) continue;
    const range = document.createRange();
    range.setStart(node, start);
    range.setEnd(node, node.textContent.trimEnd().length);
    const style = getComputedStyle(parent);
    const place = range.getClientRects()[0];
    if (!place) continue;
    whole.append(draw("text", { x: place.left - box.left, y: place.top - box.top + 0.8 * place.height, fill: style.color, "font-size": style.fontSize, "font-weight": style.fontWeight, "font-family": style.fontFamily }, node.textContent.trim()));
  }
  return whole;
}

const svgText = (figure) => new XMLSerializer().serializeToString(drawing(figure));

function png(figure, name) {
  const image = new Image();
  image.onload = () => {
    const canvas = make("canvas", { width: 2 * image.width, height: 2 * image.height });
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    canvas.toBlob((content) => save(`${name}.png`, content));
  };
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(svgText(figure))}`;
}

const quoted = (text) => {
  const plain = /^[=+\-@\t\r]/.test(text) && Number.isNaN(Number(text)) ? `'${text}` : text; // no formulas
  return /[",\n]/.test(plain) ? `"${plain.replaceAll('"', '""')}"` : plain;
};

// The text of a cell without its controls and small print; a link's name, where it has a fuller one.
function textOf(cell) {
  const copy = cell.cloneNode(true);
  for (const extra of copy.querySelectorAll("button, small, svg, .tag, .cnt")) extra.remove();
  const named = copy.querySelector("a[aria-label]");
  return (named ? named.getAttribute("aria-label") : copy.textContent).replace(/\s+/g, " ").trim();
}

// Values with intervals are three columns: the value, and both ends of its 95% interval.
function csv(table) {
  const rows = [...table.querySelectorAll("tr")].filter((row) => !row.hidden && !row.classList.contains("over"));
  const columns = [...rows[0].cells].map((_, at) => at).filter((at) => !rows[0].cells[at].hidden);
  const ranged = new Set(columns.filter((at) => rows.some((row) => row.cells[at]?.dataset.low !== undefined)));
  const cells = (row, at) => {
    const cell = row.cells[at];
    if (row.parentElement.tagName === "THEAD") { const name = textOf(cell) || cell.textContent.trim(); return ranged.has(at) ? [name, `${name}, low`, `${name}, high`] : [name]; }
    const { v = "", low = "", high = "" } = cell.dataset;
    return ranged.has(at) ? [v, low, high] : [v && !cell.classList.contains("c0") ? v : textOf(cell)];
  };
  return rows.map((row) => columns.flatMap((at) => cells(row, at)).map(quoted).join(",")).join("\n") + "\n";
}

function offer(place) {
  const figure = document.getElementById(place.dataset.figure);
  const table = document.getElementById(place.dataset.table);
  const name = place.dataset.figure || place.dataset.table;
  const add = (title, onclick) => place.insertBefore(make("button", { type: "button", onclick }, title), place.querySelector("span"));
  if (figure) {
    add("SVG", () => save(`${name}.svg`, new Blob([svgText(figure)], { type: "image/svg+xml" })));
    add("PNG", () => png(figure, name));
  }
  if (table) add("Data as CSV", () => save(`${name}.csv`, new Blob([csv(table)], { type: "text/csv" })));
}

document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll(".get[data-figure], .get[data-table]").forEach(offer);
  document.querySelectorAll("[data-copy]").forEach((button) => copies(button, () => document.getElementById(button.dataset.copy).textContent, () => "Copy")); // else it can be selected
});
