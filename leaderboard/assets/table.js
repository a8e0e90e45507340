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

class Table {
  constructor(table) {
    this.table = table;
    this.head = table.tHead.rows[table.tHead.rows.length - 1];
    this.headers = [...this.head.cells];
    this.bodies = [...table.tBodies].map((body) => ({ body, rows: [...body.rows] }));
    this.rows = this.bodies.flatMap(({ rows }) => rows);
    this.cards = [];
    this.cardOf = new Map();
    this.titles = new Map(this.rows.map((row) => [row, row.cells[1].querySelector("a")]).map(([row, link]) => [row, { link, short: link.textContent }]));
    this.list = document.querySelector(".cards");
    this.folded = new Set();
    this.grouped = true;
    const asked = state.read();
    [this.column, this.direction] = (asked.get("sort") || "long-descending").split("-");
    if (asked.get("fold") === "off") this.grouped = false;
    for (const base of (asked.get("folded") || "").split("|")) if (base) this.folded.add(base);
    this.hiddenColumns = new Set((asked.get("without") || "").split("|").filter(Boolean));
    this.headers.forEach((header) => this.clickable(header));
    this.foldable();
    this.chooseColumns();
    this.filter(document.querySelector("form[data-for=overview]"));
    this.sort();
    const narrow = matchMedia("(max-width: 40rem)");
    const fit = () => {
      if (narrow.matches && !this.cards.length) this.makeCards();
      this.list.hidden = !narrow.matches;
      document.body.classList.toggle("carded", narrow.matches);
    };
    narrow.addEventListener("change", fit);
    fit();
  }

  // On a phone, rows are cards: model, what is kept of long reasoning, and accuracy first.
  makeCards() {
    const named = Object.fromEntries(this.headers.map((header, at) => [header.dataset.column, at]));
    this.cards = this.rows.map((row) => {
      const cell = (name) => row.cells[named[name]];
      const card = make("li", undefined, "card");
      Object.assign(card.dataset, row.dataset);
      const link = cell("model").querySelector("a").cloneNode();
      link.textContent = link.getAttribute("aria-label");
      const title = make("div", undefined, "t1");
      title.append(link, make("span", cell("rank").textContent && `rank ${cell("rank").textContent}`, "s"));
      card.append(title);
      const long = cell("long");
      if (long.dataset.v && !row.classList.contains("base")) {
        const kept = make("div", undefined, "t2");
        const words = make("span", "long reasoning kept");
        const lost = Number(long.dataset.high) < 1 ? `${percent(1 - Number(long.dataset.v), 0)}% lost` : "within chance";
        words.append(make("br"), make("span", `${long.title}, ${lost}`, "s"));
        kept.append(make("b", `${percent(long.dataset.v, 0)}%`, "long"), words);
        const bar = make("div", undefined, "bar long");
        bar.append(make("div"));
        bar.firstChild.append(long.querySelector("svg").cloneNode(true));
        card.append(kept, bar);
      }
      const numbers = make("dl");
      for (const [name, unit] of [["accuracy", "%"], ["knowledge", "%"], ["short", "%"], ["tokens", ""]]) {
        const pair = make("div");
        const text = cell(name).textContent.trim();
        pair.append(make("dt", this.headers[named[name]].textContent), make("dd", text ? `${text}${text === "base" ? "" : unit}` : "not measured"));
        numbers.append(pair);
      }
      card.append(numbers);
      this.texts.set(card, this.texts.get(row));
      this.cardOf.set(row, card);
      return card;
    });
    this.list.append(...this.cards);
    this.sort();
    this.apply();
  }

  clickable(header) {
    const button = make("button", header.textContent);
    button.type = "button";
    header.replaceChildren(button);
    button.addEventListener("click", () => {
      const { column } = header.dataset;
      const first = ASCENDING.has(column) ? "ascending" : "descending";
      const other = first === "ascending" ? "descending" : "ascending";
      this.direction = this.column === column && this.direction === first ? other : first;
      this.column = column;
      state.write("sort", `${this.column}-${this.direction}`);
      this.sort();
    });
  }

