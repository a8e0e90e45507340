// The heat map: a place opens its question.
"use strict";

function heat(map) {
  const order = map.dataset.order.split(",").map(Number);
  const rows = [...map.querySelectorAll(".hr[data-right]")].filter((row) => row.dataset.right);
  const place = document.getElementById("question");
  const lines = make("div.chosen", { hidden: true });
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
    const lines = rows.map((row) => {
      const [count, of] = [Number(row.dataset.right.split(",")[question]), Number(row.dataset.of)];
      const most = Math.min(of, 16);
      const href = `${root()}runs/${encodeURIComponent(row.dataset.run)}/index.html#${new URLSearchParams({ group: map.dataset.group, task: row.dataset.task, part: Math.floor(question / PER_FILE) })}`;
      const dots = Array.from({ length: most }, (_, number) => make(number < Math.round((count / of) * most) ? "i.y" : "i"));
      return make("div.st", make("a", { href }, row.dataset.name), make("span.dots-row", dots), make("span.n", `${count} of ${of}`));
    });
    return [
      make("div", make("h2", `Question in place ${at + 1} of ${order.length}`), make("p.ask", "Loading its text …")),
      make("div", make("h3", "Samples right"), lines),
    ];
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
        if (found.gold !== null) asked.append(make("span.s", `\nGold answer: ${found.gold}`));
        const [a, b] = rows.map((one) => one.dataset.key);
        const href = `${root()}compare.html#${new URLSearchParams({ a, b, group: map.dataset.group, question })}`;
        if (b) asked.after(make("p", make("a", { href }, "Two traces side by side")));
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
  if (map?.querySelector("svg.cells")) heat(map);
});
