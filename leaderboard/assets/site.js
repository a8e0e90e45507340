// Everything here is optional: without it, the pages still show all numbers and charts. Text from data is only inserted
// as text, never as HTML.
"use strict";

const make = (name, text, className) => {
  const element = document.createElement(name);
  if (text !== undefined) element.textContent = text;
  if (className) element.className = className;
  return element;
};

// State kept in the link: #table.column=2-descending&q=...
const state = {
  read: () => new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : ""),
  write(name, value) {
    const all = state.read();
    if (value) all.set(name, value); else all.delete(name);
    const text = all.toString();
    history.replaceState(null, "", text ? "#" + text : location.pathname + location.search);
  },
};

// Data files are scripts that call one of these, because a page opened from disk cannot use fetch.
const waiting = new Map();
const loadScript = (path, key) => new Promise((resolve, reject) => {
  waiting.set(key, resolve);
  const script = make("script");
  script.src = path;
  script.onerror = () => reject(new Error(path));
  script.onload = () => script.remove();
  document.head.append(script);
});
const received = (key, value) => { const resolve = waiting.get(key); waiting.delete(key); if (resolve) resolve(value); };
window.lmtts = {
  list: [],
  runs(list) { window.lmtts.list = list; },
  scores([id, tasks]) { received("scores " + id, tasks); },
  samples([key, rows]) { received("samples " + key, rows); },
};

// Theme ------------------------------------------------------------------------------------------------------

function theme() {
  const button = document.getElementById("theme");
  const stored = () => { try { return localStorage.getItem("theme"); } catch { return null; } };
  const dark = () => (document.documentElement.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const show = () => { button.textContent = dark() ? "Light" : "Dark"; };
  if (stored()) document.documentElement.dataset.theme = stored();
  button.hidden = false;
  button.addEventListener("click", () => {
    document.documentElement.dataset.theme = dark() ? "light" : "dark";
    try { localStorage.setItem("theme", document.documentElement.dataset.theme); } catch { /* not kept, then */ }
    show();
  });
  show();
}

// Tables -----------------------------------------------------------------------------------------------------

const valueOf = (cell) => {
  const text = cell.dataset.v ?? cell.textContent.trim();
  const number = Number.parseFloat(text.replaceAll(",", ""));
  return text === "" ? null : Number.isNaN(number) ? text.toLowerCase() : number;
};

function compared(one, other) {
  if (one === null || other === null) return (one === null) - (other === null);
  return typeof one === typeof other ? (one < other ? -1 : one > other ? 1 : 0) : String(one).localeCompare(String(other));
}

function sort(table, column, direction) {
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row) => [valueOf(row.cells[column]), row]);
  const sign = direction === "descending" ? -1 : 1;
  rows.sort(([one], [other]) => (one === null || other === null ? compared(one, other) : sign * compared(one, other)));
  body.append(...rows.map(([, row]) => row));
  for (const header of table.tHead.rows[table.tHead.rows.length - 1].cells) header.removeAttribute("aria-sort");
  table.tHead.rows[table.tHead.rows.length - 1].cells[column].setAttribute("aria-sort", direction);
}

function sortable(table, number) {
  const name = table.id || "table" + number;
  const headers = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  headers.forEach((header, column) => {
    const button = make("button", header.textContent);
    button.type = "button";
    header.replaceChildren(button);
    button.addEventListener("click", () => {
      const before = header.getAttribute("aria-sort");
      const direction = before === "descending" ? "ascending" : before === "ascending" || column ? "descending" : "ascending";
      sort(table, column, direction);
      state.write(name, `${column}-${direction}`);
    });
  });
  const [column, direction] = (state.read().get(name) || "").split("-");
  if (headers[column] && ["ascending", "descending"].includes(direction)) sort(table, Number(column), direction);
}

function filters(form) {
  const table = document.getElementById(form.dataset.for);
  const rows = [...table.tBodies[0].rows];
  const apply = () => {
    const wanted = form.elements.q.value.trim().toLowerCase();
    let shown = 0;
    for (const row of rows) {
      const fits = ["base", "method"].every((name) => !form.elements[name].value || row.dataset[name] === form.elements[name].value);
      row.hidden = !(fits && (!wanted || (row.dataset.base + " " + row.cells[0].textContent).toLowerCase().includes(wanted)));
      shown += !row.hidden;
    }
    form.querySelector("output").value = shown === rows.length ? "" : `${shown} of ${rows.length}`;
    for (const name of ["q", "base", "method"]) state.write(name, form.elements[name].value);
  };
  for (const name of ["q", "base", "method"]) form.elements[name].value = state.read().get(name) || "";
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  apply();
}

