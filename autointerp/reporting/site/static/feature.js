/* The feature page: explanations with scores, excerpts shaded by true or predicted activations, distribution, logits,
   neighbours. */
"use strict";
const feature = { n: -1, data: null, shade: "true", order: "by source", explanation: 0 };

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

function stepFeature(by) {
  const next = list.order[list.order.indexOf(feature.n) + by];
  if (exists(next)) location.hash = `#${next}`;
}

/* Fills a part of the page; a section without content is not shown. */
function put(id, ...children) {
  by(id).replaceChildren();
  fill(by(id), {}, children);
  const box = by(id).closest("section");
  if (box) box.hidden = !children.flat(2).some(exists);
}

function drawFeature() {
  const one = feature.data, of = site.dictionaries[one.dictionary], name = visible(`${of.name}/${one.index}`), at = list.order.indexOf(one.n), { length } = list.order;
  document.title = document.title.replace(/^.*? · /, () => `${name} · `);
  put("feature-pager", step("←", "Previous feature", at < 1, () => stepFeature(-1)), at < 0 ? `not among ${whole(length)}` : `${whole(at + 1)} of ${whole(length)}`,
    step("→", "Next feature", at + 1 >= length, () => stepFeature(1)));
  put("feature-name", dot(of), name);
  put("feature-lead", of.label, `, ${visible(of.hook)}; active on ${share(one.density)} of tokens, at most ${short(one.max)}.`);
  put("explanations", one.explanations.length ? one.explanations.map(explanation) : para("empty", "There is no result of this feature yet."));
  texts(one);
  put("explained", grouped(one.explain));
  put("intervals", one.population?.intervals.map(interval(one)));
  put("logits", tokens(one));
  put("effect", one.effect?.map((part) => part.map ? chips(...part) : part));
  for (const kind of ["alike", "together"]) put(kind, near(one[kind]));
  put("neurons", one.neurons.length ? el("p", { class: "chips" }, one.neurons.map(([index, cosine]) => chip(`${index}`, round(cosine)))) : null);
  paint(by("feature-view"));
  shadeAll();
  histograms(one);
}

function explanation(each, number) {
  const { usage, errors } = each, edited = para("caption"), box = el("textarea", { rows: 3, "aria-label": "Explanation, to be edited", oninput: () => edit(each, number, box.value, edited) });
  box.value = each.text ?? "";
  return el("details", { class: number === feature.explanation ? "explanation main" : "explanation", open: Object.keys(errors).length > 0 },
    el("summary", {}, el("q", {}, visible(each.text ?? NONE)), span("who", visible(site.explainers[each.explainer])), scoresOf(each)),
    Object.keys(each.scores).length ? scoreTable(each) : null,
    Object.entries(errors).map(([name, reason]) => para("note", `${visible(name)}: ${visible(reason)}`)),
    each.text === null ? null : [box, edited, feature.judge?.(each, number, box)],
    each.asked === null ? null : el("details", { ontoggle: (event) => questions(event.target, each).catch(fail) }, el("summary", {}, "Questions and answers")),
    para("caption", [each.model && `written by ${visible(each.model)}`, each.prompt && `prompt ${visible(each.prompt)}`,
      usage.calls ? `${whole(usage.calls)} calls, ${usage.cost_usd === null ? "cost unknown" : `$${usage.cost_usd.toFixed(4)}`}` : ""].filter(Boolean).join("; ")));
}

/* Scores an edited explanation where it is made of token rules, and shows what it predicts. */
function edit(each, number, text, out) {
  const rules = readRules(text), records = feature.data.score;
  if (!rules) { out.textContent = "Not worded as token rules, so this page cannot score it."; return; }
  const predicted = records.map((record) => predict(rules, record.tokens));
  out.textContent = `Edited: ${slicesOf(records, predicted).map(([name, r]) => `${scoreWords(name)} ${round(r, 3)}`).join("; ")}`;
  each.predicted = predicted.map(String);
  feature.explanation = number;
  texts(feature.data);
}

/* Loads what was asked about the explanation and answered, when it is first opened. */
async function questions(node, each) {
  if (node.children.length > 1) return;
  const at = feature.n, all = (await load(`asked/${each.asked}`)).find(([n, explainer]) => n === at && explainer === each.explainer)[2];
  if (node.children.length < 2) node.append(...all.flatMap(([stage, question, answer]) => [el("h3", {}, visible(stage)), ...[question, answer].map((text) => el("pre", { class: "code", tabindex: 0 }, text.split("\n").map(visible).join("\n")))]));
}

/* The first score of every scorer, and the status where it is not `ok`. */
const scoresOf = (each) => [status(each.status), ...site.first.filter((name) => name in each.scores).map((name) => span("score", `${scoreWords(name)} `, el("b", {}, round(each.scores[name]))))];

const scoreWords = (name) => visible(site.words[site.scorers.indexOf(name)]);

function scoreTable(each) {
  const kinds = Object.keys(each.controls);
  const ends = Object.keys(each.intervals).length ? ["95% interval"] : [];
  const rows = site.scorers.filter((name) => name in each.scores).map((name) => el("tr", {},
    el("th", { scope: "row" }, scoreWords(name)),
    cell(each.scores[name] === null ? "undefined" : round(each.scores[name], 3) + (each.failed.includes(name) ? " (failed)" : "")),
    ends.map(() => cell(each.intervals[name]?.map((end) => round(end)).join(" to ") ?? NONE)),
    kinds.map((kind) => cell(round(each.controls[kind][name], 3)))));
  const head = ["score", "value", ...ends, ...kinds.map(visible)].map((text, column) => el("th", { scope: "col", class: column ? "n" : null }, text));
  return el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Scores" }, table(el("table"), head, rows));
}

