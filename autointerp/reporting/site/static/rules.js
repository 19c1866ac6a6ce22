/* Reads token rules back from an explanation and computes what they predict and its correlation with the truth: the
   arithmetic of the simulator `rules` and of the scorer `simulation`, over the texts of the page. */
"use strict";

/* The rules of a text; null if it is not worded like rules. */
function readRules(text) {
  const { opening, nothing, separator, closing, patterns } = site.rules, rules = [];
  if (text === nothing) return rules;
  if (!text.startsWith(opening)) return null;
  for (let at = opening.length; ; at += separator.length) {
    const rule = patterns.map(([kind, source]) => ({ kind, match: text.slice(at).match(`^(?:${source})`) })).find(({ match }) => match);
    if (!rule) return null;
    const { a, b, strength } = rule.match.groups;
    try { rules.push({ kind: rule.kind, a: JSON.parse(a), b: b && JSON.parse(b), strength: +strength }); } catch { return null; }
    at += rule.match[0].length;
    if (text.slice(at) === closing) return rules;
    if (!text.startsWith(separator, at)) return null;
  }
}

const HOLDS = {
  token: ({ a }, tokens, i) => tokens[i] === a,
  pair: ({ a, b }, tokens, i) => tokens[i - 1] === a && tokens[i] === b,
  after: ({ a }, tokens, i) => tokens[i - 1] === a,
  near: ({ a }, tokens, i) => tokens.slice(Math.max(0, i - site.rules.near), i).includes(a),
};
const predict = (rules, tokens) => tokens.map((_, i) => Math.max(0, ...rules.filter((rule) => HOLDS[rule.kind](rule, tokens, i)).map((rule) => rule.strength)));

/* Pearson's r; null for a constant truth, 0 for a constant prediction. */
function correlation(x, y) {
  const mean = (of) => x.reduce((sum, _, i) => sum + of(i), 0) / x.length, mx = mean((i) => x[i]), my = mean((i) => y[i]);
  const xx = mean((i) => (x[i] - mx) ** 2), yy = mean((i) => (y[i] - my) ** 2), isZero = (value) => !(value > 1e-18);
  return isZero(xx) ? null : isZero(yy) ? 0 : mean((i) => (x[i] - mx) * (y[i] - my)) / Math.sqrt(xx * yy);
}

/* The scores of predictions, one list per record, over each slice that has records: [[name, r], ...]. */
const slicesOf = (records, predicted) => Object.entries(site.rules.slices).map(([name, sources]) => {
  const chosen = records.map((_, number) => number).filter((number) => sources.includes(records[number].source));
  return [name, correlation(chosen.flatMap((number) => numbers(records[number].acts)), chosen.flatMap((number) => predicted[number]))];
}).filter(([name]) => site.scorers.includes(name));
