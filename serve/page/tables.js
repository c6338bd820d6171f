// Tables whose cells are texts or drawings.

import { make } from "./element.js";

// `head` has a word for each column, or "". The first cell of a row is a name and perhaps what explains it.
export function table(head, rows) {
  const top = head.map((word) => (word ? make("th", { scope: "col" }, word) : make("td")));
  const lines = rows.map(([names, ...cells]) => make("tr", {}, rowHead(...names), ...cells.map(cell)));
  return make("table", {}, make("thead", {}, make("tr", {}, ...top)), make("tbody", {}, ...lines));
}

// The figures behind a drawing, for who would rather read them.
export function asTable(head, rows) {
  const named = rows.map(([name, ...cells]) => [[name], ...cells]);
  return make("details", {}, make("summary", {}, "As a table"), table(head, named));
}

function rowHead(name, more) {
  return make("th", { scope: "row" }, name, ...(more ? [make("span", { class: "hint" }, more)] : []));
}

function cell(value) {
  return value instanceof Element ? make("td", { class: "drawn" }, value) : make("td", {}, String(value));
}
