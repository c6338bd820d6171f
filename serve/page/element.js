// Elements from a name, attributes and children. A string becomes text, never markup.

const SVG = "http://www.w3.org/2000/svg";

export function make(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

export function draw(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

export function thumb(label) {
  const way = label > 0 ? "up" : "down";
  return draw("svg", { class: `thumb ${way}`, "aria-hidden": "true" }, draw("use", { href: `#thumb-${way}` }));
}

// The server's time as a person here reads it.
export function moment(time) {
  const said = new Date(time).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
  return make("time", { datetime: time, class: "hint number" }, said);
}

export function percent(share) {
  return `${Math.round(100 * share)}\u00a0%`;
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}
