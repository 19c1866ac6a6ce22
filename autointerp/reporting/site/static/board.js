/* The leaderboard: filters, the picture of scores, the sortable table, scatter plots. */
"use strict";
/* Columns of a point; its scores begin at FIRST. */
const FEATURE_AXES = { density: 3, max: 4, length: 6 }, FIRST = 7;
const AXES = { density: "density", length: "words of the explanation", max: "largest activation", l0: "L0", fvu: "FVU", layer: "layer" };
const NULLS = { mismatched: ["×", "control_mean"], permuted: ["+", "permuted_mean"], exchanged: ["△", "exchanged_mean"] };

load("index").then((index) => {
  const named = index.dictionaries.map((one) => ({ ...one, label: visible(nameOf(index, one)) }));
  const rows = index.board.rows.map((cells) => {
    const row = Object.fromEntries(cells.map((value, number) => [index.board.columns[number], value]));
    return { ...named[row.dictionary], ...row };
  });
  const state = { scorer: 0, explainer: 0, kind: "", hook: "", run: "", mode: "means", x: "density", y: 0, sort: null, down: true };
  const open = (n) => { location.href = `features.html#${n}`; };
  const isIn = (of) => ["kind", "hook", "run"].every((name) => !state[name] || String(of[name]) === state[name]);
  const current = (scorer) => rows.filter((row) => row.scorer === scorer && row.explainer === state.explainer && isIn(row));
  const scores = index.words.map((name, number) => [number, visible(name)]);
  const drawnOf = () => index.points < index.n ? `${whole(index.points)} of ${whole(index.n)} features are drawn. ` : "";
  const empty = (id, text) => by(id).replaceChildren(para("empty", text));
  let points = [];

  function filters() {
    const some = (name, label, options) => options.length < 2 ? null :
      select(label, [["", "all"], ...options], state[name], (value) => { state[name] = value; update(); });
    const values = (name) => unique(named.map((one) => one[name])).map((value) => [value, visible(value)]);
    by("filters").replaceChildren(...[
      select("score", scores, state.scorer, (value) => { state.scorer = state.y = +value; axes(); update(); }),
      select("explainer", index.explainers.map((name, number) => [number, visible(name)]), 0, (value) => { state.explainer = +value; loadPoints(); }),
      some("run", "run", index.runs.map((run, number) => [number, visible(run.label)])),
      some("kind", "kind", values("kind")), some("hook", "hook point", values("hook")),
    ].filter(exists));
  }

  function axes() {
    const differ = ["l0", "fvu", "layer"].filter((key) => unique(named.map((one) => one[key]).filter(exists)).length > 1);
    const options = [...Object.keys(FEATURE_AXES), ...differ].map((key) => [key, AXES[key] + (differ.includes(key) ? " (dictionaries)" : "")]);
    by("axes").replaceChildren(...[
      select("x", [...options, ...scores], state.x, (value) => { state.x = value; against(); }),
      select("y", scores, state.y, (value) => { state.y = +value; against(); }),
    ].filter(exists));
  }

  function picture() {
    const drawn = current(state.scorer).map((row) => ({
      ...row, name: row.label, count: row.n_ok + row.n_failed, low: row.ci_low, high: row.ci_high,
      nulls: Object.fromEntries(Object.entries(NULLS).map(([kind, [, column]]) => [kind, row[column] ?? null])),
      points: points.filter((point) => point[1] === row.dictionary && point[FIRST + state.scorer] !== null).map((point) => [point[FIRST + state.scorer], point[0]]),
    }));
    const chance = drawn.find((row) => row.chance !== null)?.chance ?? null;
    if (drawn.length) scoresChart(by("scores"), drawn, state.mode, chance, scores[state.scorer][1], open);
    else empty("scores", rows.length ? "No dictionary has this score with these filters." : "There are no results yet.");
    const kinds = Object.keys(NULLS).filter((kind) => drawn.some((row) => row.nulls[kind] !== null));
    by("scores-caption").textContent = "Mean over features with its 95% interval. " +
      (kinds.length ? `Uninformed explanations: ${kinds.map((kind) => `${NULLS[kind][0]} ${kind}`).join(", ")}. ` : "") +
      (chance === null ? "" : `Dashed: chance level ${short(chance)}. `) + (state.mode === "means" ? "" : drawnOf());
  }

  const interval = (mean, low, high) => round(mean) + (exists(low) ? ` [${round(low)}, ${round(high)}]` : "");
  /* Title, key, text; hook points and models stand there only if they differ, costs if there are any. */
  const MODELS = 4;
  const COLUMNS = [
    ["dictionary", "label"], ["hook point", "hook"], ["simulator", "simulator"], ["judge", "judge"],
    ["score", "mean", (row) => interval(row.mean, row.ci_low, row.ci_high)],
    ...Object.entries(NULLS).map(([kind, [, column]]) => [kind, column]),
    ["lead", "lead", (row) => interval(row.lead, row.lead_low, row.lead_high)],
    ...["ok", "failed", "undefined", "error"].map((name) => [name, `n_${name}`, (row) => whole(row[`n_${name}`])]),
    ["density", "density_median", (row) => short(row.density_median)], ["L0", "l0", (row) => round(row.l0, 1)],
    ["FVU", "fvu", (row) => round(row.fvu, 3)], ["USD", "cost_usd", (row) => round(row.cost_usd, 4)],
  ];

  function board() {
    const shown = current(state.scorer);
    const columns = COLUMNS.filter(([, key], number) => {
      const values = unique(shown.map((row) => row[key]));
      return !number || (number < MODELS ? values.length > 1 : values.some(key === "cost_usd" ? Boolean : exists));
    });
    if (state.sort !== null) shown.sort(compare((row) => row[state.sort], state.down));
    const isNumber = (key) => COLUMNS.findIndex((column) => column[1] === key) >= MODELS;
    const body = shown.map((row) => el("tr", {}, columns.map(([, key, text]) => key === "label" ?
      el("th", { scope: "row" }, dot(row), row.label) :
      cell(text ? text(row) : isNumber(key) ? round(row[key]) : visible(row[key] ?? NONE), isNumber(key) ? "n" : null))));
    by("board").replaceChildren();
    table(by("board"), columns.map(([title, key]) => sortHeader(key, title, isNumber(key), state, board)), body);
    paint(by("board"));
  }

  function against() {
    const { x, y } = state, ofDictionaries = ["l0", "fvu", "layer"].includes(x), at = FEATURE_AXES[x] ?? FIRST + +x;
    const drawn = ofDictionaries
      ? current(y).filter((row) => row[x] !== null && row.mean !== null).map((row) => ({ x: row[x], y: row.mean, colour: row.colour, text: [row.label, `mean ${round(row.mean)} at ${short(row[x])}`] }))
      : points.filter((point) => isIn(named[point[1]]) && point[at] !== null && point[FIRST + y] !== null).map((point) => {
        const of = named[point[1]];
        return { n: point[0], x: point[at], y: point[FIRST + y], colour: of.colour, text: [visible(`${of.name}/${point[2]}`), `${round(point[FIRST + y])} at ${short(point[at])}`] };
      });
    if (drawn.length) scatter(by("against"), drawn, AXES[x] ?? scores[+x][1], scores[y][1], ["density", "l0", "max"].includes(x), open);
    else empty("against", "Nothing has both with these filters.");
    by("against-caption").replaceChildren(
      ofDictionaries ? "A point is a dictionary. " : `A point is a feature: a click opens it; so do the arrow keys and Enter. ${drawnOf()}`,
      ...unique(rows.map((row) => row.dictionary)).map((number) => named[number]).filter(isIn).map((of) => span("key", dot(of), of.label)));
    paint(by("against-caption"));
  }

  const update = () => { picture(); board(); against(); };
  const loadPoints = () => load(`points/${state.explainer}`).then((loaded) => { points = loaded; update(); }).catch(fail);

  choice(by("scores-mode"), ["means", "points"], state.mode, (mode) => { state.mode = mode; picture(); });
  filters();
  axes();
  loadPoints().then(() => { responsive(by("scores"), picture); responsive(by("against"), against); });
}).catch(fail);
