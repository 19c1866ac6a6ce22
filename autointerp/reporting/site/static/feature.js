/* The feature page: explanations with scores, excerpts shaded by true or predicted activations, distribution, logits,
   neighbours. */
"use strict";
const feature = { n: -1, data: null, shade: "true", order: "by source", explanation: 0 };
const SOURCES = {
  top: "Strongest", quantile: "Spread over the quantiles", importance: "Drawn by squared activation", random: "At random",
  weighted: "At random, weighted", inactive: "Silent", hard: "Silent, near feature active",
};
const SAYS = { detection: ["silent", "active"], fuzzing: ["marks wrong", "marks right"], intruder: ["not the intruder", "the intruder"] };

async function openFeature(n) {
  const [file] = await list.row(n);
  const found = (await load(`features/${file}`)).find((one) => one.n === n);
  /* Another one was opened meanwhile. */
  if (location.hash !== `#${n}`) return;
  Object.assign(feature, { n, data: found, explanation: Math.max(0, found.explanations.findIndex((one) => one.explainer === list.state.explainer)) });
  drawFeature();
  by("main").focus({ preventScroll: true });
  scrollTo(0, 0);
}

const position = (n) => list.order ? list.order.indexOf(n) : n;

function stepFeature(by) {
  const next = position(feature.n) + by;
  if (next >= 0 && next < list.length()) location.hash = `#${list.at(next)}`;
}

function drawFeature() {
  const one = feature.data, of = site.dictionaries[one.dictionary], name = visible(`${of.name}/${one.index}`);
  document.title = document.title.replace(/^.*? · /, () => `${name} · `);
  const at = position(one.n);
  by("feature-view").replaceChildren(
    el("div", { class: "bar" }, el("a", { href: "#" }, "← all features"),
      el("div", { class: "pager" }, step("←", "Previous feature", at < 1, () => stepFeature(-1)),
        `${whole(at + 1)} of ${whole(list.length())}`, step("→", "Next feature", at + 1 >= list.length(), () => stepFeature(1)))),
    el("h1", {}, dot(of), name),
    el("p", { class: "lead" }, visible(nameOf(site, of)), `, ${visible(of.hook)}; active on ${share(one.density)} of tokens, at most ${short(one.max)}.`),
    el("div", { class: "columns" },
      el("div", {}, explanations(one), texts(one), section("Explained from", grouped(one.explain)), intervals(one)),
      el("aside", { "aria-label": "About the feature" }, distribution(one), logits(one), neighbours(one))),
    el("p", { class: "caption keys" }, el("kbd", {}, "j"), " ", el("kbd", {}, "k"), " next and previous · ", el("kbd", {}, "Esc"), " all features · ", el("kbd", {}, "/"), " search"));
  paint(by("feature-view"));
  shadeAll();
  if (one.population) {
    const size = one.population.max / one.population.bins.length;
    bars(by("activations"), one.population.bins, (bin) => `${whole(one.population.bins[bin])} tokens from ${short(bin * size)} to ${short((bin + 1) * size)}`, "0", short(one.population.max), "Histogram of activations");
  }
  const [first, counts] = one.histogram, edge = (bin) => short(2 ** ((first + bin) / 2 - 20));
  if (counts.length) bars(by("maxima"), counts, (bin) => `${whole(counts[bin])} texts with a maximum from ${edge(bin)} to ${edge(bin + 1)}`, edge(0), edge(counts.length), "Histogram of the texts' largest activations");
}

const section = (title, ...children) => el("section", {}, el("h2", {}, title), ...children);

function explanations(one) {
  if (!one.explanations.length) return section("Explanations", para("empty", "There is no result of this feature yet."));
  return section("Explanations", one.explanations.map((each, number) =>
    el("details", { class: number === feature.explanation ? "explanation main" : "explanation", open: Object.keys(each.errors).length > 0 },
      el("summary", {}, el("q", {}, visible(each.text ?? NONE)),
        span("who", visible(site.explainers[each.explainer])), scoresOf(each)),
      Object.keys(each.scores).length ? scoreTable(each) : null,
      Object.entries(each.errors).map(([name, reason]) => para("note", `${visible(name)}: ${visible(reason)}`)),
      para("caption", [each.model && `written by ${visible(each.model)}`, each.prompt && `prompt ${visible(each.prompt)}`,
        each.usage.calls ? `${whole(each.usage.calls)} calls, ${each.usage.cost_usd === null ? "cost unknown" : `$${each.usage.cost_usd.toFixed(4)}`}` : ""].filter(Boolean).join("; ")))));
}

