/* Draws pictures as SVG: scales, axes, means with intervals, points, bars. */
"use strict";

/* Round numbers that cover a range, about `count` of them. */
function ticks(low, high, count = 5) {
  const raw = (high - low || 1) / count, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= raw - 1e-12);
  const list = [];
  for (let value = Math.ceil(low / step - 1e-9) * step; value <= high + step * 1e-6; value += step) list.push(+value.toFixed(10));
  return list;
}

function linear(low, high, from, to) {
  const scale = (value) => from + (value - low) / (high - low || 1) * (to - from);
  return Object.assign(scale, { ticks: () => ticks(low, high, Math.max(3, Math.abs(to - from) / 100)), text: short });
}

/* Pads a range by a twentieth; includes the values of `always`. */
function extent(values, always = []) {
  const every = [...values, ...always];
  if (!every.length) return [0, 1];
  const low = Math.min(...every), high = Math.max(...every), pad = (high - low || 1) / 20;
  return [low - pad, high + pad];
}

const line = (x1, y1, x2, y2, name) => svg("line", { x1, y1, x2, y2, class: name });
const label = (x, y, text, anchor = "start", name = "") => svg("text", { x, y, "text-anchor": anchor, class: name }, text);

function xAxis(scale, top, bottom, title, middle) {
  return [
    ...scale.ticks().flatMap((value) => [
      line(scale(value), top, scale(value), bottom, "grid"), label(scale(value), bottom + 16, scale.text(value), "middle"),
    ]),
    label(middle, bottom + 34, title, "middle", "title"),
  ];
}

function yAxis(scale, left, right) {
  return scale.ticks().flatMap((value) => [
    line(left, scale(value), right, scale(value), "grid"), label(left - 8, scale(value) + 4, scale.text(value), "end"),
  ]);
}

