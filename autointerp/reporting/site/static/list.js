/* The list of features: loads its chunks when it needs them, sorts, filters, searches, pages; keeps the order for the
   feature page. A row is [script of the whole feature, dictionary, index, density, largest activation, status,
   explanation, words of it, scores...]. */
"use strict";
const PAGE = 100, FIRST_SCORE = 8, MOST_SCORES = 4;

/* The index. */
let site = null;
const list = {
  /* Numbers of the listed features. */
  order: [],
  state: { explainer: 0, dictionary: "", status: "", search: "", sort: null, down: true, page: 0 },

  /* Loads the row of feature `n`. */
  row: async (n, explainer = list.state.explainer) => {
    const starts = site.lists[explainer], chunk = starts.findLastIndex((start) => start <= n);
    return (await load(`list/${explainer}/${chunk}`))[n - starts[chunk]];
  },

  all: async (explainer) => (await Promise.all(site.lists[explainer].map((_, number) => load(`list/${explainer}/${number}`)))).flat(),
  name: (row) => visible(`${site.dictionaries[row[1]].name}/${row[2]}`),
};

/* Filters and sorts; reads every chunk only if one of both is asked for. */
async function ordered() {
  const { explainer, dictionary, status, search, sort, down } = list.state, all = [...Array(site.n).keys()];
  if (!dictionary && !status && !search && sort === null) return all;
  const rows = await list.all(explainer), words = search.toLowerCase();
  const isIn = (row) => (!dictionary || row[1] === +dictionary) && (!status || row[5] === +status) &&
    (!words || (row[6] ?? "").toLowerCase().includes(words) || `${site.dictionaries[row[1]].name}/${row[2]}`.toLowerCase().includes(words));
  const order = all.filter((n) => isIn(rows[n]));
  if (sort !== null) order.sort(compare(sort === "feature" ? (n) => rows[n][1] * 1e9 + rows[n][2] : (n) => rows[n][+sort], down));
  return order;
}

/* Lists the features; only the newest of the calls, whose data may come in another order, changes anything. */
let newest = 0;
async function relist(page = 0) {
  const mine = ++newest;
  by("list").setAttribute("aria-busy", "true");
  const order = await ordered(), numbers = order.slice(page * PAGE, (page + 1) * PAGE);
  const rows = await Promise.all(numbers.map((number) => list.row(number)));
  if (mine !== newest) return;
  list.order = order;
  list.state.page = page;
  drawList(numbers, rows);
  await drawMap();
}

function drawList(numbers, rows) {
  const scores = site.words.slice(0, MOST_SCORES);
  const redraw = () => relist().catch(fail);
  const head = [["feature", "feature", false], ...scores.map((name, number) => [String(FIRST_SCORE + number), name, true]), ["3", "density", true], ["6", "explanation", false]]
    .map(([key, text, isNumber]) => sortHeader(key, text, isNumber, list.state, redraw));
  const body = rows.map((row, number) => el("tr", {},
    el("th", { scope: "row" }, dot(site.dictionaries[row[1]]), el("a", { href: `#${numbers[number]}` }, list.name(row))),
    scores.map((name, score) => cell(round(row[FIRST_SCORE + score]), score ? "n extra" : "n")),
    cell(short(row[3]), "n extra"),
    el("td", { class: "text" }, status(row[5]), visible(row[6] ?? NONE))));
  table(by("list"), head, body);
  by("list").removeAttribute("aria-busy");
  const total = whole(site.n), { length } = list.order;
  by("count").textContent = length === site.n ? `${total} features` : `${whole(length)} of ${total} features`;
  pager(length);
}