/* The first score of every scorer, and the status where it is not `ok`. */
function scoresOf(each) {
  const names = site.scorers.filter((name) => name in each.scores);
  const first = names.filter((name, number) => names.findIndex((other) => other.split("/")[0] === name.split("/")[0]) === number);
  return [status(each.status), ...first.map((name) => span("score", `${scoreWords(name)} `, el("b", {}, round(each.scores[name]))))];
}

const scoreWords = (name) => visible(site.words[site.scorers.indexOf(name)]);

function scoreTable(each) {
  const kinds = Object.keys(each.controls);
  const rows = site.scorers.filter((name) => name in each.scores).map((name) => el("tr", {},
    el("th", { scope: "row" }, scoreWords(name)),
    cell(each.scores[name] === null ? "undefined" : round(each.scores[name], 3) + (each.failed.includes(name) ? " (failed)" : "")),
    cell(each.intervals[name]?.map((end) => round(end)).join(" to ") ?? NONE),
    kinds.map((kind) => cell(round(each.controls[kind][name], 3)))));
  const head = ["score", "value", "95% interval", ...kinds.map(visible)].map((text, column) => el("th", { scope: "col", class: column ? "n" : null }, text));
  return el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Scores" }, table(el("table"), head, rows));
}

/* The texts that were scored, with the switches that shade and order them. */
function texts(one) {
  const explained = one.explanations.map((each, number) => [String(number), visible(site.explainers[each.explainer])]).filter(([number]) => Object.keys(one.explanations[number].predicted).length);
  const shades = el("div", { class: "choice", role: "group", "aria-label": "Shade by" }), orders = el("div", { class: "choice", role: "group", "aria-label": "Order" });
  choice(shades, ["true", "predicted", "difference"], feature.shade, (shade) => { feature.shade = shade; shadeAll(); });
  choice(orders, ["by source", "worst predicted first"], feature.order, (order) => { feature.order = order; again(); });
  const box = el("div", { id: "scored" }), caption = para("caption", `Predictions go from 0 to 10. Difference: a tenth of the prediction less the activation as a share of ${short(one.max)}; `,
    span("sample over", "too high"), " ", span("sample under", "too low"), ".");
  const again = () => { box.replaceChildren(...scored(one)); shadeAll(); };
  const pick = select("predicted from", explained, String(feature.explanation), (value) => { feature.explanation = +value; again(); });
  again();
  return section("Scored on", explained.length ? el("div", { class: "bar sticky" }, shades, orders, pick) : null, box, explained.length ? caption : null);
}

function scored(one) {
  const explained = one.explanations[feature.explanation], predicted = explained?.predicted ?? {};
  const records = one.score.map((record, number) => ({ ...record, number, predicted: exists(predicted[number]) ? numbers(predicted[number]) : null }));
  if (feature.order === "by source") return grouped(records, explained);
  const miss = ({ acts, predicted: guesses }) => guesses ? numbers(acts).reduce((sum, act, i) => sum + Math.abs((guesses[i] ?? 0) / 10 - act / one.max), 0) / guesses.length : -1;
  return records.sort((a, b) => miss(b) - miss(a)).map((record) => excerpt(record, explained, SOURCES[record.source] ?? record.source));
}

const grouped = (records, explained) => unique(records.map((record) => record.source)).flatMap((source) => [
  el("h3", {}, SOURCES[source] ?? source), ...records.filter((record) => record.source === source).map((record) => excerpt(record, explained))]);

/* Spells numbers out: -k stands for k zeros in a row. */
const numbers = (packed) => JSON.parse(`[${packed}]`).flatMap((value) => value < 0 ? Array(-value).fill(0) : value);

function excerpt(record, explained, source) {
  const acts = numbers(record.acts);
  const tokens = record.tokens.map((token, i) => Object.assign(el("span", { class: i === record.at ? "token centre" : "token" }, visibleToken(token)), {
    token, act: acts[i], predicted: record.predicted ? record.predicted[i] : record.predicted,
  }));
  const about = [source, ...says(record.number, explained), record.weight ? `stands for ${short(record.weight)}` : "", `document ${record.document}`].filter(Boolean).join(" · ");
  const box = el("p", { class: "excerpt", dir: "auto", role: "group", "aria-label": "Text with activations; arrow keys go from token to token" }, tokens);
  roving(box, tokens, (node) => tip.show(node, ...tokenLines(node)));
  tip.over(box, (node) => node.token !== undefined && tokenLines(node));
  return el("div", { class: "text-row" }, box, para("caption", about));
}

