/* Shared by every page: chunks of data, elements, numbers, theme, the tip. Everything from a corpus or a language model
   becomes a text node, never HTML. */
"use strict";
/* Filled by data/*.js. */
const data = {};

/* Data may arrive before the page's other scripts: it waits for them. */
const load = (() => {
  const pending = new Map(), ready = new Promise((resolve) => addEventListener("DOMContentLoaded", resolve));
  return (name) => {
    if (!pending.has(name)) pending.set(name, new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = `data/${name}.js`;
      script.onload = () => ready.then(() => resolve(data[name]));
      script.onerror = () => reject(new Error(`data/${name}.js cannot be read; autointerp browse writes it again`));
      document.head.append(script);
    }));
    return pending.get(name);
  };
})();

/* Makes an element: attributes, on... handlers, then children; strings become text. */
function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (exists(value) && value !== false) node.setAttribute(name, value);
  }
  node.append(...children.flat(3).filter(exists));
  return node;
}

const by = (id) => document.getElementById(id);
const span = (name, ...children) => el("span", { class: name }, ...children);
const para = (name, ...children) => el("p", { class: name }, ...children);
const cell = (text, name = "n") => el("td", { class: name }, text);
const table = (node, head, rows) => {
  node.replaceChildren();
  paint(fill(node, {}, [el("thead", {}, el("tr", {}, head)), el("tbody", {}, rows)]));
  return node;
};

const NONE = "–";
const exists = (value) => value !== null && value !== undefined;
const minus = (text) => text.replace("-", "−").replace("e+", "e");
const round = (value, digits = 2) => exists(value) ? minus((+value.toFixed(digits) || 0).toFixed(digits)) : NONE;
const short = (value) => !exists(value) ? NONE :
  value && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e5) ? value.toExponential(1).replace("e-", "e−") : minus(String(+value.toPrecision(3)));
const whole = (value) => exists(value) ? value.toLocaleString("en") : NONE;
const share = (value) => `${short(100 * value)}%`;

/* Writes what cannot be seen as an escape: control characters, marks of direction and joining, lone surrogates,
   characters that no font has. */
const HIDDEN = /[\p{Cc}\p{Cf}\p{Co}\p{Cn}\p{Cs}\p{Zl}\p{Zp}]/gu;
const NAMED = { "\n": "⏎", "\t": "⇥", "\r": "␍" };
const visible = (text) => String(text).replace(HIDDEN, (c) => NAMED[c] || `\\u{${c.codePointAt(0).toString(16)}}`);
/* A token of spaces only shows each as a dot. */
const visibleToken = (text) => text === "" ? "∅" : visible(text.trim() === "" ? text.replace(/[^\S\n\t\r\u2028\u2029]/g, "␣") : text);

/* The theme is the system's, or the one that was chosen, which is kept where the browser allows it for these files. */
const root = document.documentElement;
function theme(value) {
  root.dataset.theme = value;
  try { localStorage.theme = value; } catch { /* it is for this page only */ }
}
const toggleTheme = () => theme((root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark" ? "light" : "dark");
try { if (localStorage.theme) root.dataset.theme = localStorage.theme; } catch { /* the system's */ }

/* Shows a small box of lines beside an element. */
const tip = {
  show: (target, ...lines) => {
    const box = by("tip");
    box.replaceChildren(...lines.map((line) => el("div", {}, line)));
    box.hidden = false;
    const at = target.getBoundingClientRect(), own = box.getBoundingClientRect();
    box.style.left = `${Math.max(8, Math.min(at.left, innerWidth - own.width - 8))}px`;
    box.style.top = `${at.top > own.height + 12 ? at.top - own.height - 6 : at.bottom + 6}px`;
  },
  hide: () => { by("tip").hidden = true; },
  /* Shows what `lines` says of the items of a container that are pointed at. */
  over: (container, lines) => {
    /* A touch ends with a click. */
    for (const kind of ["pointerover", "click"]) container.addEventListener(kind, (event) => {
      const found = lines(event.target);
      if (found) tip.show(event.target, ...found); else tip.hide();
    });
    container.addEventListener("pointerleave", tip.hide);
  },
};

/* Makes one of several buttons the pressed one. */
function choice(container, options, value, onchange) {
  const press = (key) => { for (const button of buttons) button.setAttribute("aria-pressed", button.dataset.key === key); };
  const buttons = options.map((key) => el("button", { type: "button", "data-key": key, onclick: () => { press(key); onchange(key); } }, key));
  press(value);
  container.replaceChildren(...buttons);
}

const step = (text, name, disabled, onclick) => el("button", { type: "button", "aria-label": name, disabled, onclick }, text);

/* Makes a labelled select, or null where there is nothing to choose. */
function select(label, options, value, onchange) {
  if (options.length < 2) return null;
  const box = el("select", { "aria-label": label, onchange: () => onchange(box.value) },
    options.map(([key, text]) => el("option", { value: key, selected: String(key) === String(value) }, text)));
  return el("label", {}, el("span", {}, label), box);
}

const unique = (values) => [...new Set(values)];
const onKey = (handle) => document.addEventListener("keydown", (event) => { if (!event.ctrlKey && !event.metaKey && !event.altKey) handle(event); });
const isTyping = (event) => /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);

/* Lets the arrow keys go from item to item of a focused container; `go` is called with each, `open` on Enter. */
function roving(container, items, go, open) {
  let at = -1;
  container.tabIndex = 0;
  container.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step && items.length) {
      items[at]?.classList.remove("at");
      at = Math.max(0, Math.min(items.length - 1, at + step));
      items[at].classList.add("at");
      go(items[at]);
    } else if (event.key === "Enter" && at >= 0 && open) open(items[at]);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  container.addEventListener("blur", () => { items[at]?.classList.remove("at"); tip.hide(); });
}

/* A dictionary's name with its colour. */
const dot = (dictionary) => el("span", { class: "dot", "aria-hidden": "true", "data-colour": dictionary.colour });
const paint = (root) => { for (const node of root.querySelectorAll("[data-colour]")) node.style.background = node.dataset.colour; };

/* Orders by a value, what does not exist last. */
function compare(value, down) {
  return (a, b) => {
    const x = value(a), y = value(b);
    if (!exists(x) || !exists(y)) return exists(y) - exists(x);
    return (typeof x === "string" ? x.localeCompare(y) : x - y) * (down ? -1 : 1);
  };
}

/* A header that sorts: `state.sort` is the column's key; the first press puts the largest number, or the first word, on top. */
function sortHeader(key, text, isNumber, state, redraw) {
  const active = state.sort === key;
  const press = async () => {
    state.down = active ? !state.down : isNumber;
    state.sort = key;
    await redraw();
    document.querySelector(`[data-sort="${CSS.escape(key)}"]`)?.focus();
  };
  return el("th", { scope: "col", class: isNumber ? "n" : null, "aria-sort": active ? (state.down ? "descending" : "ascending") : null },
    el("button", { type: "button", "data-sort": key, onclick: press }, text, el("span", { class: "arrow", "aria-hidden": "true" }, active ? (state.down ? "↓" : "↑") : "")));
}

/* Shows what the data have filled. */
const ready = () => { delete root.dataset.busy; };

function fail(error) {
  ready();
  by("main").prepend(el("p", { class: "note", role: "alert" }, error.message));
}

document.addEventListener("DOMContentLoaded", () => by("theme").addEventListener("click", toggleTheme));
document.addEventListener("pointerdown", tip.hide);
onKey((event) => {
  if (event.key === "Escape") tip.hide();
  if (event.key === "t" && !isTyping(event)) toggleTheme();
});
