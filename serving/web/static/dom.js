// The page's small tools: building elements (never from markup), showing a screen, telling a screen reader.

import { T } from "./texts.js";

export const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";

// An element. props: attributes; `on…` are listeners, `text` its text, `class` its classes. Children that are null are left out.
export function el(tag, props = {}, ...children) {
  return filled(document.createElement(tag), props, children);
}

export function svg(tag, props = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), props, children);
}

function filled(node, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "text") node.textContent = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

// Puts a screen into the page. Its first heading gets the focus, so that a screen reader begins there and keys work;
// `focus: false` where somebody was led to a field by a label or has just come to the site.
export function show(nodes, { title, focus = true, wide = false } = {}) {
  const main = $("main");
  main.className = wide ? "wide" : "";
  main.replaceChildren(...[nodes].flat().filter(Boolean));
  if (title) document.title = `${title} · Lakeboard`;
  const heading = main.querySelector("h1");
  if (!heading || !focus) return;
  heading.tabIndex = -1;
  heading.focus({ preventScroll: true });
  window.scrollTo(0, 0);
}

// Tells what no focus tells. The same text twice in a row is told twice.
export function announce(text) {
  const region = $("announce");
  region.textContent = "";
  setTimeout(() => { region.textContent = text; }, 50);
}

export function button(text, onclick, kind = "") {
  return el("button", { type: "button", class: kind, text, onclick });
}

// A labelled field; `hint` is read with it.
export function field(label, control, hint) {
  const note = hint && el("span", { class: "hint", text: hint, id: `${control.id}-hint` });
  if (note) control.setAttribute("aria-describedby", note.id);
  return el("div", { class: "field" }, el("label", { for: control.id, text: label }), control, note);
}

// A form that calls `send`; what `send` throws is told under it.
export function form(id, children, send) {
  const told = el("p", { class: "error", role: "alert", id: `${id}-error` });
  const node = el("form", { id, novalidate: true, onsubmit: async (event) => {
    event.preventDefault();
    told.replaceChildren();
    const sender = node.querySelector("button[type=submit]");
    sender.disabled = true;
    try {
      await send();
    } catch (error) {
      told.replaceChildren(...problem(error));
    } finally {
      sender.disabled = false;
    }
  } }, children, told);
  return node;
}

// A problem document in its own words: what is wrong, the detail, and what to do about it.
export function problem(error) {
  return [el("strong", { text: error.message }), error.detail && el("span", { text: ` ${error.detail}` }),
    error.nextStep && el("span", { class: "next-step", text: ` ${error.nextStep}` })].filter(Boolean);
}

// A part of the page could not be loaded.
export function offline() {
  show([el("section", { class: "card narrow" }, el("h1", { text: T.problems.offline }),
    el("p", { text: T.problems.offlineDetail }), el("a", { class: "button primary", href: "/", text: T.notFound.back }))],
  { title: T.problems.offline });
}
