// What is shown beneath each sentence of the dashboard: drawings and tables of GET /dashboard/data.

import { columns, legend, part, reliability, whisker } from "./charts.js";
import { percent } from "./element.js";
import { interval } from "./findings.js";
import { asTable, table } from "./tables.js";

export function comparison({ wins, losses, win_rate: mean, low, high }) {
  return mean === null ? [] : [shares("Decided pairs", [[["tuned wins"], wins + losses, { mean, low, high }]])];
}

export function models(found) {
  const rows = found.map(({ model, version, votes, share: mean, low, high }) =>
    [[model, version], votes, { mean, low, high }]);
  return rows.length ? [shares("Votes", rows)] : [];
}

export function reward({ bins }, width) {
  const filled = bins.filter((bin) => bin.votes);
  if (!filled.length) return [];
  const rows = filled.map(({ probability, votes, share, share_low: low, share_high: high }) =>
    [percent(probability), votes, `${percent(share)}, ${interval({ low, high })}`]);
  return [
    reliability(filled, width, "Share of Good against the chance that the reward model saw"),
    legend(["point", "share of Good, larger with more votes, and its 95\u00a0% interval"]),
    asTable(["It expects", "Votes", "People say Good"], rows),
  ];
}

export function votes({ points, unit }, width) {
  if (!points.length) return [];
  const rows = points.map(({ time, ups, downs }) => [new Date(time).toLocaleString(), ups, downs]);
  return [
    columns({ points, unit }, width, `Votes of each ${unit}`),
    legend(["ups", "Good"], ["downs", "Bad"]),
    asTable(["From", "Good", "Bad"], rows),
  ];
}

export function latency(doors) {
  const slowest = Math.max(...doors.map((door) => door.p99_ms));
  const rows = doors.map(({ door, requests, p50_ms: half, p99_ms: most }) =>
    [[door], requests.toLocaleString(), duration(half), duration(most), part(most / slowest, `p99 ${duration(most)}`)]);
  return rows.length ? [table(["Door", "Requests", "p50", "p99", ""], rows)] : [];
}

export function load({ models: found }) {
  const rows = found.map(({ model, slots, taken, waiting }) =>
    [[model], `${taken} of ${slots}`, waiting, part(taken / slots, `${taken} of ${slots} slots taken`)]);
  return rows.length ? [table(["Model", "Slots taken", "Waiting", ""], rows)] : [];
}

function shares(counted, rows) {
  const cells = rows.map(([names, count, found]) =>
    [names, count, percent(found.mean), whisker(found, `${percent(found.mean)}, ${interval(found)}`)]);
  return table(["", counted, "Share", "0 to 100\u00a0%, dashed: 50\u00a0%"], cells);
}

function duration(ms) {
  if (ms >= 1000) return `${(ms / 1000).toFixed(1)}\u00a0s`;
  return `${ms < 10 ? ms.toFixed(1) : Math.round(ms)}\u00a0ms`;
}