  // Within each base while the rows are grouped by base; all rows otherwise.
  sort() {
    const at = this.headers.findIndex((header) => header.dataset.column === this.column);
    if (at < 0) return;
    const sign = this.direction === "descending" ? -1 : 1;
    const sorted = (rows) => rows.map((row) => [valueOf(row.cells[at]), row]).sort((one, other) => inOrder(one, other, sign)).map(([, row]) => row);
    for (const { body, rows } of this.bodies) {
      const base = rows.filter((row) => row.classList.contains("base"));
      body.append(...(this.grouped ? [...base, ...sorted(rows.filter((row) => !base.includes(row)))] : rows));
    }
    if (!this.grouped) this.bodies[0].body.append(...sorted(this.rows));
    if (this.grouped) this.sortBases(at, sign, sorted);
    this.list.append(...sorted(this.rows).map((row) => this.cardOf.get(row)).filter(Boolean));
    for (const header of this.headers) header.removeAttribute("aria-sort");
    this.headers[at].setAttribute("aria-sort", this.direction);
  }

  // Bases in the order of their first models.
  sortBases(at, sign, sorted) {
    const first = this.bodies.map(({ body, rows }) => {
      const kids = sorted(rows.filter((row) => !row.classList.contains("base")));
      return [valueOf((kids[0] ?? rows[0]).cells[at]), body];
    });
    this.table.append(...first.sort((one, other) => inOrder(one, other, sign)).map(([, body]) => body));
  }

  foldable() {
    const all = document.getElementById("fold");
    all.hidden = false;
    const show = () => {
      all.textContent = `Fold by base: ${this.grouped ? "on" : "off"}`;
      all.setAttribute("aria-pressed", String(this.grouped));
    };
    all.addEventListener("click", () => {
      this.grouped = !this.grouped;
      state.write("fold", this.grouped ? "" : "off");
      for (const { body, rows } of this.bodies) body.append(...rows);
      show();
      this.sort();
      this.apply();
    });
    show();
    for (const { rows } of this.bodies) {
      const base = rows.find((row) => row.classList.contains("base"));
      if (!base || rows.length < 2) continue;
      const button = make("button", "▾", "folds");
      button.type = "button";
      const name = base.dataset.base;
      const mark = () => {
        const folded = this.folded.has(name);
        button.textContent = folded ? "▸" : "▾";
        button.setAttribute("aria-expanded", String(!folded));
        button.setAttribute("aria-label", `Models of ${name}`);
        this.sumUp(base, rows.filter((row) => row !== base), folded);
      };
      button.addEventListener("click", () => {
        if (this.folded.has(name)) this.folded.delete(name); else this.folded.add(name);
        state.write("folded", [...this.folded].join("|"));
        mark();
        this.apply();
      });
      mark();
      base.querySelector("th").prepend(button);
    }
  }

  // A folded base shows the range of its models, and a tick for each.
  sumUp(base, kids, folded) {
    for (const cell of base.querySelectorAll("td.know:has(span), td.long:has(span)")) {
      const values = folded ? kids.map((row) => row.cells[cell.cellIndex].dataset.v).filter(Boolean).map(Number) : [];
      const ends = [Math.min(...values), Math.max(...values)].map((value) => percent(value, 0));
      cell.querySelector("span").textContent = values.length ? `${ends[0]}–${ends[1]}` : "base";
      cell.querySelector("svg").replaceChildren(...values.map((value) => draw("rect", { class: "tick", x: `${1 + 92 * Math.min(value, 1.07)}%` })));
    }
  }

  chooseColumns() {
    const place = document.getElementById("columns");
    const details = make("details");
    const menu = make("div", undefined, "menu");
    details.append(make("summary", "Columns"), menu);
    for (const header of this.headers.slice(2)) {
      const { column } = header.dataset;
      const box = make("input");
      box.type = "checkbox";
      box.checked = !this.hiddenColumns.has(column);
      box.addEventListener("change", () => {
        if (box.checked) this.hiddenColumns.delete(column); else this.hiddenColumns.add(column);
        state.write("without", [...this.hiddenColumns].join("|"));
        this.showColumns();
      });
      const label = make("label");
      label.append(box, header.textContent);
      menu.append(label);
    }
    place.append(details);
    place.hidden = false;
    this.showColumns();
  }