/* The features by their decoder directions; those that are not listed are faded. */
async function drawMap() {
  by("map-view").hidden = !site.map;
  if (!site.map || !by("map-view").open) return;
  const { explainer } = list.state, points = await load(`points/${explainer}`), positions = await load("map");
  if (explainer !== list.state.explainer) return;
  const colour = by("map-colour").value || "dictionary", column = { density: 3, score: FIRST_SCORE - 1 }[colour];
  const ranked = points.map((point) => point[column]).filter(exists).sort((a, b) => a - b), listed = new Set(list.order);
  const shade = (value) => exists(value) ? `color-mix(in srgb, var(--high) ${Math.round(100 * ranked.indexOf(value) / ranked.length)}%, var(--low))` : "var(--rule)";
  const drawn = points.map((point, number) => ({ point, at: positions[number] })).filter(({ at }) => at).map(({ point, at: [x, y] }) => ({
    n: point[0], x, y, colour: column ? shade(point[column]) : site.dictionaries[point[1]].colour, faded: !listed.has(point[0]),
    text: [visible(`${site.dictionaries[point[1]].name}/${point[2]}`), `${visible(site.words[0] ?? "score")} ${round(point[FIRST_SCORE - 1])}`, `density ${short(point[3])}`],
  }));
  scatter(by("map"), drawn, "", `${site.map.method} of decoder directions, ${drawn.length} points`, false, (n) => { location.hash = `#${n}`; });
  by("map-note").textContent = `${site.map.method} of the decoder directions of ${whole(drawn.length)} features that write ${site.map.writes}.${column ? " Orange: high; blue: low, by rank." : ""}`;
}

const status = (number) => number === 0 ? null : span("badge", number === null ? "no result yet" : site.statuses[number]);

function pager(length) {
  const last = Math.max(0, Math.ceil(length / PAGE) - 1), page = list.state.page;
  const turn = (to) => () => { relist(to).catch(fail); scrollTo(0, 0); };
  by("pager").replaceChildren(...last ? [step("←", "Previous page", page < 1, turn(page - 1)), `${whole(page + 1)} of ${whole(last + 1)}`, step("→", "Next page", page >= last, turn(page + 1))] : []);
}

function listFilters() {
  const { state } = list;
  const set = (name) => (value) => { state[name] = value; relist().catch(fail); };
  let waiting = 0;
  const search = el("input", { type: "search", id: "search", placeholder: "in explanations and names", oninput: () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => set("search")(search.value.trim()), 150);
  } });
  fill(by("filters"), {}, [
    el("label", { class: "wide" }, el("span", {}, "search"), search),
    select("dictionary", [["", "all"], ...site.dictionaries.map((one, number) => [String(number), one.label])], state.dictionary, set("dictionary")),
    select("explainer", site.explainers.map((name, number) => [String(number), visible(name)]), "0", (value) => { state.explainer = +value; relist().catch(fail); }),
    select("status", [["", "all"], ...site.statuses.map((name, number) => [String(number), name])], state.status, set("status")),
  ]);
  by("filters").addEventListener("submit", (event) => event.preventDefault());
  by("map-colour").addEventListener("change", () => drawMap().catch(fail));
  by("map-view").addEventListener("toggle", () => drawMap().catch(fail));
}

/* Moves the focus through the listed features. */
function focusRow(step) {
  const links = [...by("list").querySelectorAll("tbody a")];
  const at = links.indexOf(document.activeElement);
  links[Math.max(0, Math.min(links.length - 1, at + step))]?.focus();
}

function route() {
  const n = /^#\d+$/.test(location.hash) ? +location.hash.slice(1) : -1, isFeature = n >= 0 && n < site.n;
  by("list-view").hidden = isFeature;
  by("feature-view").hidden = !isFeature;
  tip.hide();
  if (isFeature) return openFeature(n).catch(fail);
  const focus = feature.n;
  return Promise.resolve(by("list").tBodies.length ? null : relist(list.state.page)).then(() => {
    document.title = document.title.replace(/^.*? · /, "Features · ");
    by("list").querySelector(`a[href="#${focus}"]`)?.focus();
  }).catch(fail);
}

onKey((event) => {
  if (!site) return;
  if (event.key === "Escape" && event.target.id === "search") event.target.blur();
  if (isTyping(event)) return;
  const inList = !by("list-view").hidden, go = { j: 1, ArrowDown: inList ? 1 : 0, ArrowRight: inList ? 0 : 1, k: -1, ArrowUp: inList ? -1 : 0, ArrowLeft: inList ? 0 : -1 }[event.key];
  if (event.key === "/") { if (!inList) location.hash = ""; setTimeout(() => by("search").focus()); }
  else if (event.key === "Escape" && !inList) location.hash = "";
  else if (go) (inList ? focusRow : stepFeature)(go);
  else return;
  event.preventDefault();
});

load("index").then((index) => {
  site = index;
  list.order = [...Array(site.n).keys()];
  listFilters();
  addEventListener("hashchange", route);
  return route().then(ready);
}).catch(fail);