/* The texts that were scored, with the switches that shade and order them. */
function texts(one) {
  const explained = one.explanations.map((each, number) => [String(number), visible(site.explainers[each.explainer])]).filter(([number]) => Object.keys(one.explanations[number].predicted).length);
  const again = () => { put("scored", scored(one)); shadeAll(); };
  choice(by("shade"), ["true", "predicted", "difference"], feature.shade, (shade) => { feature.shade = shade; shadeAll(); });
  choice(by("order"), ["by source", "worst predicted first"], feature.order, (order) => { feature.order = order; again(); });
  put("from", select("predicted from", explained, String(feature.explanation), (value) => { feature.explanation = +value; again(); }));
  by("shading").hidden = by("shading-caption").hidden = !explained.length;
  again();
}

/* Spells numbers out: -k stands for k zeros in a row. */
const numbers = (packed) => JSON.parse(`[${packed}]`).flatMap((value) => value < 0 ? Array(-value).fill(0) : value);

function scored(one) {
  const explained = one.explanations[feature.explanation], predicted = explained?.predicted ?? {};
  const records = one.score.map((record, number) => ({ ...record, number, predicted: exists(predicted[number]) ? numbers(predicted[number]) : null }));
  if (feature.order === "by source") return grouped(records, explained);
  const miss = ({ acts, predicted: guesses }) => guesses ? numbers(acts).reduce((sum, act, i) => sum + Math.abs((guesses[i] ?? 0) / 10 - act / one.max), 0) / guesses.length : -1;
  return records.sort((a, b) => miss(b) - miss(a)).map((record) => excerpt(record, explained, site.sources[record.source]));
}

const grouped = (records, explained) => unique(records.map((record) => record.source)).flatMap((source) => [
  el("h3", {}, site.sources[source]), ...records.filter((record) => record.source === source).map((record) => excerpt(record, explained))]);

function excerpt(record, explained, source) {
  const acts = numbers(record.acts);
  const tokens = record.tokens.map((token, i) => Object.assign(el("span", { class: i === record.at ? "token centre" : "token" }, visibleToken(token)), {
    token, act: acts[i], predicted: record.predicted ? record.predicted[i] : record.predicted,
  }));
  const about = [source, explained?.says[record.number], record.weight ? `stands for ${short(record.weight)}` : "", `document ${record.document}`].filter(Boolean).join(" · ");
  const box = el("p", { class: "excerpt", dir: "auto", role: "group", "aria-label": "Text with activations; arrow keys go from token to token" }, tokens);
  roving(box, tokens, (node) => tip.show(node, ...tokenLines(node)));
  tip.over(box, (node) => node.token !== undefined && tokenLines(node));
  return el("div", { class: "text-row" }, box, para("caption", about));
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

const interval = ({ population: { max } }) => (part, number) => el("details", { open: number < 3 },
  el("summary", {}, `${short(max * (10 - number) / 11)} to ${short(max * (11 - number) / 11)}`, span("score", part.share ? `${share(part.share)} of tokens` : "none")),
  part.excerpts.map((each) => excerpt(each)));

function histograms({ population, histogram: [first, counts] }) {
  by("activations-title").textContent = population ? `Of tokens (${whole(population.active)} active)` : "";
  by("activations").hidden = !population;
  if (population) {
    const { bins, max } = population, size = max / bins.length;
    bars(by("activations"), bins, (bin) => `${whole(bins[bin])} tokens from ${short(bin * size)} to ${short((bin + 1) * size)}`, "0", short(max), "Histogram of activations");
  }
  const edge = (bin) => short(2 ** ((first + bin) / 2 - 20));
  by("maxima").replaceChildren();
  if (counts.length) bars(by("maxima"), counts, (bin) => `${whole(counts[bin])} texts with a maximum from ${edge(bin)} to ${edge(bin + 1)}`, edge(0), edge(counts.length), "Histogram of the texts' largest activations");
}

const chip = (text, value, name = "chip") => span(name, text, exists(value) ? span("score", value) : null);

const chips = (title, words, values, judged, first) => words.length ? [el("h3", {}, title), el("p", { class: "chips" }, words.map((text, i) =>
  chip(visible(text.replace(/ /g, "␣")), values[i] && short(values[i]), judged?.includes(first + i) ? "chip judged" : "chip")))] : [];

function tokens(one) {
  const judged = one.explanations[feature.explanation]?.judged_tokens;
  by("framed").hidden = !judged?.length;
  return [chips("Raised most", one.promoted, one.promoted_logits, judged, 0), chips("Lowered most", one.suppressed, one.suppressed_logits), chips("Others, at random", one.unpromoted, [], judged, one.promoted.length)].flat();
}

function near(all) {
  if (!all) return para("empty", "Not computed: the run does not hold it, or has too many features.");
  const listed = (title, items) => items.length ? [el("h3", {}, title), el("ol", { class: "near" }, items.map(([n, value]) => {
    const link = el("a", { href: `#${n}` }), text = span("caption"), item = el("li", {}, link, span("score", round(value)), text);
    list.row(n).then((row) => { link.textContent = list.name(row); text.textContent = visible((row[6] ?? "").slice(0, 300)); }).catch(fail);
    return item;
  }))] : [];
  return [...listed("In this dictionary", all.own), ...listed("In the others", all.others), all.own.length + all.others.length ? null : para("empty", "None.")];
}
