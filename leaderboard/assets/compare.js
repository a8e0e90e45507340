// Compares any two models: the verdict of `lm-eval-tts compare`, and two traces of one question side by side.
"use strict";

const MINUS = "\u2212";
const signed = (value) => `${value < 0 ? MINUS : "+"}${percent(Math.abs(value))}`;
const span = ([, low, high]) => `${percent(low, 0)}–${percent(high, 0)}`;
const place = (value) => `${(1 + 92 * Math.min(value, 1.07)).toFixed(2)}%`;
const width = (low, high) => `${(92 * Math.max(0, Math.min(high, 1.07) - low)).toFixed(2)}%`;
const svg = (height, ...children) => draw("svg", { width: "100%", height, "aria-hidden": "true" }, ...children);
const line = (className, x1, x2, y1, y2) => draw("line", { class: className, x1, x2, y1, y2 });

// What must be equal and is not; properties that older runs did not record count as equal.
const differing = (one, other) => one.flatMap(([what, value, recorded, shown], index) => {
  const [, theirs, , theirsShown] = other[index];
  if (value === theirs || (recorded && !(value && theirs))) return [];
  const [mine, yours] = [shown || value || "not recorded", theirsShown || theirs || "not recorded"];
  return [`${what}: ${mine} and ${yours}${mine === yours ? " others" : ""}`];
});

// Tasks of both models, with why they cannot be compared where that is so.
function pairsOf(base, candidate) {
  return base.tasks.filter((task) => !task.votes).flatMap((task) => {
    const other = candidate.tasks.find((one) => one.task === task.task && !one.votes);
    if (!other) return [];
    const reasons = differing(task.required, other.required);
    if (!task.scores.length || !other.scores.length) reasons.push("no scores of single questions");
    return [{ base: task, candidate: other, reasons }];
  });
}

// Benchmarks of the base that the candidate lacks, as tasks that cannot be compared: nothing is said of all, then.
function lacking(base, candidate, name) {
  const there = base.tasks.filter((task) => candidate.tasks.some((one) => one.task === task.task)).map((task) => task.benchmark);
  const missing = new Map(base.tasks.filter((task) => !there.includes(task.benchmark)).map((task) => [task.benchmark, task]));
  return there.length ? [...missing.values()].map((task) => ({ base: task, reasons: [`${name} has no results of ${task.title}`] })) : [];
}

const size = (pair) => pair.base.budget ?? Infinity;

function byBenchmark(pairs) {
  const found = new Map();
  for (const pair of [...pairs].sort((one, other) => size(one) - size(other))) {
    found.set(pair.base.benchmark, [...(found.get(pair.base.benchmark) ?? []), pair]);
  }
  return found;
}

function keptFigure(kept, keep) {
  return svg(22, line("g", place(0), place(1), 11, 11), line("whole", place(1), place(1), 4, 18), line("asked", place(keep), place(keep), 0, 22),
    draw("rect", { class: "reach long", x: place(kept[1]), width: width(kept[1], kept[2]), y: 7, height: 8, rx: 4 }), draw("circle", { class: "disc long", cx: place(kept[0]), cy: 11, r: 5.5 }));
}

function pairFigure(base, candidate) {
  const at = (value) => `${percent(value, 2)}%`;
  return svg(18, line("g", "0", "100%", 9, 9),
    draw("rect", { class: "base-reach", x: at(base[1]), width: at(base[2] - base[1]), y: 6, height: 6, rx: 3 }),
    draw("rect", { class: "reach long", x: at(candidate[1]), width: at(candidate[2] - candidate[1]), y: 6, height: 6, rx: 3 }),
    line("joins", at(candidate[0]), at(base[0]), 9, 9),
    draw("path", { class: "diamond", d: "M0 -5L5 0L0 5L-5 0Z", style: `transform:translate(${at(base[0])},9px)` }),
    draw("circle", { class: "disc long", cx: at(candidate[0]), cy: 9, r: 4.4 }));
}

const EXIT_CODES = { kept: 0, lost: 1, undecided: 3 };

const headed = (kind, word, code, title, ...more) => make("div.verdict",
  make(kind, make("span.word", word), make("span.s", `exit code ${code}`)), make("div", make("h1.h1", title), more));

