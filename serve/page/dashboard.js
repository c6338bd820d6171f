// The page at /dashboard: what the server counted, read anew every few seconds.

import * as figures from "./figures.js";
import * as findings from "./findings.js";
import { get } from "./server.js";

const EVERY_MS = 10_000;
const LOCKED = [401, 403];
const at = (id) => document.getElementById(id);
let data = null;
let key = "";
let timer = 0;
let isPaused = false;

async function refresh() {
  clearTimeout(timer);
  try {
    data = await get("/dashboard/data", key);
    at("trouble").hidden = true;
    at("door").hidden = true;
    at("updated").textContent = `As of ${new Date().toLocaleTimeString()}, anew every ${EVERY_MS / 1000} seconds.`;
    show();
  } catch (refusal) {
    at("trouble").textContent = refusal.message;
    at("trouble").hidden = false;
    at("door").hidden = !LOCKED.includes(refusal.status);
  }
  if (!isPaused && at("door").hidden) timer = setTimeout(refresh, EVERY_MS);
}

function show() {
  at("lead").textContent = findings.overall(data);
  at("figures").hidden = false;
  fill("comparison", findings.ofComparison, figures.comparison, data.comparison);
  fill("models", findings.ofModels, figures.models, data.models);
  fill("reward", findings.ofReward, figures.reward, data.reward);
  fill("votes", findings.ofVotes, figures.votes, data.votes_over_time);
  fill("latency", findings.ofLatency, figures.latency, data.latency);
  fill("load", findings.ofLoad, figures.load, data.load);
}

// A table that was opened stays open, and who stands on it with the keyboard keeps their place.
function fill(name, finding, figure, found) {
  const place = at(name);
  const before = place.querySelector("details");
  const isFocused = before?.contains(document.activeElement);
  at(`${name}-finding`).textContent = finding(found);
  place.replaceChildren(...figure(found, place.clientWidth));
  const after = place.querySelector("details");
  if (after && before?.open) after.open = true;
  if (after && isFocused) after.querySelector("summary").focus();
}

at("pause").addEventListener("click", () => {
  isPaused = !isPaused;
  at("pause").setAttribute("aria-pressed", isPaused);
  at("updated").textContent = "Paused.";
  clearTimeout(timer);
  if (!isPaused) refresh();
});
at("door").addEventListener("submit", (event) => {
  event.preventDefault();
  key = at("key").value;
  at("key").value = "";
  refresh();
});
addEventListener("resize", () => data && show());
refresh();
