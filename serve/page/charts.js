// The dashboard's drawings: inline SVG, in pixels of the place that it fills.

import { draw, make, percent } from "./element.js";

const PAD = { left: 44, right: 12, top: 10, bottom: 26 };
const HALF_DOT = 5;

// Shares with their intervals on one scale from 0 to 100 %, as wide as its place.
export function whisker({ mean, low, high }, label) {
  const at = (share) => `${100 * share}%`;
  const line = (name, from, to) => draw("line", { class: name, x1: at(from), x2: at(to), y1: "50%", y2: "50%" });
  return draw("svg", { role: "img", "aria-label": label },
    line("grid", 0, 1),
    draw("line", { class: "even", x1: at(0.5), x2: at(0.5), y1: 0, y2: "100%" }),
    line("interval", low, high),
    draw("circle", { class: "point", cx: at(mean), cy: "50%", r: HALF_DOT }));
}

// A thin bar: a part of a whole.
export function part(share, label) {
  const rest = draw("line", { class: "grid", x1: 0, x2: "100%", y1: "50%", y2: "50%" });
  const width = `${100 * Math.min(1, share)}%`;
  const filled = draw("rect", { class: "ups", x: 0, y: "35%", width, height: "30%", rx: 2 });
  return draw("svg", { role: "img", "aria-label": label }, rest, filled);
}

// Columns of ups with downs on top, one for each hour or day.
export function columns({ unit, points }, width, label) {
  const height = 200;
  const most = roundUp(Math.max(...points.map((point) => point.ups + point.downs)));
  const y = scale(0, most, height - PAD.bottom, PAD.top);
  const first = Date.parse(points[0].time);
  const each = (unit === "hour" ? 1 : 24) * 3_600_000;
  const steps = Math.round((Date.parse(points.at(-1).time) - first) / each) + 1;
  const room = (width - PAD.left - PAD.right) / Math.max(steps, 12);
  const bar = (name, x, from, to) =>
    draw("rect", { class: name, x, y: y(to), width: Math.max(1, 0.72 * room), height: y(from) - y(to) });
  const bars = points.flatMap(({ time, ups, downs }) => {
    const x = PAD.left + Math.round((Date.parse(time) - first) / each) * room;
    return [bar("ups", x, 0, ups), ...(downs ? [bar("downs", x, ups, ups + downs)] : [])];
  });
  const words = [text(PAD.left, height - 6, when(points[0].time, unit), "start")];
  if (steps > 6) words.push(text(PAD.left + steps * room, height - 6, when(points.at(-1).time, unit), "end"));
  return canvas(width, height, label, ...rules(y, [0, most / 2, most], width, String), ...bars, ...words);
}

// What the reward model expects against what people say; on the dashed line both are the same.
export function reliability(bins, width, label) {
  const size = Math.min(width, 384);
  const x = scale(0, 1, PAD.left, size - PAD.right);
  const y = scale(0, 1, size - PAD.bottom - 16, PAD.top);
  const most = Math.max(...bins.map((bin) => bin.votes));
  const dots = bins.flatMap(({ probability, votes, share, share_low: low, share_high: high }) => [
    draw("line", { class: "interval", x1: x(probability), x2: x(probability), y1: y(low), y2: y(high) }),
    draw("circle", { class: "point", cx: x(probability), cy: y(share), r: 3 + 5 * Math.sqrt(votes / most) }),
  ]);
  const even = draw("line", { class: "even", x1: x(0), y1: y(0), x2: x(1), y2: y(1) });
  const ticks = [[0, "start"], [0.5, "middle"], [1, "end"]];
  const words = ticks.map(([tick, anchor]) => text(x(tick), size - 22, percent(tick), anchor));
  const title = text(x(0.5), size - 4, "chance of Good, by the reward model", "middle");
  return canvas(size, size, label, ...rules(y, [0, 0.5, 1], size, percent), even, ...dots, ...words, title);
}

export function legend(...entries) {
  const round = (name) => (name === "point" ? 5 : 0);
  const swatch = (name) => draw("rect", { class: name, x: 0.5, y: 0.5, width: 9, height: 9, rx: round(name) });
  const drawn = (name) => draw("svg", { viewBox: "0 0 10 10", "aria-hidden": "true" }, swatch(name));
  return make("p", { class: "key" }, ...entries.map(([name, words]) => make("span", {}, drawn(name), words)));
}

function canvas(width, height, label, ...children) {
  const viewBox = `0 0 ${width} ${height}`;
  return draw("svg", { role: "img", "aria-label": label, width, height, viewBox }, ...children);
}

function rules(y, ticks, width, words) {
  return ticks.flatMap((tick) => [
    draw("line", { class: tick ? "grid" : "axis", x1: PAD.left, x2: width - PAD.right, y1: y(tick), y2: y(tick) }),
    text(PAD.left - 8, y(tick) + 4, words(tick), "end"),
  ]);
}

function text(x, y, words, anchor) {
  return draw("text", { x, y, "text-anchor": anchor }, words);
}

function scale(from, to, begin, end) {
  return (value) => begin + ((value - from) / (to - from)) * (end - begin);
}

// The next number whose half is a tick that reads well.
function roundUp(most) {
  const unit = 4 * 10 ** Math.max(0, Math.floor(Math.log10(most)) - 1);
  return unit * Math.ceil(most / unit);
}

function when(time, unit) {
  const clock = unit === "hour" ? { hour: "2-digit", minute: "2-digit" } : {};
  return new Date(time).toLocaleString(undefined, { day: "numeric", month: "short", ...clock });
}