function verdictView(judged, gated, keep, names) {
  const { verdict } = judged;
  const known = gated.map((pair, index) => ({ pair, kept: judged.kept[index], verdict: judged.rows[index] })).filter(({ kept }) => kept !== null);
  const worst = known.filter((one) => one.verdict === "lost").sort((one, other) => one.kept[0] - other.kept[0])[0];
  const every = known.length === gated.length ? "on every benchmark that both have" : `on the ${known.length} of ${gated.length} benchmarks that can be measured`;
  const share = `${percent(keep, 0)}%`;
  const sentence = {
    kept: `${names[1]} keeps at least ${share} of what ${names[0]} can do, ${every}.`,
    lost: worst && `${names[1]} has lost too much: ${percent(worst.pair.candidate.bounds[0][0])}% on ${worst.pair.base.title}, where ${names[0]} reaches ${percent(worst.pair.base.bounds[0][0])}%.`,
    undecided: known.length ? `These runs neither show that ${names[1]} keeps ${share} of ${names[0]}, nor that it does not.` : "Nothing that both models were run on can tell.",
  }[verdict];
  const shown = gated.flatMap((pair) => {
    const least = statistics.detectable(pair.candidate, pair.base);
    return least === null ? [] : [`${(100 * least).toFixed(1)} points on ${pair.base.title}`];
  });
  return headed(`div.vd.${verdict}`, verdict[0].toUpperCase() + verdict.slice(1), EXIT_CODES[verdict], sentence,
    make("p.s", `Asked: keep ${share} of accuracy above guessing, on every benchmark at the largest budget that both have. `,
      shown.length ? `With a power of 80%, this data would show a loss of at least ${shown.join(", ")}.` : ""));
}

// What `lm-eval-tts compare` says instead of a verdict.
const refusal = (refused) => headed("div.vd", "No verdict", 2,
  refused.length ? "These runs cannot be compared in all that the base has." : "These models have no task in common.",
  refused.map(({ base, reasons }) => make("p.s", `${base.task}: ${reasons.join("; ")}`)));

function gateView(judged, gated, keep) {
  return make("div.gate", gated.map((pair, index) => {
    const [kept, verdict] = [judged.kept[index], judged.rows[index]];
    const changes = pair.candidate.scores.map((score, at) => score - pair.base.scores[at]);
    const counts = `${changes.filter((one) => one < 0).length} scored lower and ${changes.filter((one) => one > 0).length} higher`;
    return make("div", make("div.s", `${pair.base.title}, ${budgetName(pair.base.budget)}`),
      kept && [make("div.big", make("b", `${percent(kept[0], 0)}%`), " kept ", make("small", span(kept))), keptFigure(kept, keep)],
      make("div.s", make("b", { className: verdict ?? "" }, verdict ?? "not measurable"), ` · of ${changes.length.toLocaleString("en")} questions, ${counts}`));
  }));
}

// A table that scrolls by itself. What isn't an element becomes a cell.
function tableOf(kind, label, caption, headers, rows) {
  const cells = (name, attributes, some) => some.map((one) => (one instanceof Node ? one : make(name, attributes, one)));
  const line = ([name, ...others]) => make("tr", make("th", { scope: "row" }, name), cells("td", {}, others));
  const table = make(kind, caption, make("thead", make("tr", cells("th", { scope: "col" }, headers))), make("tbody", rows.map(line)));
  return make("div.wide", { tabIndex: 0, role: "region", "aria-label": label }, table);
}

function budgetsTable(pairs) {
  const { base } = pairs[0];
  const made = tableOf("table.cmp", `${base.title}, by budget`,
    make("caption", make("b", base.title), ` ${base.scores.length.toLocaleString("en")} questions × ${base.samples} samples`),
    ["Budget", "Base", "Candidate", make("th.pic", { scope: "col" }, "accuracy, 0 to 100"), "Difference, 95%", "Kept, 95%"],
    pairs.map((pair) => {
      const [[one], [other]] = [pair.base.bounds, pair.candidate.bounds];
      const difference = statistics.difference(pair.candidate, pair.base);
      const kept = statistics.ratio(pair.candidate, pair.base);
      return [budgetName(pair.base.budget), percent(one[0]), percent(other[0]), make("td.pic", pairFigure(one, other)),
        `${signed(difference[0])} (${signed(difference[1])} to ${signed(difference[2])})`, kept ? `${percent(kept[0], 0)}% (${span(kept)})` : "not measurable"];
    }));
  made.querySelector("tbody tr:last-child").className = "deciding";
  return made;
}

const section = (title, note, ...content) => make("section", make("h2", title), note && make("p.sub", note), content);
const small = (text, more) => make("td", text, more && make("small", more));