// Charts -----------------------------------------------------------------------------------------------------

function interactive(figure) {
  const place = figure.querySelector(".drawing");
  const spec = JSON.parse(figure.querySelector("script").textContent);
  const begin = () => {
    if (figure.dataset.begun || !window.vegaEmbed) return;
    figure.dataset.begun = "yes";
    const fresh = make("div");
    window.vegaEmbed(fresh, spec, { actions: false, renderer: "svg", ast: true })
      .then(() => { place.replaceChildren(fresh); figure.dataset.ready = "yes"; })
      .catch((error) => console.warn("chart stays as drawn:", error));
  };
  for (const event of ["pointerenter", "focusin", "touchstart"]) figure.addEventListener(event, begin, { passive: true });
}

// A run's samples --------------------------------------------------------------------------------------------

function sampleView(sample, task, gated) {
  const box = make("article", undefined, "sample");
  box.append(make("h3", `Question ${sample.id}: ${(100 * sample.score).toFixed(0)}% correct`));
  if (gated) box.append(make("p", `Gated: not shown. Hash ${sample.hash}`, "note"));
  if (sample.prompt !== null) box.append(collapsed("Prompt", sample.prompt));
  if (sample.gold !== null) box.append(make("p", `Gold answer: ${sample.gold}`));
  sample.outputs.forEach(([grade, answer, text], number) => {
    const line = make("p", `Sample ${number + 1}: `);
    line.append(make("span", grade, grade === "correct" ? "correct" : "wrong"));
    if (answer !== null) line.append(make("span", answer ? ` · answer ${answer}` : " · no answer"));
    box.append(line);
    if (text !== null) {
      const [thinking, rest] = parted(text);
      if (thinking) box.append(collapsed(`Thinking, ${thinking.length.toLocaleString("en")} characters`, thinking));
      box.append(make("pre", rest || "(nothing after the thinking)"));
    }
  });
  if (!sample.outputs.length) box.append(make("p", "No text: answered by log-likelihood.", "note"));
  return box;
}

// Thinking markers from lm_eval_ext/thinking_formats.yaml, inserted when the site is built.
const THINKING_MARKS = [];

// A text that begins with a mark of ordinary words; one that is a word runs into the next, as in "analysisWe".
function begins(text, start) {
  const rest = text.trimStart();
  return rest.startsWith(start) && (!/^\p{L}+$/u.test(start) || /^[\p{L}\p{N}]/u.test(rest.slice(start.length)));
}

function parted(text) {
  let at = -1;
  for (const { start, ends, anchored } of THINKING_MARKS) {
    if (anchored && !begins(text, start)) continue;
    for (const end of ends) {
      const found = text.lastIndexOf(end);
      if (found >= 0) at = Math.max(at, found + end.length);
    }
  }
  return at < 0 ? ["", text] : [text.slice(0, at), text.slice(at).trim()];
}

function collapsed(title, text) {
  const details = make("details");
  details.append(make("summary", title), make("pre", text));
  return details;
}

function browser(form) {
  const { task, show, back, on } = form.elements;
  const place = document.getElementById("samples-shown");
  const output = form.querySelector("output");
  let shard = 0;
  const last = () => Number(task.selectedOptions[0].dataset.shards) - 1;
  const view = async () => {
    shard = Math.min(Math.max(0, shard), last());
    const key = `${form.dataset.run}/${task.value}/${shard}`;
    let rows;
    try {
      rows = await loadScript(`samples/${encodeURIComponent(task.value)}-${shard}.js`, "samples " + key);
    } catch (error) {
      place.replaceChildren(make("p", `Cannot be loaded: ${error.message}`));
      return;
    }
    const wanted = rows.filter((row) => !show.value || (show.value === "right") === (row.score === 1));
    const gated = task.selectedOptions[0].dataset.gated === "1";
    place.replaceChildren(...wanted.map((row) => sampleView(row, task.value, gated)));
    output.value = `part ${shard + 1} of ${last() + 1}, ${wanted.length} questions`;
    back.disabled = shard === 0;
    on.disabled = shard === last();
    state.write("task", task.value);
    state.write("part", String(shard));
  };
  task.addEventListener("change", () => { shard = 0; view(); });
  show.addEventListener("change", view);
  back.addEventListener("click", () => { shard -= 1; view(); });
  on.addEventListener("click", () => { shard += 1; view(); });
  form.addEventListener("submit", (event) => event.preventDefault());
  const asked = state.read();
  if ([...task.options].some((option) => option.value === asked.get("task"))) task.value = asked.get("task");
  shard = Number.parseInt(asked.get("part") || "0", 10) || 0;
  form.hidden = false;
  view();
}

