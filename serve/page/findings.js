// What the figures say, in sentences, and where there is too little to say it.

import { percent } from "./element.js";

const FEWEST_VOTES = 20;
const FEWEST_PAIRS = 10;

export function overall({ models }) {
  const [votes, ups] = ["votes", "ups"].map((name) => models.reduce((sum, each) => sum + each[name], 0));
  if (!votes) return "Nobody has voted yet. Ask something, vote on it, and come back.";
  return `${count(votes, "vote")}, ${ups.toLocaleString()} of them Good.`;
}

export function ofComparison(found) {
  const { pairs, wins, losses, ties, win_rate: rate } = found;
  if (!pairs) return "Too little data: nobody has voted on both of two answers side by side yet.";
  const told = `${count(pairs, "pair")}: tuned won ${wins}, lost ${losses}, and ${ties} were voted alike.`;
  if (rate === null) return `${told} Too little data: none is decided.`;
  if (wins + losses < FEWEST_PAIRS) return `${told} Too little data: it takes ${FEWEST_PAIRS} decided pairs.`;
  const range = `${percent(rate)} of the decided (${interval(found)})`;
  if (found.low > 0.5) return `${told} The tuned model wins ${range}: it is better.`;
  if (found.high < 0.5) return `${told} The tuned model wins ${range}: it is worse.`;
  return `${told} The tuned model wins ${range}: which is better is not clear.`;
}

export function ofModels(models) {
  if (!models.length) return "Too little data: no model has a vote yet.";
  const few = models.filter((each) => each.votes < FEWEST_VOTES);
  const what = "Share of votes that are Good, with 95\u00a0% intervals.";
  if (!few.length) return what;
  return `${what} Too little data for ${few.map(named).join(", ")}: it takes ${FEWEST_VOTES} votes.`;
}

export function ofReward(reward) {
  if (!reward.version) return "No reward model is served.";
  if (!reward.votes) return "Too little data: no vote on an answer that it judged yet.";
  if (reward.auc === null) return `Too little data: ${count(reward.votes, "vote")}, all alike.`;
  const bins = reward.bins.filter((bin) => bin.votes);
  const fitting = bins.filter((bin) => bin.share_low <= bin.probability && bin.probability <= bin.share_high).length;
  const ranks = `On ${count(reward.votes, "vote")} it puts Good above Bad in ${percent(reward.auc)} of all cases`;
  const fits = `In ${fitting} of ${count(bins.length, "range")} what it expects agrees with what people say`;
  const few = reward.votes < FEWEST_VOTES ? ` Too little data: it takes ${FEWEST_VOTES} votes.` : "";
  return `${ranks}; 50\u00a0% is chance. ${fits}.${few}`;
}

export function ofVotes({ unit, points }) {
  return points.length ? `Votes of each ${unit}, Good below and Bad above.` : "Too little data: no vote yet.";
}

export function ofLatency(doors) {
  if (!doors.length) return "Too little data: no request yet.";
  return "From request to answer: half of them are faster than p50, 99 of 100 faster than p99.";
}

export function ofLoad({ requests, refused, models }) {
  const waiting = models.reduce((sum, each) => sum + each.waiting, 0);
  const turned = refused ? `, ${refused.toLocaleString()} of them turned away` : "";
  const queue = waiting ? `Waiting for a slot: ${count(waiting, "answer")}.` : "Nobody waits.";
  return `${count(requests, "request")} since this server began${turned}. ${queue}`;
}

export function interval({ low, high }) {
  return `95\u00a0% interval ${Math.round(100 * low)} to ${percent(high)}`;
}

function named({ model, version }) {
  return `${model} ${version}`;
}

function count(number, noun) {
  return `${number.toLocaleString()} ${noun}${number === 1 ? "" : "s"}`;
}
