// The heat map: a place opens its question.
"use strict";

function heat(map) {
  const order = map.dataset.order.split(",").map(Number);
  const rows = [...map.querySelectorAll(".hr[data-right]")].filter((row) => row.dataset.right);
  const place = document.getElementById("question");
  const lines = make("div", undefined, "chosen");
  lines.hidden = true;
  map.append(lines);
  let at = null;
  const mark = () => {
    const svg = rows[0].querySelector("svg.cells");
    const [box, cells] = [map.getBoundingClientRect(), svg.getBoundingClientRect()];
    lines.style.left = `${cells.left - box.left + (cells.width * at) / order.length}px`;
    lines.style.width = `${cells.width / order.length}px`;
    lines.hidden = false;
  };
  const open = async (number) => {
    at = Math.max(0, Math.min(order.length - 1, number));
    mark();
    state.write("question", String(order[at]));
    place.replaceChildren(...view(order[at]));
    place.hidden = false;
    place.scrollIntoView({ block: "nearest" });
    await text(order[at]);
  };
  const view = (question) => {
    const left = make("div");
    left.append(make("h2", `Question in place ${at + 1} of ${order.length}`), make("p", "Loading its text …", "ask"));
    const right = make("div");
    right.append(make("h3", "Samples right"));
    for (const row of rows) {
      const count = Number(row.dataset.right.split(",")[question]);
      const of = Number(row.dataset.of);
      const line = make("div", undefined, "st");
      const dots = make("span", undefined, "dots-row");
      for (let number = 0; number < Math.min(of, 16); number += 1) dots.append(make("i", undefined, number < Math.round((count / of) * Math.min(of, 16)) ? "y" : ""));
      const link = make("a", row.dataset.name);
      link.href = `${root()}runs/${encodeURIComponent(row.dataset.run)}/index.html#${new URLSearchParams({ group: map.dataset.group, task: row.dataset.task, part: String(Math.floor(question / PER_FILE)) })}`;
      line.append(link, dots, make("span", `${count} of ${of}`, "n"));
      right.append(line);
    }
    return [left, right];
  };
  const text = async (question) => {
    const asked = place.querySelector(".ask");
    const still = () => order[at] === question && asked.isConnected; // no other was opened meanwhile
    if (map.dataset.gated === "1") { asked.textContent = "Gated: not shown."; return; }
    for (const row of rows) {
      try {
        const content = await loadTraces(row.dataset.run, map.dataset.group, Math.floor(question / PER_FILE));
        const found = content.questions[question % PER_FILE];
        if (!still()) return;
        if (!found || found.prompt === null || content.set !== map.dataset.set) continue;
        place.querySelector("h2").textContent = `Question ${found.id}, place ${at + 1} of ${order.length}`;
        asked.textContent = whole(found.prompt);
        if (found.gold !== null) asked.append(make("span", `\nGold answer: ${found.gold}`, "s"));
        const others = rows.slice(0, 2).map((one) => one.dataset.key);
        if (others.length < 2) return;
        const both = make("a", "Two traces side by side");
        both.href = `${root()}compare.html#${new URLSearchParams({ a: others[0], b: others[1], group: map.dataset.group, question: String(question) })}`;
        const line = make("p");
        line.append(both);
        asked.after(line);
        return;
      } catch { /* another model may have it */ }
    }
    if (still()) asked.textContent = "No model has saved its text.";
  };
  map.addEventListener("click", (event) => {
    const svg = event.target.closest("svg.cells");
    if (!svg) return;
    const box = svg.getBoundingClientRect();
    open(Math.floor(((event.clientX - box.left) / box.width) * order.length));
  });
  map.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    open(at === null ? 0 : at + step);
  });
  const asked = state.read().get("question");
  if (asked !== null && order.includes(Number(asked))) open(order.indexOf(Number(asked)));
}

document.addEventListener("DOMContentLoaded", () => {
  const map = document.getElementById("heat");
  if (map && map.querySelector("svg.cells")) heat(map);
});