function gainsView(grouped) {
  const rows = [];
  for (const pairs of grouped.values()) {
    if (pairs.length < 2) continue;
    const [first, large] = [pairs[0], pairs[pairs.length - 1]];
    if (first.base.scores.length !== large.base.scores.length) continue;
    const gains = ["base", "candidate"].map((side) => statistics.difference(large[side], first[side]));
    gains.push(statistics.contrast([large.candidate, first.candidate, large.base, first.base], [1, -1, -1, 1]));
    const shown = ([mean, low, high]) => small(signed(mean), `${signed(low)} to ${signed(high)}`);
    rows.push([`${first.base.title}, ${budgetName(first.base.budget)} to ${budgetName(large.base.budget)}`, ...gains.map(shown)]);
  }
  const table = tableOf("table", "Gain from thinking", null, ["benchmark", "base", "candidate", "difference"], rows);
  return rows.length > 0 && section("Gain from thinking", "Accuracy with the largest budget less that with the smallest, in points with 95% intervals.", table);
}

// Right now, found and then lost, never found: shares of samples.
function foundBar(right, lost) {
  const never = Math.max(0, 1 - right - lost);
  const at = (value) => `${percent(value, 2)}%`;
  const bar = draw("svg", { class: "ftl-bar", width: "100%", height: 26, role: "img", "aria-label": `right ${at(right)}, found then lost ${at(lost)}, never found ${at(never)}` },
    draw("rect", { class: "right", x: 0, width: at(right), height: 26 }), draw("rect", { class: "lost", x: at(right), width: at(lost), height: 26 }),
    draw("rect", { class: "hatched", x: at(right), width: at(lost), height: 26 }), draw("rect", { class: "never", x: at(right + lost), width: at(never), height: 26 }));
  const text = (value, attributes) => { if (value >= 0.1) bar.append(draw("text", { y: 18, ...attributes }, percent(value, 0))); };
  const tight = (value) => (value < 0.25 ? " tight" : "");
  text(right, { class: `on-right${tight(right)}`, x: 7 });
  text(lost, { class: `on-lost${tight(lost)}`, x: at(right + lost / 2), "text-anchor": "middle" });
  text(never, { class: tight(never), x: "100%", dx: -7, "text-anchor": "end" });
  return bar;
}

function foundView(base, candidate) {
  const blocks = base.found.flatMap((one) => {
    const other = candidate.found.find((their) => their.benchmark === one.benchmark && String(their.budgets) === String(one.budgets));
    if (!other) return [];
    const title = base.tasks.find((task) => task.benchmark === one.benchmark)?.title ?? one.benchmark;
    return [make("h3", title), make("div.f.h.s", make("span"), make("span", "base"), make("span.long", "candidate")),
      ...one.budgets.map((budget, at) => make("div.f", make("span.n", budget === null ? "no limit" : budget.toLocaleString("en")), foundBar(one.right[at], one.lost[at]), foundBar(other.right[at], other.lost[at])))];
  });
  return blocks.length > 0 && section("Found, then lost", "Share of samples that are right at a budget (solid), were right at a smaller one and are not now (hatched), or never were (pale).", blocks);
}

