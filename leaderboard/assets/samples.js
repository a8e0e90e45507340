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
  const samples = samplesOf(question, task);
  const one = ([grade, answer, thinking, after], number) => {
    const written = question.programs?.[task]?.[number];
    return [
      make("p", `Sample ${number + 1}: `, make(isRight(grade) ? "span.correct" : "span.wrong", grade),
        answer !== null && !written ? make("span", answer ? ` · answer ${answer}` : " · no answer") : null),
      ...(written ? program(written) : []),
      thinking ? folded(`Thinking, ${counted(thinking.length)}`, thinking) : null,
      question.traces && tasks.length > 1 ? make("details", make("summary", "The trace with the cuts of all budgets"), marked(question.traces[number], tasks)) : null,
      after !== null ? make("pre", after.trim() || "(nothing after the thinking)") : null,
    ];
  };
  return make("details.sample", make("summary", `Question ${question.id}: ${percent(question.scores[task], 0)}% correct`),
    gated ? make("p.note", `Gated: not shown. Hash ${question.hash}`) : null,
    question.prompt !== null ? folded("Prompt", whole(question.prompt)) : null,
    question.gold !== null ? make("p", `Gold answer: ${question.gold}`) : null,
    samples.flatMap(one),
    samples.length ? null : make("p.note", "No text: answered by log-likelihood."));
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
    const at = task.selectedIndex;
    const contents = [];
    try {
      for (const number of filter ? Array(parts()).keys() : [part]) contents.push(await loadTraces(form.dataset.run, group.value, number));
    } catch (error) {
      place.replaceChildren(make("p", `Cannot be loaded: ${error.message}`));
      return;
    }
    const { tasks } = contents[0];
    const every = contents.flatMap(({ questions }) => questions.filter((question) => question.scores[at] !== null));
    const found = every.filter((question) => !filter || filter(samplesOf(question, at), question.measures[at]));
    if (turn !== latest) return; // another choice was made meanwhile
    const gated = group.selectedOptions[0].dataset.gated === "1";
    place.replaceChildren(...found.slice(0, SHOWN).map((question) => sampleView(question, at, tasks, gated)));
    if (place.firstChild) place.firstChild.open = true;
    output.value = filter ? `${found.length} of ${every.length} questions${found.length > SHOWN ? `, the first ${SHOWN} shown` : ""}` : `part ${part + 1} of ${parts()}, ${found.length} questions`;
    back.disabled = Boolean(filter) || part === 0;
    on.disabled = Boolean(filter) || part === parts() - 1;
    state.update({ group: group.value, task: task.value, show: show.value, part: part || "" });
  };
  group.addEventListener("change", () => { part = 0; chooseTask(); view(); });
  task.addEventListener("change", view);
  show.addEventListener("change", view);
  back.addEventListener("click", () => { part -= 1; view(); });
  on.addEventListener("click", () => { part += 1; view(); });
  const asked = state.read();
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