function canvas(container, height, text, ...children) {
  const width = container.clientWidth;
  container.replaceChildren(svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": text }, ...children));
  return container.firstChild;
}

const MARKS = { mismatched: "M-4,-4L4,4M-4,4L4,-4", permuted: "M0,-5V5M-5,0H5", exchanged: "M0,-5L5,4H-5Z" };
const mark = (kind, x, y) => svg("path", { d: MARKS[kind], transform: `translate(${x},${y})`, class: "null" });

/* Cuts a name to the pixels there are; all of it is in the tip and the table. */
const clipped = (text, pixels) => text.length * 7.4 <= pixels ? text : `${text.slice(0, Math.max(3, Math.floor(pixels / 7.4) - 1))}…`;

/* Rows: {name, colour, count, mean, low, high, chance, nulls: {kind: value}, points: [[score, number]]}. */
function scoresChart(container, rows, mode, title, open) {
  const narrow = container.clientWidth < 560, step = mode === "means" ? 44 : 62, gutter = narrow ? 116 : 270;
  const right = container.clientWidth - 14, bottom = 12 + rows.length * step;
  const ends = rows.flatMap((row) => [row.mean, row.low, row.high, ...Object.values(row.nulls)]).filter(exists);
  const points = mode === "means" ? [] : rows.flatMap((row) => row.points.map(([score]) => score));
  const x = linear(...extent([...ends, ...points], rows.map((row) => row.chance ?? 0)), gutter, right);
  const parts = rows.map((row, number) => scoreRow(row, x, 12 + (number + 0.5) * step, step, mode, gutter));
  const drawn = canvas(container, bottom + 44, `${title} by dictionary; the table below holds the same numbers`,
    xAxis(x, 8, bottom, title, (gutter + right) / 2), parts);
  drawn.addEventListener("click", (event) => { if (event.target.dataset.n) open(event.target.dataset.n); });
}

function scoreRow(row, x, y, step, mode, gutter) {
  const title = svg("title", {}, `${row.name}: ${round(row.mean)} [${round(row.low)}, ${round(row.high)}], n = ${row.count}`);
  const group = svg("g", {}, title, label(gutter - 14, y - 1, clipped(row.name, gutter - 20), "end", "name"), label(gutter - 14, y + 14, `n = ${whole(row.count)}`, "end"));
  if (mode === "points") group.append(...row.points.map(([score, n], number) => svg("circle", {
    cx: x(score), cy: y + ((number * 0.618034) % 1 - 0.5) * step * 0.62, r: 2.6, fill: row.colour, class: "point", "data-n": n,
  })));
  if (exists(row.chance)) group.append(line(x(row.chance), y - step / 2, x(row.chance), y + step / 2, "chance"));
  for (const [kind, value] of Object.entries(row.nulls)) if (exists(value)) group.append(mark(kind, x(value), y));
  if (row.mean === null) group.append(label(gutter + 6, y + 4, "no score"));
  else {
    if (row.low !== null) group.append(line(x(row.low), y, x(row.high), y, "interval"));
    group.append(svg("circle", { cx: x(row.mean), cy: y, r: 5.5, fill: row.colour, class: "mean" }));
  }
  return group;
}

/* Points {x, y, colour, n?, faded?, text}; a click, or Enter after the arrow keys, opens the point's feature. Without
   titles there are no axes. */
function scatter(container, points, xTitle, yTitle, isLog, open) {
  const left = xTitle ? 52 : 8, top = xTitle ? 26 : 8, right = container.clientWidth - 14, bottom = 330;
  const shown = points.filter((point) => !isLog || point.x > 0), at = (point) => isLog ? Math.log10(point.x) : point.x;
  const x = linear(...extent(shown.map(at)), left, right), y = linear(...extent(shown.map((point) => point.y)), bottom, top);
  if (isLog) x.text = (power) => short(+(10 ** power).toPrecision(2));
  const dots = [...shown].sort((a, b) => (b.faded ?? 0) - (a.faded ?? 0) || a.x - b.x).map((point) => Object.assign(svg("circle", {
    cx: x(at(point)), cy: y(point.y), r: exists(point.n) ? 3.4 : 6, fill: point.colour, class: point.faded ? "point faded" : "point",
  }), { point }));
  const drawn = canvas(container, bottom + (xTitle ? 44 : 8), xTitle ? `${yTitle} against ${xTitle}, ${shown.length} points` : yTitle,
    xTitle ? [xAxis(x, top, bottom, xTitle, (left + right) / 2), yAxis(y, left, right), label(left - 40, 14, yTitle, "start", "title")] : [], dots);
  const go = (node) => { if (exists(node.point?.n)) open(node.point.n); };
  tip.over(drawn, (node) => node.point?.text);
  drawn.addEventListener("click", (event) => go(event.target));
  roving(drawn, dots.filter(({ point }) => !point.faded), (node) => tip.show(node, ...node.point.text), go);
}

/* Bars of counts on a square-root scale, which shows rare bins beside full ones; `text` describes a bar. */
function bars(container, counts, text, low, high, name) {
  const width = container.clientWidth, bottom = 84, size = width / counts.length, most = Math.max(...counts, 1);
  const drawn = canvas(container, bottom + 18, name, counts.map((count, number) => svg("rect", {
    x: number * size + 0.5, width: Math.max(1, size - 1), y: bottom - Math.sqrt(count / most) * (bottom - 4),
    height: Math.sqrt(count / most) * (bottom - 4), class: "fillbar",
  })), line(0, bottom, width, bottom, "axis"), label(0, bottom + 14, low), label(width, bottom + 14, high, "end"));
  const all = [...drawn.querySelectorAll("rect")];
  tip.over(drawn, (node) => all.includes(node) && [text(all.indexOf(node))]);
}

/* Draws again when the width changes. */
function responsive(container, draw) {
  let width = 0;
  new ResizeObserver(() => { if (container.clientWidth !== width) { width = container.clientWidth; draw(); } }).observe(container);
}
