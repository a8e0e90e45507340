// The statistics of lm_eval_ext/statistics, for comparisons in the browser; a test holds them against each other.
// Scores are from 0 to 1, one per question, in the same order for both models. `level` 0 is 95%; level j - 1 is that of
// Holm's correction for j rows.
"use strict";

const statistics = {
  quantiles: { normal: [], student: {} },

  mean: (values) => values.reduce((sum, value) => sum + value, 0) / values.length,

  // `mean_bounds` in intervals.py: [estimate, low, high].
  interval(scores, level = 0) {
    const [count, mean] = [scores.length, this.mean(scores)];
    const variance = Math.max(0, this.mean(scores.map((score) => score * score)) - mean * mean);
    const single = mean * (1 - mean);
    const share = single > 0 ? Math.min(variance / single, 1) : 1;
    const information = 4 * count * single;
    const shrunk = (information * share + 1) / (information + 1);
    const quantile = shrunk > 1 - 1e-9 ? this.quantiles.normal[level] : this.quantiles.student[count][level];
    const extra = quantile ** 2 / (count / shrunk);
    const centre = (mean + extra / 2) / (1 + extra);
    const half = Math.sqrt(extra * (single + extra / 4)) / (1 + extra);
    return [mean, Math.max(0, Math.min(centre - half, mean)), Math.min(1, Math.max(centre + half, mean))];
  },

  // `correlation` in paired.py: one question is added, that each model solves half of, alone.
  correlation(one, other) {
    const count = one.length + 1;
    const extended = (values, extra) => (values.reduce((sum, value) => sum + value, 0) + extra) / count;
    const [first, second] = [extended(one, 0.5), extended(other, 0.5)];
    const variance = (values, centre) => extended(values.map((value) => value * value), 0.5) - centre * centre;
    const together = extended(one.map((value, index) => value * other[index]), 0) - first * second;
    return Math.max(-1, Math.min(1, together / Math.sqrt(variance(one, first) * variance(other, second))));
  },

  // `difference_bounds` in paired.py.
  difference(scores, base) {
    const [mean, low, high] = this.interval(scores);
    const [baseMean, baseLow, baseHigh] = this.interval(base);
    const correlated = this.correlation(scores, base);
    const half = (a, b) => Math.sqrt(Math.max(0, a * a + b * b - 2 * correlated * a * b));
    return [mean - baseMean, mean - baseMean - half(mean - low, baseHigh - baseMean), mean - baseMean + half(high - mean, baseMean - baseLow)];
  },

  // `ratio_bounds` in paired.py; null if the base is not above chance.
  ratio(scores, base, chance, level = 0) {
    const [mean, low, high] = this.interval(scores, level).map((value) => value - chance);
    const [baseMean, baseLow, baseHigh] = this.interval(base, level).map((value) => value - chance);
    if (!(baseLow > 0)) return null;
    const correlated = this.correlation(scores, base);
    const [down, up] = [baseHigh - baseMean, baseMean - baseLow];
    const [lower, upper] = [mean - low, high - mean];
    let product = mean * baseMean - correlated * lower * down;
    let [over, of] = [mean ** 2 - lower ** 2, baseMean ** 2 - down ** 2];
    const least = low > 0 ? over / (product + Math.sqrt(Math.max(0, product ** 2 - of * over))) : 0;
    product = mean * baseMean - correlated * upper * up;
    [over, of] = [mean ** 2 - upper ** 2, baseMean ** 2 - up ** 2];
    return [mean / baseMean, least, (product + Math.sqrt(Math.max(0, product ** 2 - of * over))) / of];
  },

  // `contrast_interval` in contrasts.py.
  contrast(rows, weights) {
    const count = rows[0].length;
    const values = rows[0].map((_, index) => rows.reduce((sum, row, at) => sum + weights[at] * row[index], 0));
    const mean = this.mean(values);
    const most = weights.reduce((sum, weight) => sum + Math.max(0, weight), 0);
    const least = weights.reduce((sum, weight) => sum + Math.min(0, weight), 0);
    const centre = (count * mean + (most + least) / 2) / (count + 1);
    const squares = values.reduce((sum, value) => sum + (value - centre) ** 2, 0) + ((most - centre) ** 2 + (least - centre) ** 2) / 2;
    const half = this.quantiles.student[count][0] * Math.sqrt(squares / (count + 1) / count);
    return [mean, mean - half, mean + half];
  },

  // `detectable_loss` in power.py: the smallest difference shown with a power of 80%; null if nothing varies.
  detectable(scores, base) {
    const differences = scores.map((score, index) => score - base[index]);
    const mean = this.mean(differences);
    const variance = differences.length > 1 ? differences.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (differences.length - 1) : 0;
    return variance > 0 ? (this.quantiles.normal[0] + 0.8416212335729143) * Math.sqrt(variance / differences.length) : null;
  },

  // `gate` in gate.py: the verdict on all rows, and on each; null where nothing can be measured.
  gate(rows, keep) {
    const kept = rows.map((row) => (row.chance === null ? null : this.ratio(row.scores, row.base, row.chance)));
    const measurable = rows.map((_, index) => index).filter((index) => kept[index] !== null);
    const count = measurable.length;
    const below = (row, level) => { const found = this.ratio(row.scores, row.base, row.chance, level); return found !== null && found[2] < keep; };
    // How many rows a row would still be lost among.
    const strength = new Map(measurable.map((index) => {
      let rowsBeside = 0;
      while (rowsBeside < count && below(rows[index], rowsBeside)) rowsBeside += 1;
      return [index, rowsBeside];
    }));
    const lost = new Set();
    [...measurable].sort((one, other) => strength.get(other) - strength.get(one)).every((index, rank) => strength.get(index) >= count - rank && lost.add(index));
    const verdicts = rows.map((_, index) => (kept[index] === null ? null : lost.has(index) ? "lost" : kept[index][1] >= keep ? "kept" : "undecided"));
    const known = verdicts.filter((verdict) => verdict !== null);
    const verdict = known.includes("lost") ? "lost" : known.length && known.every((one) => one === "kept") ? "kept" : "undecided";
    return { verdict, rows: verdicts, kept };
  },
};