// Two runs ---------------------------------------------------------------------------------------------------

// Correlation of two lists of scores over the same questions, with one question added that each solves half of, alone.
function correlation(one, other) {
  const count = one.length + 1;
  const mean = (values, extra) => (values.reduce((sum, value) => sum + value, 0) + extra) / count;
  const [first, second] = [mean(one, 0.5), mean(other, 0.5)];
  const variance = (values, centre) => mean(values.map((value) => value * value), 0.5) - centre * centre;
  const together = mean(one.map((value, index) => value * other[index]), 0) - first * second;
  return Math.max(-1, Math.min(1, together / Math.sqrt(variance(one, first) * variance(other, second))));
}

// Mean difference with its 95% interval, like `difference_bounds` in statistics/paired.py: combined from the intervals of
// both and the correlation of their scores.
function difference([, scores, [mean, low, high]], [, base, [baseMean, baseLow, baseHigh]]) {
  const correlated = correlation(scores, base);
  const half = (a, b) => Math.sqrt(Math.max(0, a * a + b * b - 2 * correlated * a * b));
  const found = mean - baseMean;
  return [found, found - half(mean - low, baseHigh - baseMean), found + half(high - mean, baseMean - baseLow)];
}

function comparison(one, other, names) {
  const table = make("table");
  const head = table.createTHead().insertRow();
  for (const name of ["task", "questions", "only first", "only second", "difference", "95% interval"]) {
    const cell = make("th", name);
    cell.scope = "col";
    head.append(cell);
  }
  const body = table.createTBody();
  for (const [task, result] of Object.entries(one)) {
    const [questions, scores] = result;
    if (!questions || !other[task] || other[task][0] !== questions) continue;
    const differences = scores.map((score, index) => score - other[task][1][index]);
    const [mean, low, high] = difference(result, other[task]);
    const row = body.insertRow();
    const name = make("th", task);
    name.scope = "row";
    row.append(name);
    const signed = (value) => (value > 0 ? "+" : "") + (100 * value).toFixed(1);
    for (const text of [scores.length, differences.filter((one) => one > 0).length, differences.filter((one) => one < 0).length,
      signed(mean), `${signed(low)} to ${signed(high)}`]) row.insertCell().textContent = text;
  }
  if (!body.rows.length) return make("p", "These runs have no task with the same questions and samples.");
  table.createCaption().textContent = `${names[0]} minus ${names[1]}, in points; "only first" and "only second" count questions on which that run scored higher; the interval is for new questions like these`;
  const box = make("div", undefined, "wide");
  box.tabIndex = 0;
  box.setAttribute("role", "region");
  box.setAttribute("aria-label", "Differences by task");
  box.append(table);
  return box;
}

function compare(form) {
  const { a, b } = form.elements;
  for (const select of [a, b]) for (const [id, label] of window.lmtts.list) select.append(new Option(label, id));
  if (b.options.length > 1) b.selectedIndex = 1;
  for (const [name, select] of [["a", a], ["b", b]]) {
    const asked = state.read().get(name);
    if ([...select.options].some((option) => option.value === asked)) select.value = asked;
  }
  const place = document.getElementById("comparison");
  const view = async () => {
    state.write("a", a.value);
    state.write("b", b.value);
    try {
      const load = (id) => loadScript(`runs/${encodeURIComponent(id)}/scores.js`, "scores " + id);
      const first = await load(a.value);
      const second = a.value === b.value ? first : await load(b.value);
      place.replaceChildren(comparison(first, second, [a, b].map((select) => select.selectedOptions[0].textContent)));
    } catch (error) {
      place.replaceChildren(make("p", `Cannot be loaded: ${error.message}`));
    }
  };
  form.addEventListener("change", view);
  form.hidden = false;
  view();
}

document.addEventListener("DOMContentLoaded", () => {
  theme();
  document.querySelectorAll("table.sortable").forEach(sortable);
  document.querySelectorAll("form[data-for]").forEach(filters);
  document.querySelectorAll(".chart").forEach(interactive);
  const samples = document.getElementById("browse");
  if (samples) browser(samples);
  const runs = document.getElementById("compare");
  if (runs && window.lmtts.list.length) compare(runs);
});
