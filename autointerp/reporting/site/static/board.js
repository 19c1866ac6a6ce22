/* The leaderboard: filters, the picture of scores, the sortable table, scatter plots. */
"use strict";
/* Columns of a point; its scores begin at FIRST. */
const FEATURE_AXES = { density: 3, max: 4, length: 6 }, FIRST = 7, DICTIONARY_AXES = ["l0", "fvu", "layer"];

load("index").then((index) => {
  const named = index.dictionaries;
  const rows = index.board.rows.map((cells) => {
    const row = Object.fromEntries(cells.map((value, number) => [index.board.columns[number], value]));
    return { ...named[row.dictionary], ...row };
  });
  const state = { scorer: 0, explainer: 0, kind: "", hook: "", run: "", mode: "means", x: "density", y: 0, sort: "mean", down: true };
  const open = (n) => { location.href = `features.html#${n}`; };
  const isIn = (of) => ["kind", "hook", "run"].every((name) => !state[name] || String(of[name]) === state[name]);
  const current = (scorer) => rows.filter((row) => row.scorer === scorer && row.explainer === state.explainer && isIn(row))
    .sort(compare((row) => row[state.sort], state.down));
  const scores = index.words.map((name, number) => [number, visible(name)]);
  const drawnOf = index.points < index.n ? `${whole(index.points)} of ${whole(index.n)} features are drawn. ` : "";
  const empty = (id, text) => by(id).replaceChildren(para("empty", text));
  let points = [];

  function filters() {
    const all = (name, label, text) => {
      const values = unique(named.map((one) => one[name])).map((value) => [value, visible(text(value))]);
      return values.length < 2 ? null : select(label, [["", "all"], ...values], "", (value) => { state[name] = value; update(); });
    };
    fill(by("filters"), {}, [
      select("score", scores, 0, (value) => { state.scorer = state.y = +value; axes(); update(); }),
      select("explainer", index.explainers.map((name, number) => [number, visible(name)]), 0, (value) => { state.explainer = +value; loadPoints(); }),
      all("run", "run", (number) => index.runs[number].label), all("kind", "kind", String), all("hook", "hook point", String),
    ]);
  }

  function axes() {
    const differ = DICTIONARY_AXES.filter((key) => unique(named.map((one) => one[key]).filter(exists)).length > 1);
    const options = [...Object.keys(FEATURE_AXES), ...differ].map((key) => [key, index.axes[key]]);
    by("axes").replaceChildren(...[
      select("x", [...options, ...scores], state.x, (value) => { state.x = value; against(); }),
      select("y", scores, state.y, (value) => { state.y = +value; against(); }),
    ].filter(exists));
  }

  function picture() {
    const drawn = current(state.scorer).map((row) => ({
      ...row, name: row.label, count: row.n_ok + row.n_failed, low: row.ci_low, high: row.ci_high,
      nulls: Object.fromEntries(Object.keys(MARKS).map((kind) => [kind, row[index.nulls[kind]]])),
      points: points.filter((point) => point[1] === row.dictionary && point[FIRST + state.scorer] !== null).map((point) => [point[FIRST + state.scorer], point[0]]),
    }));
    const levels = unique(drawn.map((row) => row.chance).filter(exists).map(short));
    if (drawn.length) scoresChart(by("scores"), drawn, state.mode, scores[state.scorer][1], open);
    else empty("scores", rows.length ? "No dictionary has this score with these filters." : "There are no results.");
    for (const kind of Object.keys(MARKS)) by(kind).hidden = !drawn.some((row) => exists(row.nulls[kind]));
    by("scores-note").textContent = (levels.length ? `Dashed: chance level ${levels.join(", ")}. ` : "") + (state.mode === "means" ? "" : drawnOf);
  }

  const mean = (value, low, high) => round(value) + (exists(low) ? ` [${round(low)}, ${round(high)}]` : "");
  const FORMATS = { text: (value) => visible(value ?? NONE), round, whole, short, mean: (_, row) => mean(row.mean, row.ci_low, row.ci_high), lead: (_, row) => mean(row.lead, row.lead_low, row.lead_high) };

  /* Hook points and models stand there only if they differ, costs if there are any. */
  function board() {
    const shown = current(state.scorer);
    const columns = index.board.shown.filter(([, key, format], number) => {
      const values = unique(shown.map((row) => row[key]));
      return !number || (format === "text" ? values.length > 1 : values.some(key === "cost_usd" ? Boolean : exists));
    });
    const body = shown.map((row) => el("tr", {}, columns.map(([, key, format, digits]) => key === "label" ?
      el("th", { scope: "row" }, dot(row), row.label) : cell(FORMATS[format](row[key], digits ?? row), format === "text" ? null : "n"))));
    table(by("board"), columns.map(([title, key, format]) => sortHeader(key, title, format !== "text", state, () => { picture(); board(); })), body);
  }

  function against() {
    const { x, y } = state, ofDictionaries = DICTIONARY_AXES.includes(x), at = FEATURE_AXES[x] ?? FIRST + +x;
    const drawn = ofDictionaries
      ? current(y).filter((row) => row[x] !== null && row.mean !== null).map((row) => ({ x: row[x], y: row.mean, colour: row.colour, text: [row.label, `mean ${round(row.mean)} at ${short(row[x])}`] }))
      : points.filter((point) => isIn(named[point[1]]) && point[at] !== null && point[FIRST + y] !== null).map((point) => {
        const of = named[point[1]];
        return { n: point[0], x: point[at], y: point[FIRST + y], colour: of.colour, text: [visible(`${of.name}/${point[2]}`), `${round(point[FIRST + y])} at ${short(point[at])}`] };
      });
    if (drawn.length) scatter(by("against"), drawn, index.axes[x] ?? scores[+x][1], scores[y][1], ["density", "l0", "max"].includes(x), open);
    else empty("against", "Nothing has both with these filters.");
    by("against-note").textContent = !drawn.length ? "" : ofDictionaries ? "A point is a dictionary." : `A point is a feature: a click opens it; so do the arrow keys and Enter. ${drawnOf}`;
    by("against-key").replaceChildren(...unique(rows.map((row) => row.dictionary)).map((number) => named[number]).filter(isIn).map((of) => span("key", dot(of), of.label)));
    paint(by("against-key"));
  }

  const update = () => { picture(); board(); against(); };
  const loadPoints = () => {
    const { explainer } = state;
    return load(`points/${explainer}`).then((loaded) => { if (explainer === state.explainer) { points = loaded; update(); } }).catch(fail);
  };

  choice(by("scores-mode"), ["means", "points"], state.mode, (mode) => { state.mode = mode; picture(); });
  filters();
  axes();
  loadPoints().then(() => { responsive(by("scores"), picture); responsive(by("against"), against); ready(); });
}).catch(fail);