  showColumns() {
    this.headers.forEach((header, at) => {
      const hidden = this.hiddenColumns.has(header.dataset.column);
      for (const row of [this.head, ...this.rows]) row.cells[at].hidden = hidden;
    });
    let at = 0; // the headings of groups span the columns that are shown
    for (const cell of this.table.tHead.rows[0].cells) {
      cell.dataset.span ??= String(cell.colSpan);
      const columns = this.headers.slice(at, at + Number(cell.dataset.span));
      at += columns.length;
      const shown = columns.filter((header) => !header.hidden).length;
      cell.hidden = shown === 0;
      cell.colSpan = Math.max(1, shown);
    }
  }

  filter(form) {
    this.form = form;
    const names = ["q", "base", "kind", "method", "off", "engine", "tier"];
    this.names = names;
    for (const header of this.headers) form.elements.sort.append(new Option(header.textContent, header.dataset.column));
    for (const name of names) form.elements[name].value = state.read().get(name) || "";
    form.elements.sort.value = this.column;
    form.addEventListener("input", (event) => {
      if (event.target.name === "sort") return;
      state.update(Object.fromEntries(names.map((name) => [name, form.elements[name].value])));
      this.apply();
    });
    form.elements.sort.addEventListener("change", () => {
      this.column = form.elements.sort.value;
      this.direction = ASCENDING.has(this.column) ? "ascending" : "descending";
      state.write("sort", `${this.column}-${this.direction}`);
      this.sort();
    });
    form.addEventListener("submit", (event) => event.preventDefault());
    form.hidden = false;
    document.getElementById("reset").addEventListener("click", () => {
      for (const name of names) form.elements[name].value = "";
      state.update(Object.fromEntries(names.map((name) => [name, ""])));
      this.apply();
    });
    this.texts = new Map(this.rows.map((row) => [row, `${row.dataset.base} ${[...row.cells].slice(1, 5).map((cell) => cell.textContent).join(" ")}`.toLowerCase().replaceAll("\u2212", "-")]));
    this.apply();
  }

  apply() {
    const given = Object.fromEntries(this.names.map((name) => [name, this.form.elements[name].value]));
    const wanted = given.q.trim().toLowerCase().replaceAll("\u2212", "-").split(/\s+/).filter(Boolean);
    const narrowed = ["kind", "method", "off", "engine", "tier"].some((name) => given[name]) || wanted.length > 0;
    const fits = (one) => ["base", "kind", "method", "off", "engine", "tier"].every((name) => !given[name] || one.dataset[name] === given[name])
      && wanted.every((word) => this.texts.get(one).includes(word));
    let shown = 0;
    for (const row of this.rows) {
      const matches = fits(row);
      row.hidden = !matches || (this.grouped && !narrowed && row.classList.contains("kid") && this.folded.has(row.dataset.base));
      shown += matches;
      const { link, short } = this.titles.get(row);
      link.textContent = narrowed || !this.grouped ? link.getAttribute("aria-label") : short; // without its base above it
    }
    const reset = document.getElementById("reset");
    reset.hidden = !narrowed && !given.base;
    for (const card of this.cards) card.hidden = !fits(card);
    document.getElementById("count").value = `${shown} of ${this.rows.length} rows`;
  }
}

function copyLink(button) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    try { await navigator.clipboard.writeText(location.href); button.textContent = "Copied"; } catch { button.textContent = location.href; }
  });
}

document.addEventListener("DOMContentLoaded", () => {
  const table = document.getElementById("overview");
  const asked = location.hash.includes("="); // a link to a view of the table
  if (table) new Table(table);
  if (asked) document.getElementById("models").scrollIntoView();
  const link = document.getElementById("link");
  if (link) copyLink(link);
});
