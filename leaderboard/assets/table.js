// The overview's table and cards: sort, filter, fold by base, choose columns; all of it in the link.
"use strict";

const valueOf = (cell) => {
  const text = cell.dataset.v ?? cell.textContent.trim();
  const plain = text.replaceAll(",", "").replace("\u2212", "-");
  return text === "" ? null : /^-?[\d.]+%?$/.test(plain) ? Number.parseFloat(plain) : text.toLowerCase();
};

function inOrder([one], [other], sign) {
  if (one === null || other === null) return (one === null) - (other === null); // what is not known comes last
  const order = typeof one === typeof other ? (one < other ? -1 : one > other ? 1 : 0) : String(one).localeCompare(String(other));
  return sign * order;
}

const ASCENDING = new Set(["rank", "model", "method", "engine"]); // columns whose first order is ascending
const CHOSEN = ["base", "kind", "method", "off", "engine", "tier"]; // filters, besides the search

const searched = (text) => text.toLowerCase().replaceAll("\u2212", "-");

// Names that are switched on and off, kept in the link.
function switched(name) {
  const on = new Set((state.read().get(name) || "").split("|").filter(Boolean));
  return { has: (one) => on.has(one), toggle(one) { if (!on.delete(one)) on.add(one); state.write(name, [...on].join("|")); } };
}

