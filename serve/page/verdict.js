// What may be told after a vote: who said it, and what the reward model thought of it.

import { draw, make, percent } from "./element.js";

export function verdict({ model, version, label, probability }) {
  const named = make("p", {}, make("strong", {}, model), make("span", { class: "hint" }, `version ${version}`));
  if (probability === null) return [named];
  const chance = `The reward model saw a ${percent(probability)} chance of Good.`;
  const opinion = probability >= 0.5 === label > 0 ? "It agrees with you." : "It disagrees with you.";
  return [named, bar(probability), make("p", { class: "hint" }, make("span", {}, chance), make("span", {}, opinion))];
}

function bar(share) {
  return draw("svg", { class: "bar", viewBox: "0 0 100 1", preserveAspectRatio: "none", "aria-hidden": "true" },
    draw("rect", { width: 100, height: 1 }),
    draw("rect", { class: "likely", width: 100 * share, height: 1 }));
}