const SHARES = new Set(["forced", "repeating", "without an answer"]);
const PREFIXES = [[1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"]];
const scaled = (value) => {
  const [size, prefix] = PREFIXES.find(([least]) => value >= least) ?? [1, ""];
  return prefix ? `${(value / size).toPrecision(3)}${prefix}` : value >= 100 ? Math.round(value).toLocaleString("en") : value.toPrecision(3);
};

function costsView(pairs) {
  const kinds = Object.keys(pairs[0]?.base.costs ?? {});
  const known = kinds.filter((kind) => pairs.some((pair) => pair.base.costs[kind] !== null && pair.candidate.costs[kind] !== null));
  const shown = (kind, value) => (SHARES.has(kind) ? `${percent(value)}%` : scaled(value));
  const rows = known.map((kind) => [kind, ...pairs.map(({ base, candidate }) => {
    const [one, other] = [base.costs[kind], candidate.costs[kind]];
    if (one === null || other === null) return "";
    return small(`${shown(kind, one)} → ${shown(kind, other)}`, !SHARES.has(kind) && one !== 0 && `× ${(other / one).toFixed(2)}`);
  })]);
  const table = tableOf("table", "What it costs", null, ["", ...pairs.map(({ base }) => base.title)], rows);
  return rows.length > 0 && section("What it costs", "At the largest budget of each benchmark: the base → the candidate.", table);
}

function changedView(gated, show) {
  const lines = gated.flatMap((pair) => {
    const changes = pair.candidate.scores.map((score, index) => [score - pair.base.scores[index], index]);
    const button = ([, index]) => {
      const id = pair.base.ids.length ? pair.base.ids[index] : index;
      return [make("button.folds", { type: "button", "aria-label": `Question ${id} of ${pair.base.title}`, onclick: () => show(pair.base.benchmark, index) }, id), " "];
    };
    const line = (title, some) => make("p", `${pair.base.title}: ${some.length} ${title} `, some.slice(0, 60).map(button), some.length > 60 && `and ${some.length - 60} more`);
    return [line("lost", changes.filter(([change]) => change <= -0.5)), line("won", changes.filter(([change]) => change >= 0.5))];
  });
  return section("Questions won and lost", "Those on which the score changed by at least half of a question’s samples, at the budgets that decide. Click one to see two traces.", lines);
}

// Two traces -------------------------------------------------------------------------------------------------

const FOLD = 700; // characters of a part of a trace that are shown at once

function partOf(kind, trace, cut, before) {
  const text = between(trace.thinking, before, cut);
  const long = text.length > FOLD;
  return make(kind, long ? [text.slice(0, FOLD / 2), folded(`${counted(text.length - FOLD)} folded`, text.slice(FOLD / 2, -FOLD / 2)), text.slice(-FOLD / 2)] : text);
}

function tracesView([one, other], question, names, sample) {
  const traces = [one, other].map(({ questions }) => questions[question % PER_FILE]?.traces?.[sample]);
  const grid = make("div.trace", make("div.hd", names[0]), make("div.hd.sp.s", "answer at the cut"), make("div.hd.candidate-name", names[1]));
  const ends = [0, 0];
  let before = null;
  one.tasks.forEach(([task, budget], at) => {
    const theirs = other.tasks.findIndex(([name]) => name === task);
    if (theirs < 0) return;
    const [ours, cut] = [traces[0].cuts[at], traces[1].cuts[theirs]];
    const lost = before && isRight(before) && !isRight(cut[0]);
    grid.append(partOf("div.tx", traces[0], ours[2], ends[0]),
      make("div.cut", answered(ours[0], ours[1]), make("span.s", budgetName(budget)), make("span", answered(cut[0], cut[1]), lost && make("em", "lost here"))),
      partOf("div.tx.candidate", traces[1], cut[2], ends[1]));
    [ours, cut].forEach((some, side) => { ends[side] = Math.max(ends[side], some[2]); });
    [before] = cut;
  });
  return [grid, make("p.s", "✓ graded right, ✗ graded wrong. The dashed line is the cut: what stands above it is all the model had thought.")];
}

let lastTraces = 0;

async function showTraces(place, sides, benchmark, question, names, sample = 0) {
  const turn = (lastTraces += 1);
  place.hidden = false;
  place.replaceChildren(make("h2", "One question, two traces"));
  const tasks = sides.map(({ tasks: every }) => every.filter((task) => task.benchmark === benchmark && !task.votes).at(-1));
  state.update({ group: benchmark, question: String(question) });
  try {
    if (tasks.some((task) => !task)) throw new Error("only one of the models has this benchmark");
    if (tasks.some((task) => task.gated)) throw new Error("the benchmark is gated");
    const part = Math.floor(question / PER_FILE);
    const pair = await Promise.all(tasks.map((task) => loadTraces(task.run, benchmark, part)));
    if (turn !== lastTraces) return; // another question was chosen meanwhile
    const found = pair.map(({ questions }) => questions[question % PER_FILE]);
    if (!found[0] || !found[1] || found[0].hash !== found[1].hash) throw new Error("the models were asked other questions, or in another order");
    if (found[0].prompt !== null) {
      place.append(make("p.sub", `${tasks[0].title}, question ${found[0].id}, sample ${sample + 1}.`),
        make("blockquote.ask", whole(found[0].prompt), make("span.s", `\nGold answer: ${found[0].gold ?? "not shown"}`)));
    }
    if (found.some((one) => !one.traces)) throw new Error("its budgets are not cuts of one trace");
    const samples = Math.min(...found.map((one) => one.traces.length));
    const options = Array.from({ length: samples }, (_, number) => new Option(`${number + 1} of ${samples}`, number, false, number === sample));
    const onchange = (event) => showTraces(place, sides, benchmark, question, names, Number(event.target.value));
    place.append(make("label.s", "Sample ", make("select", { onchange }, options)), ...tracesView(pair, question, names, Math.min(sample, samples - 1)));
  } catch (error) {
    if (turn === lastTraces) place.append(make("p.note", `No two traces to show: ${error.message}.`));
  }
  place.scrollIntoView();
}

// The page ---------------------------------------------------------------------------------------------------

function compareForm(form) {
  const { models, student } = window.lmtts.listed;
  statistics.student = student;
  const { a, b, keep } = form.elements;
  for (const select of [a, b]) for (const { key, name } of models) select.append(new Option(name, key));
  const usual = models.find((one) => one.whole && !one.control) ?? models.find((one) => one.whole) ?? models[0];
  const others = models.filter((one) => one !== usual && one.base === usual.base && !one.whole);
  a.value = usual.key;
  b.value = (others.find((one) => one.control === usual.control && one.asked === usual.asked) ?? others[0] ?? models.at(-1)).key;
  const place = document.getElementById("comparison");
  for (const select of [a, b, keep]) {
    const asked = state.read().get(select.name);
    const known = [...select.options].some((option) => option.value === asked);
    if (known) select.value = asked;
    if (asked !== null && !known) { form.hidden = false; place.replaceChildren(make("p", `The link names a model that is not here: ${asked}. Choose two.`)); form.addEventListener("change", () => compareForm(form), { once: true }); return; }
  }
  const traces = document.getElementById("pair");
  let latest = 0;
  const view = async () => {
    const turn = (latest += 1);
    traces.hidden = true;
    const names = [a, b].map((select) => select.selectedOptions[0].textContent);
    state.update(Object.fromEntries([a, b, keep].map((select) => [select.name, select.value])));
    if (a.value === b.value) { place.replaceChildren(make("p", "Both are the same model: choose another one.")); return; }
    form.querySelector("code").textContent = `lm-eval-tts compare ${a.value} ${b.value} --keep ${keep.value}`;
    try {
      const [one, other] = await Promise.all([a, b].map((select) => loadScript(`data/scores/${encodeURIComponent(select.value)}.js`, `scores ${select.value}`)));
      if (turn !== latest) return; // another choice was made meanwhile
      const every = pairsOf(one, other);
      const pairs = every.filter(({ reasons }) => !reasons.length);
      const grouped = byBenchmark(pairs);
      const gated = [...grouped.values()].map((some) => some.at(-1));
      const share = Number(keep.value);
      const refused = [...every.filter(({ reasons }) => reasons.length), ...lacking(one, other, names[1])];
      if (refused.length || !pairs.length) { place.replaceChildren(refusal(refused)); if (!pairs.length) return; }
      const judged = statistics.gate(gated, share);
      const bases = [a, b].map((select) => models.find((model) => model.key === select.value).base);
      const notes = [...(bases[0] === bases[1] ? [] : [`base model: ${bases.join(" and ")}`]), ...differing(one.properties, other.properties)];
      const without = [one, other].some((model) => model.properties.some(([what, value]) => what === "thinking" && value === "off"));
      place.replaceChildren();
      filled(place, [refused.length ? refusal(refused) : verdictView(judged, gated, share, names), gateView(judged, gated, share), make("p.s", "Dotted: what must be kept. Right end: the base."),
        section("By thinking budget", "Accuracy of base ◆ and candidate ● with 95% intervals, and how much of the base is kept, above guessing. Rows in bold decide.", make("div.blocks", [...grouped.values()].map(budgetsTable))),
        make("div.halves", make("div", !without && gainsView(grouped), costsView(gated)), foundView(one, other)),
        changedView(gated, (benchmark, question) => showTraces(traces, [one, other], benchmark, question, names)),
        notes.length > 0 && section("What else differs", null, notes.map((note) => make("p.s", note)))]);
      const asked = state.read();
      if (asked.get("question") !== null && asked.get("group")) await showTraces(traces, [one, other], asked.get("group"), Number(asked.get("question")), names);
    } catch (error) {
      place.replaceChildren(make("p", `Cannot be compared: ${error.message}`));
    }
  };
  form.elements.swap.addEventListener("click", () => { [a.value, b.value] = [b.value, a.value]; view(); });
  form.addEventListener("change", view);
  form.hidden = false;
  view();
}

document.addEventListener("DOMContentLoaded", () => {
  const form = document.getElementById("compare");
  if (form && window.lmtts.listed?.models.length) compareForm(form);
});