function overview(table) {
  const head = [...table.tHead.rows].at(-1);
  const headers = [...head.cells];
  const bodies = [...table.tBodies].map((body) => ({ body, rows: [...body.rows] }));
  const rows = bodies.flatMap((one) => one.rows);
  const isBase = (row) => row.classList.contains("base");
  const links = new Map(rows.map((row) => [row, row.cells[1].querySelector("a")]));
  const short = new Map(rows.map((row) => [row, links.get(row).textContent]));
  const texts = new Map(rows.map((row) => [row, searched(`${row.dataset.base} ${[...row.cells].slice(1, 5).map((cell) => cell.textContent).join(" ")}`)]));
  const cards = new Map(); // by row, on a phone
  const list = document.querySelector(".cards");
  const { elements } = document.querySelector("form[data-for=overview]");
  const reset = document.getElementById("reset");
  const folded = switched("folded");
  const without = switched("without");
  let grouped = state.read().get("fold") !== "off";
  let [column, direction] = (state.read().get("sort") || "long-descending").split("-");

  // Within each base while the rows are grouped by base; all rows otherwise.
  function sort() {
    const at = headers.findIndex((header) => header.dataset.column === column);
    if (at < 0) return;
    const sign = direction === "descending" ? -1 : 1;
    const sorted = (some) => some.map((row) => [valueOf(row.cells[at]), row]).sort((one, other) => inOrder(one, other, sign)).map(([, row]) => row);
    if (grouped) {
      const first = bodies.map((one) => { // bases in the order of their first models
        const kids = sorted(one.rows.filter((row) => !isBase(row)));
        one.body.append(...one.rows.filter(isBase), ...kids);
        return [valueOf((kids[0] ?? one.rows[0]).cells[at]), one.body];
      });
      table.append(...first.sort((one, other) => inOrder(one, other, sign)).map(([, body]) => body));
    } else {
      bodies[0].body.append(...sorted(rows));
    }
    list.append(...sorted(rows).map((row) => cards.get(row)).filter(Boolean));
    for (const header of headers) header.removeAttribute("aria-sort");
    headers[at].setAttribute("aria-sort", direction);
  }

  function sortBy(wanted, again) {
    const first = ASCENDING.has(wanted) ? "ascending" : "descending";
    const other = first === "ascending" ? "descending" : "ascending";
    direction = again && column === wanted && direction === first ? other : first;
    column = wanted;
    state.write("sort", `${column}-${direction}`);
    sort();
  }

  function filter() {
    const given = Object.fromEntries(["q", ...CHOSEN].map((name) => [name, elements[name].value]));
    const words = searched(given.q).split(/\s+/).filter(Boolean);
    const narrowed = words.length > 0 || CHOSEN.some((name) => name !== "base" && given[name]);
    let shown = 0;
    for (const row of rows) {
      const fits = CHOSEN.every((name) => !given[name] || row.dataset[name] === given[name]) && words.every((word) => texts.get(row).includes(word));
      row.hidden = !fits || (grouped && !narrowed && row.classList.contains("kid") && folded.has(row.dataset.base));
      if (cards.has(row)) cards.get(row).hidden = !fits;
      shown += fits;
      links.get(row).textContent = narrowed || !grouped ? links.get(row).getAttribute("aria-label") : short.get(row); // without its base above it
    }
    reset.hidden = !narrowed && !given.base;
    document.getElementById("count").value = `${shown} of ${rows.length} rows`;
  }

  // On a phone, rows are cards: model, what is kept of long reasoning, and accuracy first.
  function makeCards() {
    const named = Object.fromEntries(headers.map((header, at) => [header.dataset.column, at]));
    for (const row of rows) {
      const cell = (name) => row.cells[named[name]];
      const [long, rank] = [cell("long"), cell("rank").textContent];
      const number = ([name, unit]) => {
        const text = cell(name).textContent.trim();
        return make("div", make("dt", headers[named[name]].textContent), make("dd", text ? `${text}${text === "base" ? "" : unit}` : "not measured"));
      };
      const card = make("li.card",
        make("div.t1", make("a", { href: links.get(row).href }, links.get(row).getAttribute("aria-label")), make("span.s", rank && `rank ${rank}`)));
      if (long.dataset.v && !isBase(row)) {
        const lost = Number(long.dataset.high) < 1 ? `${percent(1 - Number(long.dataset.v), 0)}% lost` : "within chance";
        card.append(
          make("div.t2", make("b.long", `${percent(long.dataset.v, 0)}%`), make("span", "long reasoning kept", make("br"), make("span.s", `${long.title}, ${lost}`))),
          make("div.bar.long", make("div", long.querySelector("svg").cloneNode(true))));
      }
      card.append(make("dl", [["accuracy", "%"], ["knowledge", "%"], ["short", "%"], ["tokens", ""]].map(number)));
      cards.set(row, card);
    }
    list.append(...cards.values());
    sort();
    filter();
  }

  function foldable() {
    const all = document.getElementById("fold");
    const show = () => filled(all, [{ hidden: false, textContent: `Fold by base: ${grouped ? "on" : "off"}`, "aria-pressed": grouped }]);
    all.addEventListener("click", () => {
      grouped = !grouped;
      state.write("fold", grouped ? "" : "off");
      show();
      sort();
      filter();
    });
    show();
    for (const { rows: [base, ...kids] } of bodies) {
      if (!isBase(base) || !kids.length) continue;
      const name = base.dataset.base;
      const button = make("button.folds", { type: "button", onclick() { folded.toggle(name); mark(); filter(); } });
      const mark = () => {
        const off = folded.has(name);
        filled(button, [{ textContent: off ? "▸" : "▾", "aria-expanded": !off, "aria-label": `Models of ${name}` }]);
        sumUp(base, off ? kids : []);
      };
      mark();
      base.querySelector("th").prepend(button);
    }
  }

  // A folded base shows the range of its models, and a tick for each.
  function sumUp(base, kids) {
    for (const cell of base.querySelectorAll("td.know:has(span), td.long:has(span)")) {
      const values = kids.map((row) => row.cells[cell.cellIndex].dataset.v).filter(Boolean).map(Number);
      const ends = [Math.min(...values), Math.max(...values)].map((value) => percent(value, 0));
      cell.querySelector("span").textContent = values.length ? `${ends[0]}–${ends[1]}` : "base";
      cell.querySelector("svg").replaceChildren(...values.map((value) => draw("rect", { class: "tick", x: `${1 + 92 * Math.min(value, 1.07)}%` })));
    }
  }

  function showColumns() {
    headers.forEach((header, at) => {
      for (const row of [head, ...rows]) row.cells[at].hidden = without.has(header.dataset.column);
    });
    let at = 0; // the headings of groups span the columns that are shown
    for (const cell of table.tHead.rows[0].cells) {
      cell.dataset.span ??= String(cell.colSpan);
      const columns = headers.slice(at, at + Number(cell.dataset.span));
      at += columns.length;
      const shown = columns.filter((header) => !header.hidden).length;
      cell.hidden = shown === 0;
      cell.colSpan = Math.max(1, shown);
    }
  }

  const boxes = headers.slice(2).map((header) => make("label", make("input", {
    type: "checkbox", checked: !without.has(header.dataset.column), onchange() { without.toggle(header.dataset.column); showColumns(); },
  }), header.textContent));
  filled(document.getElementById("columns"), [{ hidden: false }, make("details", make("summary", "Columns"), make("div.menu", boxes))]);
  for (const header of headers) {
    const name = header.dataset.column;
    elements.sort.append(new Option(header.textContent, name));
    header.replaceChildren(make("button", { type: "button", onclick: () => sortBy(name, true) }, header.textContent));
  }
  foldable();
  showColumns();
  elements.sort.value = column;
  elements.sort.addEventListener("change", () => sortBy(elements.sort.value));
  for (const name of ["q", ...CHOSEN]) {
    elements[name].value = state.read().get(name) || "";
    elements[name].addEventListener("input", () => { state.write(name, elements[name].value); filter(); });
  }
  reset.addEventListener("click", () => {
    for (const name of ["q", ...CHOSEN]) elements[name].value = "";
    state.update(Object.fromEntries(["q", ...CHOSEN].map((name) => [name, ""])));
    filter();
  });
  elements.sort.form.hidden = false;
  filter();
  sort();
  const narrow = matchMedia("(max-width: 40rem)");
  const fit = () => {
    if (narrow.matches && !cards.size) makeCards();
    list.hidden = !narrow.matches;
    document.body.classList.toggle("carded", narrow.matches);
  };
  narrow.addEventListener("change", fit);
  fit();
}

document.addEventListener("DOMContentLoaded", () => {
  const table = document.getElementById("overview");
  const asked = location.hash.includes("="); // a link to a view of the table
  if (table) overview(table);
  if (asked) document.getElementById("models").scrollIntoView();
  copies(document.getElementById("link"), () => location.href, () => location.href);
});
