// What all pages share. Everything in these scripts is optional: without them, the pages still show all numbers and
// charts. Text from data is only inserted as text, never as HTML.
"use strict";

// Fills an element with its properties or attributes, in plain objects, and with what is in it; `false` and null are nothing.
function filled(element, content) {
  for (const one of content.flat(Infinity)) {
    if (one === null || one === undefined || one === false) continue;
    if (one instanceof Node || typeof one !== "object") { element.append(one); continue; }
    for (const [name, value] of Object.entries(one)) if (name in element && element instanceof HTMLElement) element[name] = value; else element.setAttribute(name, value);
  }
  return element;
}
// `make("p.note", { title: "..." }, "text", element)`
const make = (kind, ...content) => {
  const [name, ...classes] = kind.split(".");
  const element = document.createElement(name);
  element.classList.add(...classes);
  return filled(element, content);
};
const draw = (name, ...content) => filled(document.createElementNS("http://www.w3.org/2000/svg", name), content);
// As Python rounds: a tie goes to the even digit, so that a number is the same on all pages. Only what ends in binary is a
// tie; 0.45, times ten, becomes one by rounding.
const percent = (value, digits = 1) => {
  const [scaled, power] = [100 * value, 10 ** digits];
  const below = Math.floor(scaled * power);
  const tie = Number.isInteger(scaled * 2 ** (digits + 1)) && scaled * power - below === 0.5;
  return tie && below % 2 === 0 ? (below / power).toFixed(digits) : scaled.toFixed(digits);
};

// State kept in the link: #q=...&sort=long-descending
const state = {
  read: () => new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : ""),
  write(name, value) { state.update({ [name]: value }); },
  update(values) {
    const all = state.read();
    for (const [name, value] of Object.entries(values)) if (value) all.set(name, value); else all.delete(name);
    const text = all.toString();
    try { history.replaceState(null, "", text ? "#" + text : location.pathname + location.search); } catch { /* too many at a time for some browsers */ }
  },
};

// Data files are scripts that call one of these, because a page opened from disk cannot use fetch.
const waiting = new Map();
const loaded = new Map();
const loadScript = (path, key) => {
  if (!loaded.has(key)) {
    loaded.set(key, new Promise((resolve, reject) => {
      waiting.set(key, resolve);
      const script = make("script");
      script.src = path;
      script.onerror = () => { loaded.delete(key); reject(new Error(path)); };
      script.onload = () => script.remove();
      document.head.append(script);
    }));
  }
  return loaded.get(key);
};
const received = (key, value) => { const resolve = waiting.get(key); waiting.delete(key); if (resolve) resolve(value); };
window.lmtts = {
  listed: null,
  models(listed) { window.lmtts.listed = listed; },
  scores(content) { received("scores " + content.key, content); },
  traces(content) { received("traces " + content.key, content); },
};
const root = () => document.querySelector("link[rel=stylesheet]").getAttribute("href").replace("assets/site.css", "");

function theme() {
  const button = document.getElementById("theme");
  const page = document.documentElement.dataset;
  const dark = () => (page.theme ? page.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches);
  const show = () => filled(button, [{ hidden: false, textContent: dark() ? "Light" : "Dark" }]);
  try { page.theme = localStorage.getItem("theme") || ""; } catch { /* not kept, then */ }
  button.addEventListener("click", () => {
    page.theme = dark() ? "light" : "dark";
    try { localStorage.setItem("theme", page.theme); } catch { /* not kept, then */ }
    show();
  });
  show();
}

// Chooses an option, where a select has it.
const choose = (select, value) => { if ([...select.options].some((option) => option.value === value)) select.value = value; };

// A button that copies a text; where that is not allowed, it shows `otherwise`.
function copies(button, text, otherwise) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    try { await navigator.clipboard.writeText(text()); button.textContent = "Copied"; } catch { button.textContent = otherwise(); }
  });
}

document.addEventListener("DOMContentLoaded", () => {
  theme();
  document.addEventListener("submit", (event) => event.preventDefault());
  document.querySelectorAll("form.goto select").forEach((select) => select.addEventListener("change", () => { location.href = select.value; }));
  window.addEventListener("hashchange", () => { if (location.hash.includes("=")) location.reload(); }); // a link pasted into the open page
  document.querySelectorAll(".js").forEach((element) => { element.hidden = false; });
});
