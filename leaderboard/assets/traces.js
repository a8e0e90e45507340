// Texts of samples: pieces of long texts, traces with the cuts of their budgets, and where to load them from.
"use strict";

const PER_FILE = 25; // questions

const loadTraces = (run, group, part) => loadScript(`${root()}runs/${encodeURIComponent(run)}/traces/${encodeURIComponent(group)}-${part}.js`, `traces ${run}/${group}/${part}`);

const counted = (characters) => `${characters.toLocaleString("en")} characters`;

// The part of a text from one place to another; what was left out of a long text is told.
function between(pieces, from, to) {
  let text = "";
  let at = from;
  for (const [start, piece] of pieces) {
    const [first, last] = [Math.max(from, start), Math.min(to, start + piece.length)];
    if (first >= last) continue;
    if (first > at) text += `\n[... ${counted(first - at)} are not shown ...]\n`;
    text += piece.slice(first - start, last - start);
    at = last;
  }
  return at < to && text !== "" && Number.isFinite(to) ? `${text}\n[... ${counted(to - at)} are not shown ...]\n` : text;
}
const whole = (pieces) => (pieces === null ? null : between(pieces, 0, Infinity));

const budgetName = (budget) => (budget === null ? "no limit" : `${budget.toLocaleString("en")} tokens`);
const isRight = (grade) => grade === "correct";

function answered(grade, answer) {
  const [kind, sign] = isRight(grade) ? ["span.a.ok", "✓"] : ["span.a.no", "✗"];
  return make(kind, { title: grade }, `${answer === null ? "answer not shown" : answer || "no answer"} ${sign}`);
}

const folded = (title, text) => make("details", make("summary", title), make("pre", text));

// A program that was coloured when the page was built, and the first test that it fails.
const program = ([pieces, failed]) => [
  make("pre.code", pieces.map(([kind, text]) => (kind ? make(`span.py-${kind}`, text) : text))),
  failed ? make("p.note", failed) : null,
];

// A trace as text, with a line at each cut that says which answer stood there.
function marked(trace, tasks) {
  let at = 0;
  return make("pre.thinking", trace.cuts.flatMap(([grade, answer, cut], number) => {
    const text = between(trace.thinking, at, cut);
    at = Math.max(at, cut);
    return [text, make("span.mark", `cut at ${budgetName(tasks[number][1])}: `, answered(grade, answer))];
  }));
}

// The samples of a question in one task: [grade, answer, what was thought, the text of the answer].
function samplesOf(question, task) {
  if (question.traces) {
    return question.traces.map(({ thinking, cuts }) => { const [grade, answer, cut, after] = cuts[task]; return [grade, answer, between(thinking, 0, cut), whole(after)]; });
  }
  return (question.outputs?.[task] ?? []).map(([grade, answer, thinking, after]) => [grade, answer, whole(thinking), whole(after)]);
}
