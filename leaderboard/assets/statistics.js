// The statistics of lm_eval_ext/statistics, for comparisons in the browser; a test holds them against each other. Of each
// task, the site has `scores` from 0 to 1, one per question and in the same order for both models, and `bounds`: the mean
// with both ends of its interval, first the 95% interval, then those of Holm's correction for 2, 3, ... rows.
"use strict";

const REACH = 2.8015852181129683; // quantiles of the level and of a power of 80%

const statistics = {
  student: {}, // quantiles at 95%, by number of questions

  mean: (values) => values.reduce((sum, value) => sum + value, 0) / values.length,

  // `correlation` in paired.py: two questions are added, each solved by one of the models alone.
  correlation(one, other) {
    const count = one.length + 2;
    const extended = (values, extra) => (values.reduce((sum, value) => sum + value, 0) + extra) / count;
    const [first, second] = [extended(one, 1), extended(other, 1)];
    const variance = (values, centre) => extended(values.map((value) => value * value), 1) - centre * centre;
    const together = extended(one.map((value, index) => value * other[index]), 0) - first * second;
    return Math.max(-1, Math.min(1, together / Math.sqrt(variance(one, first) * variance(other, second))));
  },

  // `difference_bounds` in paired.py.
  difference(task, base) {
    const [[mean, low, high]] = task.bounds;
    const [[baseMean, baseLow, baseHigh]] = base.bounds;
    const correlated = this.correlation(task.scores, base.scores);
    const half = (a, b) => Math.sqrt(Math.max(0, a * a + b * b - 2 * correlated * a * b));
    return [mean - baseMean, mean - baseMean - half(mean - low, baseHigh - baseMean), mean - baseMean + half(high - mean, baseMean - baseLow)];
  },

  // `ratio_interval` in paired.py; null if the base is not above chance, or chance is not known.
  ratio(task, base, level = 0) {
    const [mean, low, high] = task.bounds[level].map((value) => value - base.chance);
    const [baseMean, baseLow, baseHigh] = base.bounds[level].map((value) => value - base.chance);
    if (base.chance === null || !(baseLow > 0)) return null;
    const correlated = this.correlation(task.scores, base.scores);
    const [down, up] = [baseHigh - baseMean, baseMean - baseLow];
    const [lower, upper] = [mean - low, high - mean];
    let product = mean * baseMean - correlated * lower * down;
    let [over, of] = [mean ** 2 - lower ** 2, baseMean ** 2 - down ** 2];
    const least = low > 0 ? over / (product + Math.sqrt(Math.max(0, product ** 2 - of * over))) : 0;
    product = mean * baseMean - correlated * upper * up;
    [over, of] = [mean ** 2 - upper ** 2, baseMean ** 2 - up ** 2];
    const most = high > 0 ? (product + Math.sqrt(Math.max(0, product ** 2 - of * over))) / of : 0;
    return [Math.max(0, mean / baseMean), least, most]; // below chance, nothing is left
  },

  // `contrast_interval` in paired.py.
  contrast(tasks, weights) {
    const count = tasks[0].scores.length;
    const values = tasks[0].scores.map((_, index) => tasks.reduce((sum, task, at) => sum + weights[at] * task.scores[index], 0));
    const mean = this.mean(values);
    const most = weights.reduce((sum, weight) => sum + Math.max(0, weight), 0);
    const least = weights.reduce((sum, weight) => sum + Math.min(0, weight), 0);
    const centre = (count * mean + (most + least) / 2) / (count + 1);
    const squares = values.reduce((sum, value) => sum + (value - centre) ** 2, 0) + ((most - centre) ** 2 + (least - centre) ** 2) / 2;
    const half = this.student[count] * Math.sqrt(squares / (count + 1) / count);
    return [mean, mean - half, mean + half];
  },

  // `detectable_loss` in power.py: the smallest difference shown with a power of 80%; null if nothing varies.
  detectable(task, base) {
    const differences = task.scores.map((score, index) => score - base.scores[index]);
    const mean = this.mean(differences);
    const variance = differences.length > 1 ? differences.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (differences.length - 1) : 0;
    return variance > 0 ? REACH * Math.sqrt(variance / differences.length) : null;
  },

  // `gate` in gate.py: the verdict on all pairs of tasks, and on each; null where nothing can be measured.
  gate(pairs, keep) {
    const kept = pairs.map(({ base, candidate }) => this.ratio(candidate, base));
    let left = pairs.filter((_, index) => kept[index] !== null);
    const below = ({ base, candidate }) => { const found = this.ratio(candidate, base, left.length - 1); return found !== null && found[2] < keep; };
    const lost = new Set();
    for (let found; (found = left.find(below)); left = left.filter((pair) => pair !== found)) lost.add(found);
    const verdicts = pairs.map((pair, index) => (kept[index] === null ? null : lost.has(pair) ? "lost" : kept[index][1] >= keep ? "kept" : "undecided"));
    const known = verdicts.filter((verdict) => verdict !== null);
    const verdict = lost.size ? "lost" : known.length && known.every((one) => one === "kept") ? "kept" : "undecided";
    return { verdict, rows: verdicts, kept };
  },
};