/* Says how a judge answered about a text, and how often, with the probability of that answer where there is one. */
function says(number, explained) {
  const answers = Object.entries(explained?.judged ?? {}).flatMap(([scorer, all]) => all.filter(([record]) => record === number)
    .map(([, answer, p]) => `${visible(scorer)}: ${SAYS[scorer]?.[answer] ?? answer}${p === null ? "" : ` (${round(answer ? p : 1 - p)})`}`));
  const times = (text) => answers.filter((other) => other === text).length;
  return unique(answers).map((text) => text + (times(text) > 1 ? ` ×${times(text)}` : ""));
}

const tokenLines = (node) => [visibleToken(node.token), `activation ${short(node.act)}`,
  node.predicted === undefined ? null : node.predicted === null ? "no prediction" : `predicted ${round(node.predicted, 1)} of 10`].filter(exists);

/* Shades every token: by its activation, and in the scored texts by what was chosen. */
function shadeAll() {
  const { max } = feature.data;
  for (const node of document.querySelectorAll(".token")) {
    const truth = max > 0 ? node.act / max : 0, guess = (node.predicted ?? 0) / 10;
    const shade = node.predicted === undefined ? "true" : feature.shade;
    const value = shade === "true" ? truth : shade === "predicted" ? guess : node.predicted === null ? 0 : guess - truth;
    node.dataset.shade = shade === "true" ? "true" : shade === "predicted" || value > 0 ? "over" : "under";
    const size = Math.min(1, Math.abs(value));
    node.style.setProperty("--v", size > 0.004 ? `${Math.round(12 + 88 * size)}%` : "0%");
  }
}

function intervals(one) {
  if (!one.population) return null;
  const { max, intervals: parts } = one.population;
  return section("Activation intervals", para("caption", `Eleven even parts of 0 to ${short(max)}, over ${whole(one.population.tokens)} tokens of the text that scores are about.`),
    parts.map((part, number) => el("details", { open: number < 3 },
      el("summary", {}, `${short(max * (10 - number) / 11)} to ${short(max * (11 - number) / 11)}`, span("score", part.share ? `${share(part.share)} of tokens` : "none")),
      part.excerpts.map((each) => excerpt(each)))));
}

function distribution(one) {
  return section("Activations", one.population ? [el("h3", {}, `Of tokens (${whole(one.population.active)} active)`), el("div", { id: "activations", class: "chart" })] : null,
    el("h3", {}, "Largest of each text"), el("div", { id: "maxima", class: "chart" }),
    para("caption", "Heights grow with the square root of the count; below, edges are half octaves."));
}

function logits(one) {
  if (!one.promoted.length) return null;
  const judged = Object.values(one.explanations[feature.explanation]?.judged_tokens ?? {}).flat().filter(([, answer]) => answer).map(([number]) => number);
  const chips = (tokens, first) => el("p", { class: "chips" }, tokens.map((token, number) => el("span", { class: judged.includes(first + number) ? "chip judged" : "chip" }, visible(token.replace(/ /g, "␣")))));
  return section("Output tokens", el("h3", {}, "Promoted most"), chips(one.promoted, 0), el("h3", {}, "Others, at random"), chips(one.unpromoted, one.promoted.length),
    judged.length ? para("caption", "Framed: what the judge calls promoted.") : null);
}

function neighbours(one) {
  const near = one.neighbours;
  if (!near) return section("Active together", para("empty", "Not computed: the run has no population, or too many features."));
  const listed = (title, items) => items.length ? [el("h3", {}, title), el("ol", { class: "near" }, items.map(([n, r]) => {
    const link = el("a", { href: `#${n}` }), text = span("caption"), item = el("li", {}, link, span("score", round(r)), text);
    list.row(n).then((row) => { link.textContent = list.name(row); text.textContent = visible((row[6] ?? "").slice(0, 120)); }).catch(fail);
    return item;
  }))] : [];
  return section("Active together", listed("In this dictionary", near.own), listed("In the others", near.others),
    near.own.length + near.others.length ? null : para("empty", "None."),
    para("caption", `Pearson's r of the activations over ${whole(near.tokens)} tokens.`));
}
