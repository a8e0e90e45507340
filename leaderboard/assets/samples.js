// A run's samples, question by question.
"use strict";

const SHOWN = 50;
const FILTERS = {
  right: (samples) => samples.every(([grade]) => isRight(grade)),
  wrong: (samples) => samples.some(([grade]) => !isRight(grade)),
  none: (samples) => samples.some(([grade, answer]) => grade === "no answer" || answer === ""),
  forced: (_, [forced]) => forced > 0,
  repeating: (_, [, looped]) => looped > 0,
};

function sampleView(question, task, tasks, gated) {
  const box = make("details", undefined, "sample");
  const score = question.scores[task];
  box.append(make("summary", `Question ${question.id}: ${percent(score, 0)}% correct`));
  if (gated) box.append(make("p", `Gated: not shown. Hash ${question.hash}`, "note"));
  if (question.prompt !== null) box.append(folded("Prompt", whole(question.prompt)));
  if (question.gold !== null) box.append(make("p", `Gold answer: ${question.gold}`));
  const samples = samplesOf(question, task);
  samples.forEach(([grade, answer, thinking, after], number) => {
    const line = make("p", `Sample ${number + 1}: `);
    line.append(make("span", grade, isRight(grade) ? "correct" : "wrong"));
    const written = question.programs?.[task]?.[number];
    if (answer !== null && !written) line.append(make("span", answer ? ` · answer ${answer}` : " · no answer"));
    box.append(line, ...(written ? program(written) : []));
    if (thinking) box.append(folded(`Thinking, ${counted(thinking.length)}`, thinking));
    if (question.traces && tasks.length > 1) {
      const cuts = make("details");
      cuts.append(make("summary", "The trace with the cuts of all budgets"), marked(question.traces[number], tasks));
      box.append(cuts);
    }
    if (after !== null) box.append(make("pre", after.trim() || "(nothing after the thinking)"));
  });
  if (!samples.length) box.append(make("p", "No text: answered by log-likelihood.", "note"));
  return box;
}

function browser(form) {
  const { group, task, show, back, on } = form.elements;
  const place = document.getElementById("samples-shown");
  const output = form.querySelector("output");
  let part = 0;
  let latest = 0;
  const parts = () => Number(group.selectedOptions[0].dataset.parts);
  const chooseTask = () => {
    const tasks = group.selectedOptions[0].dataset.tasks.split("|").map((one) => one.split("="));
    task.replaceChildren(...tasks.map(([name, title]) => new Option(title, name)));
    task.selectedIndex = tasks.length - 1;
  };
  const view = async () => {
    const turn = (latest += 1);
    part = Math.min(Math.max(0, part), parts() - 1);
    const filter = FILTERS[show.value];
    const wanted = filter ? [...Array(parts()).keys()] : [part];
    const found = [];
    let every = 0;
    let tasks = [];
    const at = task.selectedIndex;
    try {
      for (const number of wanted) {
        const content = await loadTraces(form.dataset.run, group.value, number);
        tasks = content.tasks;
        const known = content.questions.filter((question) => question.scores[at] !== null);
        every += known.length;
        found.push(...known.filter((question) => !filter || filter(samplesOf(question, at), question.measures[at])));
      }
    } catch (error) {
      place.replaceChildren(make("p", `Cannot be loaded: ${error.message}`));
      return;
    }
    if (turn !== latest) return; // another choice was made meanwhile
    const gated = group.selectedOptions[0].dataset.gated === "1";
    place.replaceChildren(...found.slice(0, SHOWN).map((question) => sampleView(question, at, tasks, gated)));
    if (place.firstChild) place.firstChild.open = true;
    output.value = filter ? `${found.length} of ${every} questions${found.length > SHOWN ? `, the first ${SHOWN} shown` : ""}` : `part ${part + 1} of ${parts()}, ${found.length} questions`;
    back.disabled = Boolean(filter) || part === 0;
    on.disabled = Boolean(filter) || part === parts() - 1;
    state.update({ group: group.value, task: task.value, show: show.value, part: part ? String(part) : "" });
  };
  group.addEventListener("change", () => { part = 0; chooseTask(); view(); });
  task.addEventListener("change", view);
  show.addEventListener("change", view);
  back.addEventListener("click", () => { part -= 1; view(); });
  on.addEventListener("click", () => { part += 1; view(); });
  form.addEventListener("submit", (event) => event.preventDefault());
  const asked = state.read();
  const choose = (select, value) => { if ([...select.options].some((option) => option.value === value)) select.value = value; };
  choose(group, asked.get("group"));
  chooseTask();
  choose(task, asked.get("task"));
  choose(show, asked.get("show"));
  part = Number.parseInt(asked.get("part") || "0", 10) || 0;
  form.hidden = false;
  view();
}

document.addEventListener("DOMContentLoaded", () => {
  const form = document.getElementById("browse");
  if (form) browser(form);
});
